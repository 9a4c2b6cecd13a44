"""When a look at open buckets cannot find anything: upper bounds that are kept up to date row by row.

A look judges all series of an app, and almost always finds nothing. So a detector computes once, for some minutes, how
much each series must hold before it may breach (``Detector.bound``). Between two looks only the rows that moved are
added up and compared. A bound is one-sided: where it is passed the detector judges as always, so the alerts are the
same to the last digit. Bounds are not part of the state; they are made again when they are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.detect.windows import RING, SLOT, Matrix, Windows

MOST = 30
"""Buckets for which bounds hold: those that leave the ring meanwhile have closed already, so what will be learned is
known beforehand."""
OPEN = 4
"""Open buckets after the first, at most, for which bounds hold."""


class Bound(Protocol):
    """What one detector needs to see before it may find anything."""

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Add rows (series ``places``, each once) of the open bucket that begins at ``start``."""

    def close(self, start: int) -> None:
        """Note that the bucket that begins at ``start`` has closed."""

    def may_find(self, until: int) -> bool:
        """Whether there may be a finding in the windows that end at ``until``."""


class Never:
    """The bound of a detector that finds nothing whatever comes."""

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Nothing."""

    def close(self, start: int) -> None:
        """Nothing."""

    def may_find(self, until: int) -> bool:
        """No."""
        return False


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
        windows = self.windows
        if not windows.moved and self.closed == windows.closed and self.until == until:
            return self.found
        for start, places, sums in windows.moved or ():
            for bound in self.bounds:
                bound.add(start, places, sums)
        windows.moved = []
        while self.closed < windows.closed:
            for bound in self.bounds:
                bound.close(self.closed)
            self.closed += SLOT
        self.until, self.found = until, any([bound.may_find(until) for bound in self.bounds])
        return self.found


def is_in_ring(windows: Windows) -> bool:
    """Whether the next bucket to close, or one that is in the ring after that, holds anything."""
    slots, first = windows.slots, windows.closed
    return any(start in slots for start in range(first, first - RING * SLOT, -SLOT))
