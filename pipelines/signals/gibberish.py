"""An answer that is no prose of the asked language: loops, shuffled words, broken encoding, another language.

Four tests, of which the strongest counts. None of them needs a model:

- *loop*: how few of the sequences of three words are different ones, and how small the text gets when compressed;
- *order*: articles followed by words that cannot follow an article, and sentences that go on in lower case after a full
  stop: both are rare in prose and frequent in shuffled words;
- *encoding*: replacement characters, control characters, and the pairs that UTF-8 read as Latin-1 leaves;
- *language*: the answer is clearly in one language, what it was given clearly in another, which was not asked for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Text
from pipelines.signals.languages import language

_CHARS = 2_000
"""Of each text."""
_WORDS, _ASKED_WORDS = 300, 80
_MARKS = ".,;:!?()[]{}\"'*_`#<>“”‘’«»…-"
_BROKEN = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[ÃÂ][\u0080-\u00bf]|â€")
_ASKED = re.compile(
    r"translat|übersetz|tradu[cz]|\bin (?:english|german|french|spanish|italian|portuguese|dutch|russian|chinese|"
    r"japanese|korean|arabic|hindi|hebrew|greek|thai)\b|language|sprache|langue|idioma",
    re.IGNORECASE,
)
_ARTICLES = frozenset(("the", "a", "an", "un", "une", "eine", "einen", "einem", "einer", "unos", "unas"))
_AFTER = (
    "the a an of to and in is for with that at by from are was were be or as it this can you your they have has will "
    "de que y et à pour und der die das in zu den mit ist nicht von es par con por"
)
_VERBS = frozenset(("of", "is", "are", "was", "were", "be", "has", "have", "can", "will", "to"))
_NEXT = dict.fromkeys(_ARTICLES, frozenset(_AFTER.split())) | dict.fromkeys(
    ("of", "for", "with", "from", "at", "by"), _VERBS
)
"""Word -> words that do not follow it in prose."""
_ENDS = (".", "!", "?")
_LEAST_PAIRS, _LEAST_ENDS, _LEAST_WORDS, _LEAST_CHARS, _LEAST_BROKEN = 4, 5, 24, 200, 3


class Gibberish:
    """The strongest of the four tests."""

    name: ClassVar[str] = "gibberish"
    side: ClassVar[Side] = "output"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "distinct trigrams and compression (Holtzman et al., arXiv 1904.09751); function words"
    threshold: ClassVar[float] = 0.5
    on: ClassVar[bool] = True

    def score(self, texts: Sequence[Text]) -> Scores:
        """Score each text by itself."""
        return np.array([_score(text) for text in texts], np.float64)


def _score(text: Text) -> float:
    head = text.text[:_CHARS]
    tokens = head.split()[:_WORDS]
    words = [token.strip(_MARKS).lower() for token in tokens]
    return max(
        _loop(head, words),
        _order(tokens, words),
        _encoding(head),
        _other_language(head, words, text.given),
    )


def _loop(text: str, words: Sequence[str]) -> float:
    score = 0.0
    if len(words) >= _LEAST_WORDS:
        different = len(set(zip(words, words[1:], words[2:], strict=False))) / (len(words) - 2)
        score = (1.0 - different) / 0.7
    if len(text) >= _LEAST_CHARS:
        raw = text.encode("utf-8", "replace")
        score = max(score, 1.0 - len(zlib.compress(raw, 1)) / len(raw) / 0.3)
    return min(max(score, 0.0), 1.0)


def _order(tokens: Sequence[str], words: Sequence[str]) -> float:
    pairs = [(word, after) for word, after in pairwise(words) if word in _NEXT]
    odd = [(word in _ARTICLES, after in _NEXT[word]) for word, after in pairs]
    score = _share([is_odd for _, is_odd in odd], 2) / 0.2
    score = max(score, _share([is_odd for is_article, is_odd in odd if is_article], 1) / 0.25)
    begins = [tokens[i + 1][0] for i, token in enumerate(tokens[:-1]) if token.endswith(_ENDS) and words[i].isalpha()]
    if len(begins) >= _LEAST_ENDS:
        score = max(score, sum(mark.islower() for mark in begins) / len(begins))
    return min(score, 1.0)


def _share(odd: Sequence[bool], least: int) -> float:
    """Share of pairs that are odd; 0 where there are few of them."""
    return sum(odd) / len(odd) if len(odd) >= _LEAST_PAIRS and sum(odd) >= least else 0.0


def _encoding(text: str) -> float:
    if text.isascii() and " ".join(text.split()).isprintable():
        return 0.0
    broken = len(_BROKEN.findall(text))
    return min(broken / len(text) / 0.02, 1.0) if broken >= _LEAST_BROKEN else 0.0


def _other_language(text: str, words: Sequence[str], given: str) -> float:
    given = given[:_CHARS]
    asked = [word.strip(_MARKS).lower() for word in given.split()[:_ASKED_WORDS]]
    expected = language(given, asked)
    if not expected or _ASKED.search(given):
        return 0.0
    found = language(text, words[:_ASKED_WORDS])
    return 1.0 if found and found != expected else 0.0
