"""The windows of ``Spike`` at the latest bucket, kept up to date row by row, and whether any of them may breach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.detect.bounds import Flags, Rows, grown
from pipelines.detect.detectors.spike_limits import Limits
from pipelines.detect.detectors.spike_scan import COLUMNS as _COLUMNS
from pipelines.detect.detectors.spike_scan import WINDOWS
from pipelines.detect.windows import SLOT, Floats, Matrix, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.detect.bounds import BoundTable
    from pipelines.detect.guards import Guard

COLUMNS = np.array(_COLUMNS)
_MEASURES, _PER_CALL = len(COLUMNS), 2


class SpikeTable:
    """Sums of the two windows of every series: (series, measures, windows), the cost in nano-USD; and their limits."""

    name: ClassVar[str] = "spike"

    def __init__(self) -> None:
        self.owner: Matrix = np.zeros(0, np.int64)
        """(series,) number of the app; -1 where there is none, or nothing is found in it."""
        self.sums: Matrix = np.zeros((0, _MEASURES, len(WINDOWS)), np.int64)
        self.limits: Floats = np.zeros(self.sums.shape)
        self.calls: Floats = np.zeros((0, 1))
        self.per_call: Floats = np.zeros((0, _PER_CALL, len(WINDOWS)))
        self.dear_sums: Floats = np.zeros(self.per_call.shape)
        self.near: Floats = np.zeros(self.sums.shape)
        """The lower one of ``limits`` and ``dear_sums``: most series are below it."""
        self.min_calls_per_call: Matrix = np.zeros(0, np.int64)
        """(apps,)."""
        self.whole = set[int]()
        """Apps of which all series are to be compared, not only those that moved."""
        self.bounds: dict[int, SpikeBound] = {}
        self.moved: list[Matrix] = []

    def resize(self, apps: int, rows: int) -> None:
        """See ``BoundTable``."""
        self.owner = grown(self.owner, rows, -1)
        self.sums, self.calls = grown(self.sums, rows), grown(self.calls, rows)
        self.limits, self.per_call = grown(self.limits, rows, np.inf), grown(self.per_call, rows)
        self.dear_sums, self.near = grown(self.dear_sums, rows, np.inf), grown(self.near, rows, np.inf)
        self.min_calls_per_call = grown(self.min_calls_per_call, apps)

    def put(self, guard: Guard, bound: SpikeBound) -> None:
        """See ``BoundTable``."""
        limits = bound.limits
        self.owner[guard.base : guard.base + guard.size] = guard.number
        self._fill(guard.base, limits.sums, limits.calls)
        first, upto = guard.base, guard.base + len(limits.sums)
        self.per_call[first:upto], self.dear_sums[first:upto] = limits.per_call, limits.dear_sums
        self.near[first:upto, :_PER_CALL] = np.minimum(limits.sums[:, :_PER_CALL], limits.dear_sums)
        self.sums[first:upto] = bound.sums(guard.until)
        self.min_calls_per_call[guard.number] = bound.min_calls_per_call
        self.bounds[guard.number] = bound
        self.whole.add(guard.number)

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.whole.discard(guard.number)
        if self.bounds.pop(guard.number, None) is not None:
            rows = slice(guard.base, guard.base + guard.size)
            self.owner[rows] = -1
            self.limits[rows] = self.dear_sums[rows] = self.near[rows] = np.inf
            self.sums[rows] = 0

    def grow(self, guard: Guard, before: int) -> None:
        """See ``BoundTable``."""
        if bound := self.bounds.get(guard.number):
            windows = guard.windows
            named, group = windows.named[before:, None, None], windows.group[before:]
            self._fill(guard.base + before, np.where(named, bound.limits.new[group], np.inf), bound.min_calls_wide)

    def add(self, rows: Rows) -> None:
        """See ``BoundTable``."""
        self.sums[rows.rows] += rows.sums[:, COLUMNS, None]
        self.moved.append(rows.rows)

    def move(self, guards: Sequence[tuple[Guard, int]]) -> None:
        """See ``BoundTable``."""
        leaving: list[list[tuple[Matrix, Matrix]]] = [[] for _ in WINDOWS]
        for guard, until in guards:
            if (bound := self.bounds.get(guard.number)) is None:
                continue
            self.whole.add(guard.number)
            if until - guard.until == SLOT and guard.until >= guard.windows.learned:
                for i, length in enumerate(WINDOWS):
                    start = guard.until - length * SLOT
                    if start >= bound.cut and (slot := guard.windows.slots.get(start)):
                        places, one = slot.dense()
                        leaving[i].append((places + guard.base, one))
            else:  # several buckets at once, or what leaves is not kept any more
                self.sums[guard.base : guard.base + len(guard.windows.series)] = bound.sums(until)
        for i, parts in enumerate(leaving):
            if parts:
                rows = np.concatenate([places for places, _ in parts])
                self.sums[rows, :, i] -= np.concatenate([one[:, COLUMNS] for _, one in parts])

    def close(self, rows: Rows) -> None:
        """Nothing changes: what is learned from them is in the limits."""

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """See ``BoundTable``."""
        whole = [guard for guard in guards if guard.number in self.whole]
        parts, self.moved = [*self.moved, *(guard.rows for guard in whole)], []
        found = set[int]()
        if parts:
            rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
            near = np.logical_or.reduce(self.sums[rows] >= self.near[rows], axis=(1, 2))
            if near.any():
                rows = rows[near]
                found.update(self.owner[rows[self._breaches(rows)]].tolist())
        self.whole.difference_update([guard.number for guard in whole])
        self.whole |= found
        return found

    def _breaches(self, rows: Matrix) -> Flags:
        sums = self.sums[rows]
        calls, costs = sums[:, 2], sums[:, :_PER_CALL]
        over = (sums >= self.limits[rows]).any(axis=1) & (calls >= self.calls[rows])
        dear = (costs >= self.dear_sums[rows]) & (costs > self.per_call[rows] * calls[:, None])
        enough = calls >= self.min_calls_per_call[self.owner[rows]][:, None]
        breaches: Flags = np.logical_or.reduce(over | (dear.any(axis=1) & enough), axis=1)
        return breaches

    def _fill(self, first: int, sums: Floats, calls: Floats | float) -> None:
        """Set the limits of series from row ``first`` on; no cost per call is too high."""
        rows = slice(first, first + len(sums))
        self.limits[rows] = self.near[rows] = sums
        self.calls[rows], self.per_call[rows], self.dear_sums[rows], self.sums[rows] = calls, 0.0, np.inf, 0


@dataclass(frozen=True)
class SpikeBound:
    """Of one app."""

    table: ClassVar[type[BoundTable] | None] = SpikeTable
    always: ClassVar[bool] = False
    windows: Windows
    limits: Limits
    cut: int
    """No window begins before it, µs UTC."""
    min_calls_wide: int
    min_calls_per_call: int

    def sums(self, until: int) -> Matrix:
        """(series, measures, windows) of the windows that end at ``until``."""
        totals: list[Matrix] = []
        end = until
        for slots in WINDOWS:  # a window holds the shorter ones
            begin = max(until - slots * SLOT, self.cut)
            more = self.windows.total_of(COLUMNS, begin, end)
            totals.append(totals[-1] + more if totals else more)
            end = min(end, begin)
        return np.stack(totals, axis=2)
