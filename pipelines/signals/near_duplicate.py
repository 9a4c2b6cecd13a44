"""An answer that is nearly the same as one a short while before: a constant answer, a stuck cache, a gamed judge.

Answers are compared by the share of their 8-byte pieces that they have in common (Jaccard), estimated from a sketch of
32 numbers: each piece is hashed once, the hash names one of 32 bins and the least hash of each bin is kept. Apps whose
answers are labels or are meant to repeat have a high share of these all the time; the share is judged, not the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Sketches, Text

BINS = 32
_PIECE = 8
_CHARS = 2_000
"""Of each text."""
_EMPTY = np.uint32(0xFFFFFFFF)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class NearDuplicate:
    """Likeness of an answer to the most similar one before it."""

    name: ClassVar[str] = "near_duplicate"
    side: ClassVar[Side] = "output"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "one permutation hashing (Li, Owen, Zhang, arXiv 1208.1259) of 8-byte pieces"
    threshold: ClassVar[float] = 0.7
    on: ClassVar[bool] = False
    """Many apps repeat answers on a good day: how often it alerts without an incident is not measured."""
    memory: ClassVar[int] = 128

    def score(self, texts: Sequence[Text]) -> Scores:
        """Compare each text with the ``memory`` texts before it."""
        return self.nearest(self.sketches(texts), np.zeros((0, BINS), np.uint32))

    def sketches(self, texts: Sequence[Text]) -> Sketches:
        """(n, BINS) uint32: the least hash of each bin, or a constant where a bin has none."""
        out = np.full((len(texts), BINS), _EMPTY, np.uint32)
        for row, text in zip(out, texts, strict=True):
            _sketch(text.text, row)
        return out

    def nearest(self, sketches: Sketches, earlier: Sketches) -> Scores:
        """Share of the bins, among those that either has, in which two sketches are equal; the greatest."""
        every = np.concatenate([earlier, sketches])
        scores = np.zeros(len(sketches))
        for i, sketch in enumerate(sketches):
            upto = len(earlier) + i
            before = every[max(0, upto - self.memory) : upto]
            used = (before != _EMPTY) | (sketch != _EMPTY)
            same = (before == sketch) & used
            scores[i] = (same.sum(axis=1) / np.maximum(used.sum(axis=1), 1)).max(initial=0.0)
        return scores


def _sketch(text: str, out: Sketches) -> None:
    """Fill ``out`` (BINS,); text that has no piece leaves it empty, and is like nothing."""
    data = " ".join(text[:_CHARS].casefold().split()).encode("utf-8", "replace")
    if not data:
        return
    data = data.ljust(_PIECE, b"\0")
    raw = np.frombuffer(data, np.uint8)
    pieces = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(raw, _PIECE)).view(np.uint64)[:, 0]
    hashes = np.sort((pieces ^ (pieces >> np.uint64(29))) * _FACTOR)
    bins = (hashes >> np.uint64(59)).astype(np.int64)
    first = np.flatnonzero(np.diff(bins, prepend=-1))
    # the top bits name the bin; the next 31 distinguish its hashes, so that none is the constant of an empty bin
    out[bins[first]] = ((hashes[first] << np.uint64(5)) >> np.uint64(33)).astype(np.uint32)
