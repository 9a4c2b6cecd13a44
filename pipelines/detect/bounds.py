"""When a look at open buckets cannot find anything: upper bounds that are kept up to date row by row.

A look judges all series of an app, and almost always finds nothing. So a detector computes once, for some minutes, how
much each series must hold before it may breach (``Detector.bound``). Between two looks only the rows that moved are
added up and compared, those of all apps at once (``BoundTable``, ``pipelines.detect.guards``). What makes a breach less
likely is left out until a bound is passed: rows that leave the windows, and calls without a hit. A bound is one-sided:
where it is passed the detector judges as always, so the alerts are the same to the last digit. Bounds are not part of
the state; they are made again when they are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.windows import RING, SLOT, Matrix, Windows

if TYPE_CHECKING:
    from pipelines.detect.guards import Guard

BOUND_BUCKETS = 30
"""Buckets for which bounds hold: those that leave the ring meanwhile have closed already, so what will be learned is
known beforehand."""
STEADY = 2
"""Buckets by which windows may move on before a cost per call must be compared again."""
OPEN_BUCKETS = 4
"""Open buckets after the first, at most, for which bounds hold."""

Flags = NDArray[np.bool_]
Part = tuple[int, int, Matrix, Matrix]
"""(app, start, series, sums): rows of one bucket of one app, each series once."""


@dataclass(frozen=True)
class Rows:
    """Rows of several apps; no series comes twice."""

    parts: Sequence[Part]
    sizes: Sequence[int]
    """(parts,) rows of each."""
    rows: Matrix
    """(n,) series of each row, in the arrays of all apps."""
    sums: Matrix
    """(n, columns); a guardrail that an app does not have is 0."""


class BoundTable(Protocol):
    """The bounds of one detector for many apps, as arrays over all of their series."""

    name: str
    """Of the detector."""

    def __init__(self, name: str) -> None:
        """Start without an app."""

    def resize(self, apps: int, rows: int) -> None:
        """Make room for ``apps`` apps and ``rows`` series."""

    def put(self, guard: Guard, bound: Any) -> None:
        """Add the bound of an app; its series are the rows from ``guard.base`` on."""

    def clear(self, guard: Guard) -> None:
        """Remove the bound of an app, so that nothing is found in it, and free its rows."""

    def grow(self, guard: Guard, before: int) -> None:
        """Add the series from number ``before`` on: new users, of which nothing is learned."""

    def add(self, rows: Rows) -> None:
        """Add rows of open buckets."""

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """Return the numbers of those among the apps that changed in which there may be a finding.

        Their windows may end later than before, and buckets may have closed. A table looks at that where it matters.
        """


class Bound(Protocol):
    """The least that buckets of one app must hold before one detector may find anything."""

    table: ClassVar[type[BoundTable] | None]
    """Holds such bounds; None where there is nothing to hold."""
    always: ClassVar[bool]
    """Whether there may be a finding with any content of the buckets."""


class CannotFind:
    """The bound of a detector that cannot find anything, with any rows."""

    table: ClassVar[type[BoundTable] | None] = None
    always: ClassVar[bool] = False


class MustJudge:
    """The bound of a detector that must judge at each look."""

    table: ClassVar[type[BoundTable] | None] = None
    always: ClassVar[bool] = True


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
        return self.first + (self.count + 1 + OPEN_BUCKETS) * SLOT


def grown(array: NDArray[Any], rows: int, fill: float = 0) -> NDArray[Any]:
    """Return ``array`` with ``rows`` rows; those that are new hold ``fill``."""
    if len(array) >= rows:
        return array
    more = np.full((rows - len(array), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, more])


class RowAllocator:
    """Allocates ranges of rows. They are of few sizes, so that a freed range is used again."""

    def __init__(self) -> None:
        self.rows = 0
        self._free: dict[int, list[int]] = {}

    @staticmethod
    def size(rows: int) -> int:
        """Rows of the range that ``rows`` rows get: at most a quarter more, and never fewer than eight."""
        step = 1 << max(1, rows.bit_length() - 3)
        return max(8, -(-rows // step) * step)

    def allocate(self, size: int) -> int:
        """Return the first row of a range of ``size`` rows, which is one of ``size()``."""
        if free := self._free.get(size):
            return free.pop()
        self.rows += size
        return self.rows - size

    def free(self, first: int, size: int) -> None:
        """Free a range, to be allocated again."""
        self._free.setdefault(size, []).append(first)


def is_in_ring(windows: Windows) -> bool:
    """Whether the next bucket to close, or one that is in the ring after that, holds anything."""
    slots, first = windows.slots, windows.closed
    return any(start in slots for start in range(first, first - RING * SLOT, -SLOT))
