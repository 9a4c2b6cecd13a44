"""The style of an answer as 22 numbers: length, marks, lists, layout, vocabulary. They need no model, 0.2 ms a text.

Each number is brought into [0, 1] by a fixed monotone function and stored as a byte, 0..127, in the place of a vector.
So ``llm.embeddings``, the lake and the state of drift carry the style of an answer as they carry a vector.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.drift.betting import Doubles
from pipelines.drift.vectors import Bytes, Floats

MODEL = "style-1"
"""In ``embedding_model`` of the rows that hold a style; grows with every change of what is measured."""
LEVELS = 127
_CHARS, _WORD_CHARS, _FIRST_WORDS = 4_000, 2_000, 100
"""Of each text: what is looked at, what words are taken from, and words among which the different ones are counted."""
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_BULLET = re.compile(r"^\s*[-*\u2022]\s", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_MARKUP = re.compile(r"\*\*[^*\n]+\*\*|^#+ ", re.MULTILINE)
_CODE = re.compile(r"[{}<>;=`\\|]|\b(?:def|import|return|function|class|SELECT)\b")
_SELF = frozenset(("i", "i'm", "i'd", "i'll", "i've", "my", "me"))
_READER = frozenset(("you", "your", "you're", "you'll"))
_ARTICLES = frozenset(("the", "a", "an"))


@dataclass(frozen=True)
class Feature:
    """One number of a style, and how it is brought into [0, 1]: x / (x + half), or linear between two limits."""

    words: str
    half: float = 0.0
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    """Whether the number is a logarithm to the base 2, of one more than the value."""

    def squash(self, value: float) -> float:
        """Return the position of ``value`` in [0, 1]."""
        if self.half:
            return value / (value + self.half)
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def restore(self, position: float) -> float:
        """Return the value at a position in [0, 1], which is rounded to a 127th; where it is a log, its power."""
        if self.is_log:
            return float(2 ** (position * self.high) - 1)
        if self.half:
            return self.half * position / max(1.0 - position, 1.0 / (2 * LEVELS))
        return self.low + position * (self.high - self.low)


FEATURES = {
    "length": Feature("characters", high=13.0, is_log=True),
    "sentence": Feature("characters a sentence", 80.0),
    "word": Feature("letters a word", low=3.0, high=7.0),
    "vocabulary": Feature("different words among the first 100"),
    "commas": Feature("commas per 100 characters", 1.0),
    "questions": Feature("question marks per 100 characters", 0.2),
    "exclamations": Feature("exclamation marks per 100 characters", 0.1),
    "colons": Feature("colons per 100 characters", 0.3),
    "parentheses": Feature("parentheses per 100 characters", 0.2),
    "quotes": Feature("quotation marks per 100 characters", 0.3),
    "bullets": Feature("bullet points", 3.0),
    "numbered": Feature("numbered points", 3.0),
    "markup": Feature("headings and bold words", 2.0),
    "lines": Feature("line breaks", 8.0),
    "paragraphs": Feature("blank lines", 4.0),
    "digits": Feature("share of digits", 0.02),
    "capitals": Feature("share of capitals", 0.03),
    "code": Feature("marks of code per 100 characters", 0.5),
    "foreign": Feature("share of characters outside ASCII", 0.01),
    "self": Feature("words for oneself per 100 words", 1.0),
    "reader": Feature("words for the reader per 100 words", 1.0),
    "articles": Feature("articles per 100 words", 8.0),
}
"""Name -> what it is, in the order of ``measure``."""
WIDTH = len(FEATURES)


def measure(text: str) -> tuple[float, ...]:
    """Return the values of FEATURES; only the first 4,000 characters of ``text`` are looked at, except for its length.

    >>> dict(zip(FEATURES, measure("Yes. I am, you see!"), strict=True))["sentence"]
    9.5
    """
    head = text[:_CHARS]
    size = max(len(head), 1)
    words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(head[:_WORD_CHARS])]
    count, first = max(len(words), 1), words[:_FIRST_WORDS]
    marks = (100 * head.count(mark) / size for mark in (",", "?", "!", ":", "(", '"'))
    return (
        float(np.log2(len(text) + 1)),
        size / max(len(_SENTENCE.findall(head)), 1),
        sum(map(len, words)) / count,
        len(set(first)) / max(len(first), 1),
        *marks,
        float(len(_BULLET.findall(head))),
        float(len(_NUMBERED.findall(head))),
        float(len(_MARKUP.findall(head))),
        float(head.count("\n")),
        float(head.count("\n\n")),
        sum(map(str.isdigit, head)) / size,
        sum(map(str.isupper, head)) / size,
        100 * len(_CODE.findall(head)) / size,
        0.0 if head.isascii() else sum(not mark.isascii() for mark in head) / size,
        *(100 * sum(word in kind for word in words) / count for kind in (_SELF, _READER, _ARTICLES)),
    )


def styles(texts: Sequence[str]) -> tuple[Bytes, Floats]:
    """Return (n, WIDTH) int8 in 0..127 and (n,) scales, in the form of quantised vectors."""
    rows = [
        [feature.squash(value) for feature, value in zip(FEATURES.values(), measure(text), strict=True)]
        for text in texts
    ]
    positions = np.array(rows, np.float64).reshape(-1, WIDTH)
    return np.rint(LEVELS * positions).astype(np.int8), np.full(len(texts), 1 / LEVELS, np.float32)


def positions(vectors: Bytes) -> Doubles:
    """(n, WIDTH) in [0, 1]: what ``styles`` has stored."""
    out: Doubles = vectors.astype(np.float64) / LEVELS
    return out
