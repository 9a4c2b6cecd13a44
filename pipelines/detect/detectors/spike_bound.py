"""The windows of ``Spike`` at the latest bucket, kept up to date row by row, and whether any of them may breach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.detect.bounds import STEADY, Rows, grown
from pipelines.detect.detectors.spike_limits import Limits
from pipelines.detect.detectors.spike_scan import COLUMNS as _COLUMNS
from pipelines.detect.detectors.spike_scan import WINDOWS
from pipelines.detect.slots import Slot, merge_all
from pipelines.detect.windows import SLOT, Floats, Matrix, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.detect.bounds import BoundTable
    from pipelines.detect.guards import Guard

COLUMNS = np.array(_COLUMNS)
_MEASURES, _PER_CALL = len(COLUMNS), 2
_LITTLE = 6
"""A slack of less than this part of the sum is little: a window of a minute gains it in ten seconds."""
_LENGTHS = (*WINDOWS, *(slots - STEADY for slots in WINDOWS))
"""Of the windows, and of what is left of them when they have moved on by STEADY buckets."""


class SpikeBoundTable:
    """Sums of the windows of every series, and their limits: (series, measures, windows), the cost in nano-USD."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: Matrix = np.zeros(0, np.int64)
        """(series,) number of the app; -1 where there is none, or nothing is found in it."""
        self.sums: Matrix = np.zeros((0, _MEASURES, len(_LENGTHS)), np.int64)
        self.limits: Floats = np.zeros((0, _MEASURES, len(WINDOWS)))
        self.calls: Floats = np.zeros((0, 1))
        self.per_call: Floats = np.zeros((0, _PER_CALL, len(WINDOWS)))
        self.expensive_sums: Floats = np.zeros(self.per_call.shape)
        self.base: Matrix = np.zeros(0, np.int64)
        """(series,) row of the app's own series."""
        self.near: Floats = np.zeros(self.limits.shape)
        """The lower one of ``limits`` and ``expensive_sums``: most series are below it."""
        self.min_calls_per_call: Matrix = np.zeros(0, np.int64)
        """(apps,)."""
        self.least: Floats = np.zeros(self.limits.shape)
        """Sums below which there is no finding; of most series ``near``."""
        self.bounds: dict[int, SpikeBound] = {}
        self.until: dict[int, int] = {}
        """Number of an app -> end of its windows of which there are sums."""
        self.steady: dict[int, int] = {}
        """Number of an app -> latest end of its windows for which ``least`` holds."""
        self.due = set[int]()
        """Apps of which all series are to be compared."""

    def resize(self, apps: int, rows: int) -> None:
        """See ``BoundTable``."""
        self.owner, self.base = grown(self.owner, rows, -1), grown(self.base, rows)
        self.sums, self.calls = grown(self.sums, rows), grown(self.calls, rows)
        self.limits, self.per_call = grown(self.limits, rows, np.inf), grown(self.per_call, rows)
        self.expensive_sums, self.near = grown(self.expensive_sums, rows, np.inf), grown(self.near, rows, np.inf)
        self.least = grown(self.least, rows, np.inf)
        self.min_calls_per_call = grown(self.min_calls_per_call, apps)

    def put(self, guard: Guard, bound: SpikeBound) -> None:
        """See ``BoundTable``."""
        limits = bound.limits
        self.owner[guard.room], self.base[guard.room] = guard.number, guard.base + bound.app
        self._fill(guard.base, limits.sums, limits.calls)
        first, upto = guard.base, guard.base + len(limits.sums)
        self.per_call[first:upto], self.expensive_sums[first:upto] = limits.per_call, limits.expensive_sums
        self.near[first:upto, :_PER_CALL] = np.minimum(limits.sums[:, :_PER_CALL], limits.expensive_sums)
        self.sums[first:upto] = bound.sums(guard.until)
        self.min_calls_per_call[guard.number] = bound.min_calls_per_call
        self.bounds[guard.number], self.until[guard.number] = bound, guard.until
        self.due.add(guard.number)

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.due.discard(guard.number)
        self.steady.pop(guard.number, None)
        if self.bounds.pop(guard.number, None) is not None:
            rows = slice(guard.base, guard.base + guard.size)
            self.owner[rows] = -1
            self.limits[rows] = self.expensive_sums[rows] = self.near[rows] = self.least[rows] = np.inf
            self.sums[rows] = 0

    def grow(self, guard: Guard, before: int) -> None:
        """See ``BoundTable``."""
        if bound := self.bounds.get(guard.number):
            windows = guard.windows
            named, group = windows.named[before:, None, None], windows.group[before:]
            self._fill(guard.base + before, np.where(named, bound.limits.new[group], np.inf), bound.min_calls_wide)

    def add(self, rows: Rows) -> None:
        """See ``BoundTable``."""
        places = rows.rows
        sums = self.sums[places] + rows.sums[:, COLUMNS, None]
        self.sums[places] = sums
        over = np.logical_or.reduce(sums[:, :, : len(WINDOWS)] >= self.least[places], axis=(1, 2))
        if over.any():
            self.due.update(self.owner[places[over]].tolist())

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """See ``BoundTable``. Without rows that come, sums only fall."""
        steady = self.steady  # of an app without a bound there is none
        due = [g for g in guards if g.number in self.due or g.until > steady.get(g.number, g.until)]
        if not due:
            return set()
        self._move(due)
        numbers, rows = [guard.number for guard in due], np.concatenate([guard.rows for guard in due])
        self.steady |= {guard.number: guard.until + STEADY * SLOT for guard in due}
        sums, near = self.sums[rows, :, : len(WINDOWS)], self.near[rows]
        self.least[rows] = near
        close = np.flatnonzero(np.logical_or.reduce(2 * sums >= near, axis=(1, 2)))
        found = set[int]()
        if len(close):
            rows = rows[close]
            slacks = self._slacks_near(rows)
            self.least[rows] = sums[close] + slacks
            found.update(self.owner[rows[np.logical_or.reduce(slacks <= 0, axis=(1, 2))]].tolist())
        self.due.difference_update(numbers)
        self.due |= found
        return found

    def _move(self, guards: Sequence[Guard]) -> None:
        """Move the windows of apps to their current end, after all rows were added."""
        evicted: dict[tuple[int, int], list[tuple[int, Slot]]] = {}
        for guard in guards:
            bound, before = self.bounds[guard.number], self.until[guard.number]
            self.until[guard.number] = guard.until
            if guard.until - before > (STEADY + 1) * SLOT or before < guard.windows.learned:
                self.sums[guard.base : guard.base + len(guard.windows.series)] = bound.sums(guard.until)
                continue  # many buckets at once, or what leaves is not kept any more
            for i, length in enumerate(_LENGTHS):
                begin = before - length * SLOT
                for start in guard.windows.held(begin, begin + guard.until - before):
                    if start >= bound.cut:
                        evicted.setdefault((i, start - begin), []).append((guard.base, guard.windows.slots[start]))
        merge_all([slot for parts in evicted.values() for _, slot in parts if not slot.is_dense])
        for (i, _), parts in evicted.items():  # no series comes twice in these
            rows = np.concatenate([slot.places + base for base, slot in parts])
            self.sums[rows, :, i] -= np.concatenate([slot.sums[:, COLUMNS] for _, slot in parts])

    def _slacks_near(self, rows: Matrix) -> Floats:
        """(n, measures, windows) what each series may gain.

        A cost per call may rise where windows move on, for then they hold fewer calls, but at least those of the
        shorter windows. Where that leaves little, the slack of an app holds for the same windows only.
        """
        sums = self.sums[rows]
        moving = self._slacks(rows, sums[:, 2, len(WINDOWS) :])
        fixed = self._slacks(rows, sums[:, 2, : len(WINDOWS)])
        little = (moving * _LITTLE < sums[:, :, : len(WINDOWS)]) & (moving < fixed)
        numbers = set(self.owner[rows[little.any(axis=(1, 2))]].tolist())
        if not numbers:
            return moving
        self.steady |= {number: self.until[number] for number in numbers}
        return np.where(np.isin(self.owner[rows], list(numbers))[:, None, None], fixed, moving)

    def _slacks(self, rows: Matrix, kept: Matrix) -> Floats:
        """``_slacks_near``, where windows hold at least ``kept`` calls.

        A series breaches when its calls *and* a sum reach a limit, so the slack of one of them is enough: that which
        is the larger part of the app's own sum.
        """
        sums = self.sums[rows, :, : len(WINDOWS)]
        own = np.maximum(self.sums[self.base[rows], :, : len(WINDOWS)], 1)
        costs, calls, usual = sums[:, :_PER_CALL], sums[:, None, 2], own[:, :_PER_CALL] / own[:, None, 2]
        over, counted = self.limits[rows] - sums, self.calls[rows][:, None] - calls
        out: Floats = np.full(over.shape, np.inf)
        out[:, 2] = np.maximum(over[:, 2], counted[:, 0])
        expensive = np.maximum(self.expensive_sums[rows] - costs, self.per_call[rows] * kept[:, None] - costs)
        enough = self.min_calls_per_call[self.owner[rows]][:, None, None] - calls
        for more, few in ((over[:, :_PER_CALL], counted), (expensive, enough)):
            by_calls = few * usual > more
            out[:, :_PER_CALL] = np.minimum(out[:, :_PER_CALL], np.where(by_calls, np.inf, more))
            out[:, 2] = np.minimum(out[:, 2], np.where(by_calls, few, np.inf).min(axis=1))
        return out

    def _fill(self, first: int, sums: Floats, calls: Floats | float) -> None:
        """Set the limits of series from row ``first`` on; no cost per call is too high."""
        rows = slice(first, first + len(sums))
        self.limits[rows] = self.near[rows] = self.least[rows] = sums
        self.calls[rows], self.per_call[rows], self.expensive_sums[rows], self.sums[rows] = calls, 0.0, np.inf, 0


@dataclass(frozen=True)
class SpikeBound:
    """Of one app."""

    table: ClassVar[type[BoundTable] | None] = SpikeBoundTable
    always: ClassVar[bool] = False
    windows: Windows
    app: int
    """Place of the app's own series."""
    limits: Limits
    cut: int
    """No window begins before it, µs UTC."""
    min_calls_wide: int
    min_calls_per_call: int

    def sums(self, until: int) -> Matrix:
        """(series, measures, windows) of the windows that end at ``until``, of all ``_LENGTHS``."""
        found: dict[int, Matrix] = {}
        end, total = until, np.zeros((1, 1), np.int64)
        for slots in sorted(_LENGTHS):  # a window holds the shorter ones
            begin = max(until - slots * SLOT, self.cut)
            found[slots] = total = total + self.windows.total_of(COLUMNS, begin, end)
            end = min(end, begin)
        return np.stack([found[slots] for slots in _LENGTHS], axis=2)
