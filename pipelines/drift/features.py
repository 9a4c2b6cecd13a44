"""Features of a text that need no model: what else changed, in words for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipelines.drift.betting import Doubles

FEATURES = {
    "length": "length (log2 of characters)",
    "questions": "question marks per sentence",
    "digits": "share of digits",
    "capitals": "share of capitals",
    "lines": "line breaks (log2)",
    "code": "marks of code per 100 characters",
    "foreign": "share of characters outside ASCII",
}
"""Name on the wire -> what it is."""
_SENTENCE = re.compile(r"[.!?]+")
_CODE = re.compile(r"[{}<>;=`\\|]|\b(?:def|import|return|function|class|SELECT)\b")


def measure(text: str) -> tuple[float, ...]:
    """Return the features of ``text`` in the order of ``FEATURES``; only its first 4,000 characters are looked at."""
    head = text[:4000]
    size = max(len(head), 1)
    return (
        float(np.log2(len(text) + 1)),
        head.count("?") / max(len(_SENTENCE.findall(head)), 1),
        sum(c.isdigit() for c in head) / size,
        sum(c.isupper() for c in head) / size,
        float(np.log2(head.count("\n") + 1)),
        100 * len(_CODE.findall(head)) / size,
        sum(ord(c) > 127 for c in head) / size,
    )


def moved(
    before: Sequence[str], after: Sequence[str], *, at_least: float = 0.8
) -> list[tuple[str, float, float, float]]:
    """Return the features whose mean moved by ``at_least`` standard deviations: (name, effect, before, after).

    The effect is Cohen's d with the pooled deviation, greatest first.
    """
    if not before or not after:
        return []
    old: Doubles = np.array([measure(t) for t in before])
    new: Doubles = np.array([measure(t) for t in after])
    spread = np.sqrt((old.var(axis=0) + new.var(axis=0)) / 2) + 1e-3
    effect = (new.mean(axis=0) - old.mean(axis=0)) / spread
    found = [
        (name, float(effect[i]), float(old[:, i].mean()), float(new[:, i].mean())) for i, name in enumerate(FEATURES)
    ]
    return sorted((f for f in found if abs(f[1]) >= at_least), key=lambda f: -abs(f[1]))
