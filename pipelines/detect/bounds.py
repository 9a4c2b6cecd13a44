"""When a look at open buckets cannot find anything: upper bounds that are kept up to date row by row.

A look judges all series of an app, and almost always finds nothing. So a detector computes once, for some minutes, how
much each series must hold before it may breach (``Detector.bound``). Between two looks only the rows that moved are
added up and compared. A bound is one-sided: where it is passed the detector judges as always, so the alerts are the
same to the last digit. Bounds are not part of the state; they are made again when they are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipelines.detect.windows import RING, SLOT, Floats, Matrix, Slot, Windows

MOST = 30
"""Buckets for which bounds hold: those that leave the ring meanwhile have closed already, so what will be learned is
known beforehand."""
OPEN = 4
"""Open buckets after the first, at most, for which bounds hold."""
SPARED = 3
"""Buckets by which windows may move on without a comparison, at most: what leaves them must still be there then."""


class Bound(Protocol):
    """What one detector needs to see before it may find anything."""

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Add rows (series ``places``, each once) of the open bucket that begins at ``start``."""

    def close(self, start: int) -> None:
        """Note that the bucket that begins at ``start`` has closed."""

    def may_find(self, until: int) -> bool:
        """Whether there may be a finding in the windows that end at ``until``."""

    def spare(self, slack: Floats) -> bool:
        """Lower ``slack`` to what a series may gain before there may be a finding, after ``may_find`` was False.

        Args:
            slack: (columns,), changed in place.

        Returns:
            Whether it still holds when windows end later, or buckets close.
        """


class Never:
    """The bound of a detector that finds nothing whatever comes."""

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Nothing."""

    def close(self, start: int) -> None:
        """Nothing."""

    def may_find(self, until: int) -> bool:
        """No."""
        return False

    def spare(self, slack: Floats) -> bool:
        """Anything may come."""
        return True


@dataclass(frozen=True)
class Ahead:
    """The time for which bounds are made."""

    windows: Windows
    app: int
    """Place of the app's own series."""
    until: int
    """End of the latest bucket now, µs UTC."""
    count: int
    """How many buckets may close before the bounds are void."""
    open: Mapping[str, int] = field(default_factory=dict)
    """Family of every open incident -> its start: it has no other finding."""

    @property
    def first(self) -> int:
        """Start of the first open bucket now, µs UTC."""
        return self.windows.closed

    @property
    def last(self) -> int:
        """End of the last bucket that is looked at, µs UTC."""
        return self.first + (self.count + 1 + OPEN) * SLOT


class Guard:
    """The bounds of all detectors for one app."""

    def __init__(self, bounds: Sequence[Bound], ahead: Ahead) -> None:
        self.bounds, self.windows, self.closed = bounds, ahead.windows, ahead.first
        self.last_closed, self.last = ahead.first + ahead.count * SLOT, ahead.last
        self.kinds, self.groups = len(ahead.windows.kinds), len(ahead.windows.groups)
        self.windows.moved = []
        self.until, self.found = 0, False
        self.pending: list[tuple[int, Matrix, Matrix]] = []
        """Rows that are in no bound yet."""
        self.used: Matrix = np.zeros(ahead.windows.width, np.int64)
        """(columns,) what any series has gained by them, at most."""
        self.slack: Floats = np.zeros(ahead.windows.width)
        self.is_steady = False

    def holds(self, until: int) -> bool:
        """Whether the bounds are still those of the windows that end at ``until``."""
        windows = self.windows
        return (
            windows.moved is not None
            and not windows.reused
            and windows.closed <= self.last_closed
            and until <= self.last
            and (len(windows.kinds), len(windows.groups)) == (self.kinds, self.groups)
        )

    def may_find(self, until: int) -> bool:
        """Whether a look at the windows that end at ``until`` may find anything; rows that moved are taken in."""
        windows, moved = self.windows, self.windows.moved or []
        if not moved and self.closed == windows.closed and self.until == until:
            return self.found
        windows.moved = []
        for _, _, sums in moved:
            self.used[: sums.shape[1]] += np.maximum.reduce(sums, axis=0, initial=0)
        self.pending += moved
        return not self._is_spared(until) and self._compare(until)

    def _is_spared(self, until: int) -> bool:
        moves_on = until - self.until
        if self.found or moves_on > SPARED * SLOT or (moves_on and not self.is_steady):
            return False
        return bool((self.used < self.slack).all())

    def _compare(self, until: int) -> bool:
        for start, places, sums in _merged(self.pending):
            for bound in self.bounds:
                bound.add(start, places, sums)
        while self.closed < self.windows.closed:
            for bound in self.bounds:
                bound.close(self.closed)
            self.closed += SLOT
        self.until, self.found = until, any([bound.may_find(until) for bound in self.bounds])
        self.pending = []
        self.used[:] = 0
        if not self.found:
            self.slack[:] = np.inf
            self.is_steady = all([bound.spare(self.slack) for bound in self.bounds])
        return self.found


def _merged(pending: list[tuple[int, Matrix, Matrix]]) -> Iterator[tuple[int, Matrix, Matrix]]:
    """Rows by bucket, in the order of time, each series once."""
    by_start: dict[int, Slot] = {}
    for start, places, sums in pending:
        by_start.setdefault(start, Slot()).add(places, sums)
    for start in sorted(by_start):
        yield start, *by_start[start].dense()


def is_in_ring(windows: Windows) -> bool:
    """Whether the next bucket to close, or one that is in the ring after that, holds anything."""
    slots, first = windows.slots, windows.closed
    return any(start in slots for start in range(first, first - RING * SLOT, -SLOT))
