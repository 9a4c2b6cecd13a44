"""Many buckets of one app that close one after the other, as arrays: history and backlogs are judged this way.

While the same incidents are open and nothing is found, a bucket changes a state by arithmetic alone. So a detector may
go through up to ten minutes at once (``Detector.scan``), return how many buckets hold nothing, and learn those; the
next one is judged by itself. Every number comes out as it does bucket by bucket, to the last digit: sums are integers,
and products and powers are taken in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.slots import merge_all
from pipelines.detect.windows import RING, SLOT, Matrix, Windows

if TYPE_CHECKING:
    from pipelines.detect.detectors.minute import Trial

ALIGNED = 60
"""Buckets between two ends of stretches: ten minutes, after which the records of ``baseline`` are updated."""
CELLS = 100_000
"""Series times buckets of a stretch, at most."""


class Scan(Protocol):
    """What a detector found in a stretch; nothing is learned yet."""

    @property
    def quiet(self) -> int:
        """Buckets from the first on in which there is no finding."""

    def learn(self, count: int) -> Any:
        """Return the state after the first ``count`` buckets, at most ``quiet`` of them."""


@dataclass(frozen=True)
class Stretch:
    """Buckets [first, first + count * SLOT) of one app, with the ring before them."""

    windows: Windows
    app: int
    """Place of the app's own series."""
    first: int
    """Start of the first bucket, µs UTC."""
    count: int
    steps: Matrix
    """(rows,) bucket of each row; 0 is the one that leaves the ring when the first closes."""
    places: Matrix
    """(rows,) series of each row."""
    sums: Matrix
    """(rows, columns)."""
    open: Mapping[str, int] = field(default_factory=dict)
    """Family of every open incident -> its start."""
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """Test of a minute -> its state that is ahead of what is learned; see ``detectors.minute``."""

    @property
    def starts(self) -> list[int]:
        """Start of every bucket."""
        return list(range(self.first, self.first + self.count * SLOT, SLOT))

    @property
    def until(self) -> NDArray[np.int64]:
        """(count,) end of every bucket."""
        return self.first + SLOT * np.arange(1, self.count + 1)

    def active(self) -> Matrix:
        """(n,) series with a row, the app's own first."""
        seen = np.zeros(len(self.windows.series), bool)
        seen[self.places] = True
        seen[self.app] = False
        return np.concatenate([[self.app], np.flatnonzero(seen)])

    def dense(self, places: Matrix, columns: list[int] | None = None) -> Matrix:
        """(RING + count, len(places), columns) sums of ``places``; the first to close is at RING."""
        row_of = np.full(len(self.windows.series), -1)
        row_of[places] = np.arange(len(places))
        rows = row_of[self.places]
        sums = self.sums if columns is None else self.sums[:, columns]
        out = np.zeros((RING + self.count, len(places), sums.shape[1]), np.int64)
        if (rows >= 0).all():
            out[self.steps, rows] = sums
        else:
            held = rows >= 0
            out[self.steps[held], rows[held]] = sums[held]
        return out


def stretch(
    windows: Windows,
    app: int,
    watermark: int,
    most: int,
    open_: Mapping[str, int] = MappingProxyType({}),
    trials: Mapping[str, Trial] = MappingProxyType({}),
) -> Stretch:
    """The next buckets to close: up to ``watermark``, the end of these ten minutes, or where the ring is empty."""
    first = windows.closed
    count = min(most, windows.behind(watermark), ALIGNED - (first // SLOT - 1) % ALIGNED)
    count = max(1, min(count, CELLS // max(1, len(windows.series))))
    begin = first - RING * SLOT
    held = windows.held(begin, first + count * SLOT)
    for start, after in pairwise(held):
        if after > max(start + (RING + 1) * SLOT, first):  # then a time without calls is skipped, not judged
            count = min(count, max(1, (start - first) // SLOT + RING + 1))
            held = [s for s in held if s < first + count * SLOT]
            break
    if held:
        count = max(1, min(count, (held[-1] - first) // SLOT + RING + 1))
    merge_all([windows.slots[start] for start in held if not windows.slots[start].is_dense])
    parts = [windows.slots[start].dense() for start in held]
    steps = [np.full(len(places), (start - begin) // SLOT) for start, (places, _) in zip(held, parts, strict=True)]
    sums = np.zeros((sum(map(len, steps)), windows.width), np.int64)
    row = 0
    for places, one in parts:
        sums[row : row + len(places), : one.shape[1]] = one
        row += len(places)
    empty = np.zeros(0, np.int64)
    return Stretch(
        windows,
        app,
        first,
        count,
        np.concatenate([empty, *steps]),
        np.concatenate([empty, *(places for places, _ in parts)]),
        sums,
        open_,
        trials,
    )


def window_sums(dense: Matrix, slots: int) -> Matrix:
    """(count, ...) sums over the last ``slots`` buckets, from (RING + count, ...)."""
    total = np.zeros((len(dense) + 1, *dense.shape[1:]), np.int64)
    np.cumsum(dense, axis=0, out=total[1:])
    return total[RING + 1 :] - total[RING + 1 - slots : len(total) - slots]
