"""How many hits a series must have in its open buckets before ``Surge`` may find anything, for some minutes ahead.

The evidence of a lift grows by a fixed number per hit and falls by a fixed number per call without one, as long as the
baseline is the same: it is updated when ten minutes end, and bounds end before. So an upper bound is moved bucket by
bucket like the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.detect.bounds import Ahead, Flags, RowAllocator, Rows, grown
from pipelines.detect.detectors.likelihood import mean_evidence
from pipelines.detect.detectors.surge_bases import base_columns, has_hits
from pipelines.detect.detectors.surge_limits import limits_of, overdispersion
from pipelines.detect.detectors.surge_state import KINDS, LIFTS
from pipelines.detect.items import COLUMN, COLUMNS
from pipelines.detect.windows import Floats, Matrix, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.detect.bounds import BoundTable
    from pipelines.detect.detectors.surge import Surge
    from pipelines.detect.detectors.surge_state import SurgeState
    from pipelines.detect.guards import Guard

_SLACK = 1e-6
_HITS = np.array([COLUMN[kind] for kind in KINDS])


class SurgeBoundTable:
    """Arrays are (tested series of all apps, kinds[, lifts]); kinds that an app does not have have no hit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.row_of: Matrix = np.full(0, -1)
        """(series,) row of the tested series; -1 where it is not tested."""
        self.kinds = len(KINDS)
        self.owner: Matrix = np.zeros(0, np.int64)
        """(tested,) number of the app; -1 where there is none."""
        self.hits: Matrix = np.zeros((0, self.kinds), np.int64)
        """Since the evidence was looked at."""
        self.least: Floats = np.zeros((0, self.kinds))
        """Hits below which there is no finding."""
        self.run_hits: Floats = np.zeros((0, self.kinds))
        self.log: Floats = np.zeros((0, self.kinds, len(LIFTS)))
        self.gain: Floats = np.zeros(self.log.shape)
        """What a hit adds to the evidence."""
        self.loss: Floats = np.zeros(self.log.shape)
        """What a call without one adds: it is negative."""
        self.base: Matrix = np.zeros((0, self.kinds), np.int64)
        """Column of the sums that a kind is a share of."""
        self.due = set[int]()
        """Apps of which the evidence is to be looked at."""
        self.bounds: dict[int, SurgeBound] = {}
        self.places: dict[int, tuple[slice, int]] = {}
        """Number of an app -> (its tested series, rows set aside for them)."""
        self.closed: dict[int, int] = {}
        """Number of an app -> start of the first bucket that is not in ``log``."""
        self._allocator = RowAllocator()

    def resize(self, apps: int, rows: int) -> None:
        """See ``BoundTable``."""
        self.row_of = grown(self.row_of, rows, -1)

    def put(self, guard: Guard, bound: SurgeBound) -> None:
        """See ``BoundTable``."""
        tested, kinds = bound.judged.shape
        size = RowAllocator.size(tested)
        first = self._allocator.allocate(size)
        self._make_room(self._allocator.rows, kinds)
        rows = slice(first, first + tested)
        self.owner[rows], self.least[rows] = guard.number, np.inf
        self.log[rows], self.run_hits[rows] = 0.0, 0.0
        self.log[rows, :kinds], self.run_hits[rows, :kinds] = bound.log, bound.run_hits
        self.gain[rows, :kinds], self.loss[rows, :kinds] = bound.gain, bound.loss
        self.base[rows] = COLUMN["calls"]
        self.base[rows, :kinds] = bound.base
        self.row_of[guard.base + bound.places] = np.arange(first, first + tested)
        self.bounds[guard.number], self.places[guard.number] = bound, (rows, size)
        self.closed[guard.number] = guard.closed
        self.due.add(guard.number)

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.due.discard(guard.number)
        if self.bounds.pop(guard.number, None) is not None:
            rows, size = self.places.pop(guard.number)
            self.row_of[guard.room] = -1
            self.owner[rows], self.least[rows] = -1, np.inf
            self._allocator.free(rows.start, size)

    def grow(self, guard: Guard, before: int) -> None:
        """A series that is new is a user, who is not tested."""

    def add(self, rows: Rows) -> None:
        """See ``BoundTable``."""
        found = self.row_of[rows.rows]
        tested = np.flatnonzero(found >= 0)
        if not len(tested):
            return
        found, hits = found[tested], _hits(rows.sums[tested])[:, : self.kinds]  # others may have more guardrails
        kinds = hits.shape[1]
        hits += self.hits[found, :kinds]
        self.hits[found, :kinds] = hits
        over = np.logical_or.reduce(hits >= self.least[found, :kinds], axis=1)
        if over.any():
            self.due.update(self.owner[found[over]].tolist())

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """See ``BoundTable``. When a bucket closes, its hits count no more than before."""
        due = [guard for guard in guards if guard.number in self.due] if self.due else []
        found = {guard.number for guard in due if self._is_over(guard)}
        self.due.difference_update(guard.number for guard in due)
        self.due |= found
        return found

    def _is_over(self, guard: Guard) -> bool:
        """Whether there may be evidence enough now; set how many hits may come until there may be.

        Calls without a hit count here: where calls are many, they do. The evidence of open buckets is linear in hits
        and calls, and never below that of the test, in which hits are at most as many as calls. So with any later
        rows, a hit adds ``gain - loss`` to it at most, also where its bucket has closed meanwhile.
        """
        number, windows = guard.number, guard.windows
        rows, bound = self.places[number][0], self.bounds[number]
        for start in windows.held(self.closed[number], windows.closed):
            self._close(guard, *windows.slots[start].dense())
        self.closed[number] = windows.closed
        log, missing = self.log[rows].copy(), bound.min_hits - self.run_hits[rows]
        gain, loss = self.gain[rows] - self.loss[rows], self.loss[rows]
        for start in windows.held(windows.closed, windows.latest()):
            found, sums = self._tested(guard, *windows.slots[start].dense())
            if len(found):
                hits, calls = self._counts(found, sums)
                found = found - rows.start
                missing[found] -= hits
                more = hits[:, :, None] * gain[found] + calls[:, :, None] * loss[found]
                log[found] = np.maximum(log[found] + more, 0.0)
        each = ((bound.evidence - log) / gain).min(axis=2)
        mean = (bound.evidence - mean_evidence(log)) / gain.max(axis=2)
        least = np.maximum(np.maximum(each, mean) - _SLACK, missing)
        kinds = bound.judged.shape[1]
        self.least[rows], self.hits[rows] = np.inf, 0
        self.least[rows, :kinds] = least = np.where(bound.judged, least[:, :kinds], np.inf)
        return bool((least <= 0).any())

    def _tested(self, guard: Guard, places: Matrix, sums: Matrix) -> tuple[Matrix, Matrix]:
        """Rows and sums of the tested series among ``places``."""
        found = self.row_of[places + guard.base]
        tested = found >= 0
        return found[tested], sums[tested]

    def _close(self, guard: Guard, places: Matrix, sums: Matrix) -> None:
        """Move the evidence over a bucket that has closed."""
        found, sums = self._tested(guard, places, sums)
        if len(found):
            log = self.log[found]
            self.log[found], full = self._weighed(log, found, sums)
            self.run_hits[found] = np.where((log <= 0).all(axis=2), 0.0, self.run_hits[found]) + full

    def _weighed(self, log: Floats, rows: Matrix, sums: Matrix) -> tuple[Floats, Floats]:
        """Evidence of ``rows`` after a bucket with ``sums``, and the hits of that bucket."""
        full, calls = self._counts(rows, sums)
        full = np.minimum(full, calls)
        log = log + full[:, :, None] * self.gain[rows] + (calls - full)[:, :, None] * self.loss[rows]
        return np.maximum(log, 0.0), full

    def _counts(self, rows: Matrix, sums: Matrix) -> tuple[Floats, Matrix]:
        """(n, kinds) hits of ``rows``, and what they are a share of."""
        hits = _hits(sums)
        full = np.zeros((len(sums), self.kinds))
        full[:, : hits.shape[1]] = hits
        width = max(len(COLUMNS) + self.kinds - len(KINDS), sums.shape[1])
        padded = np.zeros((len(sums), width), np.int64)
        padded[:, : sums.shape[1]] = sums
        return full, np.take_along_axis(padded, self.base[rows], axis=1)

    def _make_room(self, rows: int, kinds: int) -> None:
        if rows > len(self.owner):
            rows = int(rows * 1.5)
            self.owner = grown(self.owner, rows, -1)
            self.hits, self.run_hits = grown(self.hits, rows), grown(self.run_hits, rows)
            self.base = grown(self.base, rows, COLUMN["calls"])
            self.log, self.loss = grown(self.log, rows), grown(self.loss, rows)
            self.least, self.gain = grown(self.least, rows, np.inf), grown(self.gain, rows, 1.0)
        if kinds > self.kinds:
            more = [(0, 0), (0, kinds - self.kinds)]
            self.hits, self.run_hits = np.pad(self.hits, more), np.pad(self.run_hits, more)
            self.base = np.pad(self.base, more, constant_values=COLUMN["calls"])
            self.least = np.pad(self.least, more, constant_values=np.inf)
            more.append((0, 0))
            self.log, self.loss = np.pad(self.log, more), np.pad(self.loss, more)
            self.gain, self.kinds = np.pad(self.gain, more, constant_values=1.0), kinds


class SurgeBound:
    """Of one app; arrays are (tested series, kinds[, lifts])."""

    table: ClassVar[type[BoundTable] | None] = SurgeBoundTable
    always: ClassVar[bool] = False

    def __init__(self, surge: Surge, state: SurgeState, ahead: Ahead, kinds: list[str]) -> None:
        self.evidence, self.min_hits = surge.evidence, surge.min_hits
        self.windows: Windows = ahead.windows
        self.places: Matrix = np.array(state.places)
        learned = state.calls[state.places.index(ahead.app)] >= surge.min_calls
        dynamic = kinds[len(KINDS) :]
        judged = learned & np.array([kind not in ahead.open for kind in kinds]) & has_hits(dynamic)
        self.judged: Flags = np.broadcast_to(judged, state.calls.shape)
        self.base: Matrix = base_columns(dynamic)
        self.log: Floats = np.maximum(state.log, 0.0)
        self.run_hits: Floats = state.run_hits.max(axis=2)
        spread = overdispersion(surge, state)
        limit = limits_of(surge, state.hits, state.calls, spread)
        one, none = np.ones(limit.shape), np.zeros(limit.shape)
        self.gain = surge.gain(one, one, limit, spread)
        self.loss = surge.gain(none, one, limit, spread)


def _hits(sums: Matrix) -> Matrix:
    """Hits, of as many kinds as ``sums`` has."""
    first = sums[:, _HITS]
    return first if sums.shape[1] == len(COLUMNS) else np.concatenate([first, sums[:, len(COLUMNS) :]], axis=1)
