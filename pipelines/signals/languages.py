"""Which language a text is in, cheaply: by its script, or by its most frequent words.

A fifth of what a trained model costs, and only sure of longer prose: a short or mixed text has no language here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMON = {
    "en": "the of and to is that it was for you with as are this be have not or by from they at but we your can which",
    "de": "der die und das ist nicht ein eine zu mit den von auf für sich dem auch es im sie wird als wie oder bei",
    "fr": "le la les et des est une pour que dans qui du en pas sur vous avec au sont cette ce par plus il nous ou",
    "es": "el la los que y en es una por con para las del se no su lo como más pero está al este son usted o",
    "pt": "o os que e do da em um para é uma com não na no dos por mais as se como ou seu sua ao são você",
    "it": "il di che è la per un una in con del non sono le dei si della da come gli più anche alla lo ma questo",
    "nl": "de het een van en is niet op dat te zijn voor met die ook aan er je als om bij wordt naar maar",
}
_LANGUAGES = tuple(_COMMON)
_WORDS: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _WORDS[_word] = (*_WORDS.get(_word, ()), _language)
_SCRIPTS = (
    ("cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("greek", re.compile(r"[\u0370-\u03ff]")),
    ("hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("arabic", re.compile(r"[\u0600-\u06ff]")),
    ("devanagari", re.compile(r"[\u0900-\u097f]")),
    ("thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("kana", re.compile(r"[\u3040-\u30ff]")),
    ("hangul", re.compile(r"[\uac00-\ud7af]")),
    ("han", re.compile(r"[\u4e00-\u9fff]")),
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_LEAST_LETTERS = 12
_LEAST_WORDS = 2
_CLEAR = 1.5
"""Times as many frequent words as the language with the second most."""


def language(text: str, words: Sequence[str]) -> str:
    """Return a name for the language of ``text``; empty where it is not clear.

    Args:
        text: a few thousand characters at most.
        words: its words, in lower case and without marks at their ends.
    """
    if not text.isascii() and (script := _script(text)):
        return script
    votes = dict.fromkeys(_LANGUAGES, 0)
    for word in words:
        for name in _WORDS.get(word, ()):
            votes[name] += 1
    second, most = sorted(votes.values())[-2:]
    if most < _LEAST_WORDS or most < _CLEAR * second:
        return ""
    return max(votes, key=lambda name: votes[name])


def _script(text: str) -> str:
    """Name of a script, other than the Latin one, that most letters of ``text`` are of."""
    latin = len(_LATIN.findall(text))
    counts = {name: len(letters.findall(text)) for name, letters in _SCRIPTS}
    if counts["kana"] * 10 >= counts["han"] and counts["kana"]:
        counts["kana"] += counts.pop("han")  # Japanese is written in both
    name = max(counts, key=lambda each: counts[each])
    return name if counts[name] >= max(_LEAST_LETTERS, latin) else ""
