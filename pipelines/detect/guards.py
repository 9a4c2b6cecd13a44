"""Which apps a look at open buckets must judge: the bounds of all apps of a partition, compared at once.

A tick of a second moves a few rows of each app. Compared app by app that takes a dozen calls of numpy on tiny arrays
for each; here the rows of all apps are concatenated and compared at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pipelines.detect.bounds import OPEN_BUCKETS, Ahead, Bound, BoundTable, Part, RowAllocator, Rows
from pipelines.detect.isolation import ALL, raising
from pipelines.detect.windows import SLOT, Matrix, Windows

if TYPE_CHECKING:
    from pipelines.detect.detectors.minute import Trial

_MORE = 1.5
"""By how much arrays grow at least."""


@dataclass(eq=False)
class Guard:
    """The bounds of one app, and the time up to which they are updated."""

    windows: Windows
    number: int
    """Of the app in the arrays of all apps."""
    base: int
    """Row of its first series in them."""
    size: int
    """Rows that are set aside for its series."""
    closed: int
    """Start of the first bucket that was open at the last look."""
    last_closed: int
    last: int
    until: int
    """End of the windows."""
    kinds: int
    groups: int
    series: int
    always: bool
    """Whether a look may find something with any content of the windows."""
    found: bool = True
    """Whether a look may find anything."""
    void: bool = False
    """Whether the bounds no longer hold for the windows."""
    trials: dict[str, Trial] = field(default_factory=dict)
    """Test of a minute -> its state that is ahead of what is learned."""

    @property
    def rows(self) -> Matrix:
        """Rows of its series in the arrays of all apps."""
        return np.arange(self.base, self.base + self.series)

    @property
    def room(self) -> slice:
        """Rows that are set aside for its series."""
        return slice(self.base, self.base + self.size)

    def holds(self, until: int) -> bool:
        """Whether the bounds still hold for the windows, which end at ``until``."""
        windows, closed = self.windows, self.windows.closed
        return (
            windows.moved is not None
            and closed <= self.last_closed
            and self.until <= until <= self.last
            and until <= closed + (1 + OPEN_BUCKETS) * SLOT
            and len(windows.kinds) == self.kinds
            and len(windows.groups) == self.groups
            and len(windows.series) <= self.size
            and not windows.reused
        )


class Guards:
    """The bounds of all detectors for all apps of a partition."""

    def __init__(self) -> None:
        self.tables: dict[str, BoundTable] = {}
        """Detector -> the bounds of all apps."""
        self._allocator = RowAllocator()
        self._known: dict[str, Guard] = {}
        """App -> its guard, the latest."""
        self._guards: dict[int, Guard] = {}
        """The same by number."""
        self.moved: list[Part] = []
        """Rows that came in open buckets since the last look: the windows of all apps put them here."""
        self._free: list[int] = []
        self._apps = self._rows = 0

    def put(self, ahead: Ahead, bounds: Mapping[str, Bound]) -> Guard:
        """Set the bounds (detector -> bound) of an app, in place of earlier ones."""
        windows = ahead.windows
        if known := self._known.pop(windows.app, None):
            self._release(known)
        size = RowAllocator.size(len(windows.series) + len(windows.series) // 4 + 8)
        guard = Guard(
            windows,
            number=self._free.pop() if self._free else len(self._known),
            base=self._allocator.allocate(size),
            size=size,
            closed=ahead.first,
            last_closed=ahead.first + ahead.count * SLOT,
            last=ahead.last,
            until=ahead.until,
            kinds=len(windows.kinds),
            groups=len(windows.groups),
            series=len(windows.series),
            always=any(bound.always for bound in bounds.values()),
        )
        self._known[windows.app] = self._guards[guard.number] = guard
        self._make_room(guard.number + 1)
        for name, bound in bounds.items():
            if bound.table is not None:
                with raising(name, windows.app):
                    self._table(name, bound.table).put(guard, bound)
        if self.moved:  # earlier rows are in the sums now
            self.moved[:] = [part for part in self.moved if part[0] != guard.number]
        windows.moved, windows.number = self.moved, guard.number
        self._compare([guard])
        return guard

    def remove(self, apps: Iterable[str]) -> None:
        """Free the rows of apps that were removed."""
        for name in self._known.keys() & set(apps):
            self._release(self._known.pop(name))

    def look(self, closing: Iterable[Guard]) -> None:
        """Bring ``found`` up to date; guards that do not hold any more are void.

        Args:
            closing: apps of which buckets have closed since. Rows that moved are known of all apps.
        """
        parts = self.moved[:]
        self.moved.clear()
        changed = {number: self._guards[number] for number in {part[0] for part in parts}}
        changed |= {guard.number: guard for guard in closing if guard.closed != guard.windows.closed}
        held, void = list[Guard](), set[int]()
        for number, guard in changed.items():
            windows = guard.windows
            until = windows.latest()
            if guard.void or not guard.holds(until):
                guard.void = guard.found = True
                void.add(number)
                continue
            if len(windows.series) > guard.series:
                self._grow(guard)
            guard.until, guard.closed = until, windows.closed
            held.append(guard)
        if void:
            parts = [part for part in parts if part[0] not in void]
        if held:
            self._add(held, parts)
            self._compare(held)

    def _add(self, changed: list[Guard], parts: list[Part]) -> None:
        added = self._layers(parts)
        for table in self.tables.values():
            with raising(table.name, _app_of(changed)):
                for rows in added:
                    table.add(rows)

    def _compare(self, guards: Sequence[Guard]) -> None:
        found = set[int]()
        for table in self.tables.values():
            with raising(table.name, _app_of(guards)):
                found |= table.may_find(guards)
        for guard in guards:
            guard.found = guard.always or guard.number in found

    def _layers(self, parts: list[Part]) -> list[Rows]:
        """Concatenate parts so that no series occurs twice: the first of each app, the second of each, and so on."""
        count: dict[int, int] = {}
        by_layer: list[list[Part]] = []
        for part in parts:
            layer = count.get(part[0], 0)
            count[part[0]] = layer + 1
            if layer == len(by_layer):
                by_layer.append([])
            by_layer[layer].append(part)
        return [self._concatenated(layer) for layer in by_layer]

    def _concatenated(self, parts: list[Part]) -> Rows:
        if len(parts) == 1:
            number, _, places, sums = parts[0]
            return Rows(parts, [len(places)], places + self._guards[number].base, sums)
        parts.sort(key=lambda part: part[3].shape[1])
        sizes = [len(part[2]) for part in parts]
        rows = np.concatenate([part[2] for part in parts])
        rows += np.repeat([self._guards[part[0]].base for part in parts], sizes)
        return Rows(parts, sizes, rows, _sums(parts))

    def _grow(self, guard: Guard) -> None:
        for table in self.tables.values():
            table.grow(guard, guard.series)
        guard.series = len(guard.windows.series)

    def _release(self, guard: Guard) -> None:
        for table in self.tables.values():
            table.clear(guard)
        guard.void, guard.windows.moved = True, None
        self._free.append(guard.number)
        self._allocator.free(guard.base, guard.size)

    def _table(self, name: str, kind: type[BoundTable]) -> BoundTable:
        if name not in self.tables:
            self.tables[name] = kind(name)
            self.tables[name].resize(self._apps, self._rows)
        return self.tables[name]

    def _make_room(self, apps: int) -> None:
        rows = self._allocator.rows
        if apps <= self._apps and rows <= self._rows:
            return
        self._apps = self._apps if apps <= self._apps else int(apps * _MORE)
        self._rows = self._rows if rows <= self._rows else int(rows * _MORE)
        for table in self.tables.values():
            table.resize(self._apps, self._rows)


def _app_of(guards: Sequence[Guard]) -> str:
    """App to which an error belongs; ALL where several apps are compared at once."""
    return guards[0].windows.app if len(guards) == 1 else ALL


def _sums(parts: list[Part]) -> Matrix:
    """The sums of ``parts``, in the order of their width."""
    groups = [[part[3] for part in group] for _, group in groupby(parts, key=lambda part: part[3].shape[1])]
    if len(groups) == 1:
        return np.concatenate(groups[0])
    out = np.zeros((sum(len(part[2]) for part in parts), groups[-1][0].shape[1]), np.int64)
    first = 0
    for group in groups:
        one = np.concatenate(group)
        out[first : first + len(one), : one.shape[1]] = one
        first += len(one)
    return out
