"""How many hits a series must have in its open buckets before ``Surge`` may find anything, for some minutes ahead.

The evidence of a lift grows by a fixed number per hit and falls by a fixed number per call without one, as long as the
baseline is the same: it is updated when ten minutes end, and bounds end before. So an upper bound is moved bucket by
bucket like the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.detect.bounds import Ahead, Flags, Ranges, Rows, grown
from pipelines.detect.detectors.likelihood import mean_evidence
from pipelines.detect.detectors.surge_state import BASES, KINDS, LIFTS
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


class SurgeTable:
    """Arrays are (tested series of all apps, kinds[, lifts]); kinds that an app does not have have no hit."""

    name: ClassVar[str] = "surge"

    def __init__(self) -> None:
        self.row_of: Matrix = np.full(0, -1)
        """(series,) row of the tested series; -1 where it is not tested."""
        self.kinds = len(KINDS)
        self.owner: Matrix = np.zeros(0, np.int64)
        """(tested,) number of the app; -1 where there is none."""
        self.hits: Matrix = np.zeros((0, self.kinds), np.int64)
        """In open buckets."""
        self.least: Floats = np.zeros((0, self.kinds))
        """Hits in open buckets below which there is no finding."""
        self.run_hits: Floats = np.zeros((0, self.kinds))
        self.log: Floats = np.zeros((0, self.kinds, len(LIFTS)))
        self.gain: Floats = np.zeros(self.log.shape)
        """What a hit adds to the evidence."""
        self.loss: Floats = np.zeros(self.log.shape)
        """What a call without one adds: it is negative."""
        self.whole = set[int]()
        """Apps of which all series are to be compared, not only those that moved."""
        self.bounds: dict[int, SurgeBound] = {}
        self.places: dict[int, tuple[Guard, slice, int]] = {}
        """Number of an app -> (guard, its tested series, rows set aside for them)."""
        self.moved: list[Matrix] = []
        self._ranges = Ranges()

    def resize(self, apps: int, rows: int) -> None:
        """See ``BoundTable``."""
        self.row_of = grown(self.row_of, rows, -1)

    def put(self, guard: Guard, bound: SurgeBound) -> None:
        """See ``BoundTable``."""
        tested, kinds = bound.least().shape
        size = Ranges.size(tested)
        first = self._ranges.take(size)
        self._make_room(self._ranges.rows, kinds)
        rows = slice(first, first + tested)
        self.owner[rows], self.hits[rows], self.least[rows] = guard.number, 0, np.inf
        self.log[rows], self.run_hits[rows] = 0.0, 0.0
        self.log[rows, :kinds], self.run_hits[rows, :kinds] = bound.log, bound.run_hits
        self.gain[rows, :kinds], self.loss[rows, :kinds] = bound.gain, bound.loss
        self.least[rows, :kinds] = bound.least()
        self.row_of[guard.base + np.array(bound.places)] = np.arange(first, first + tested)
        self.bounds[guard.number], self.places[guard.number] = bound, (guard, slice(first, first + tested), size)
        self.whole.add(guard.number)
        windows = guard.windows
        for start in windows.held(windows.closed, guard.until):
            places, sums = windows.slots[start].dense()
            self._add(places + guard.base, sums)

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.whole.discard(guard.number)
        if self.bounds.pop(guard.number, None) is not None:
            _, rows, size = self.places.pop(guard.number)
            self.row_of[guard.base : guard.base + guard.size] = -1
            self.owner[rows], self.least[rows] = -1, np.inf
            self._ranges.give_back(rows.start, size)

    def grow(self, guard: Guard, before: int) -> None:
        """A series that is new is a user, who is not tested."""

    def add(self, rows: Rows) -> None:
        """See ``BoundTable``."""
        self._add(rows.rows, rows.sums)

    def move(self, guards: Sequence[tuple[Guard, int]]) -> None:
        """Open buckets are open, whatever the end of the windows is."""

    def close(self, rows: Rows) -> None:
        """Move the evidence over buckets that have closed."""
        found = self.row_of[rows.rows]
        tested = found >= 0
        if not tested.any():
            return
        found, sums = found[tested], rows.sums[tested]
        hits = _hits(sums)
        self.hits[found, : hits.shape[1]] -= hits
        log = self.log[found]
        self.log[found], full = self._weighed(log, found, sums)
        self.run_hits[found] = np.where((log <= 0).all(axis=2), 0.0, self.run_hits[found]) + full
        self.least[found] = self._least(found)
        self.moved.append(found)

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """See ``BoundTable``."""
        whole = [guard.number for guard in guards if guard.number in self.whole]
        parts, self.moved = self.moved, []
        for number in whole:
            place = self.places[number][1]
            parts.append(np.arange(place.start, place.stop))
        found = set[int]()
        if parts:
            rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
            over = np.logical_or.reduce(self.hits[rows] >= self.least[rows], axis=1)
            if over.any():
                found = self._over(rows[over])
        self.whole.difference_update(whole)
        self.whole |= found
        return found

    def _over(self, rows: Matrix) -> set[int]:
        """Apps in which there may be evidence enough; ``rows`` have hits enough, and may come twice."""
        by_app: dict[int, set[int]] = {}
        for row, number in zip(rows.tolist(), self.owner[rows].tolist(), strict=True):
            by_app.setdefault(number, set()).add(row)
        return {number for number, found in by_app.items() if self._is_over(number, np.array(sorted(found)))}

    def _add(self, series: Matrix, sums: Matrix) -> None:
        hits = _hits(sums)
        rows = self.row_of[series]
        tested = (rows >= 0) & hits.any(axis=1)
        if tested.any():
            rows = rows[tested]
            self.hits[rows, : hits.shape[1]] += hits[tested]
            self.moved.append(rows)

    def _is_over(self, number: int, rows: Matrix) -> bool:
        """Whether there is evidence enough once the calls without a hit count, too: where calls are many, they do."""
        guard, bound = self.places[number][0], self.bounds[number]
        over, log = self.hits[rows] >= self.least[rows], self.log[rows]
        place_of = np.full(len(self.hits), -1)
        place_of[rows] = np.arange(len(rows))
        windows = guard.windows
        for start in windows.held(windows.closed, windows.latest()):
            places, sums = windows.slots[start].dense()
            found = self.row_of[places + guard.base]
            looked_at = (found >= 0) & (place_of[found] >= 0)
            if looked_at.any():
                found, sums = found[looked_at], sums[looked_at]
                log[place_of[found]], _ = self._weighed(log[place_of[found]], found, sums)
        return bool((over & (mean_evidence(log) >= bound.evidence - _SLACK)).any())

    def _weighed(self, log: Floats, rows: Matrix, sums: Matrix) -> tuple[Floats, Floats]:
        """Evidence of ``rows`` after a bucket with ``sums``, and the hits of that bucket."""
        hits = _hits(sums)
        full = np.zeros((len(sums), self.kinds))
        full[:, : hits.shape[1]] = hits
        calls = np.repeat(sums[:, [COLUMN["calls"]]], self.kinds, axis=1)
        for kind, base in BASES.items():
            calls[:, KINDS.index(kind)] = sums[:, COLUMN[base]]
        full = np.minimum(full, calls)
        log = log + full[:, :, None] * self.gain[rows] + (calls - full)[:, :, None] * self.loss[rows]
        return np.maximum(log, 0.0), full

    def _least(self, rows: Matrix) -> Floats:
        """As ``SurgeBound.least``; what is never judged stays so."""
        evidence, min_hits = next((b.evidence, b.min_hits) for b in self.bounds.values())
        least = _least(self.log[rows], self.gain[rows], self.run_hits[rows], evidence, min_hits)
        return np.where(np.isinf(self.least[rows]), np.inf, least)

    def _make_room(self, rows: int, kinds: int) -> None:
        if rows > len(self.owner):
            rows = int(rows * 1.5)
            self.owner = grown(self.owner, rows, -1)
            self.hits, self.run_hits = grown(self.hits, rows), grown(self.run_hits, rows)
            self.log, self.loss = grown(self.log, rows), grown(self.loss, rows)
            self.least, self.gain = grown(self.least, rows, np.inf), grown(self.gain, rows, 1.0)
        if kinds > self.kinds:
            more = [(0, 0), (0, kinds - self.kinds)]
            self.hits, self.run_hits = np.pad(self.hits, more), np.pad(self.run_hits, more)
            self.least = np.pad(self.least, more, constant_values=np.inf)
            more.append((0, 0))
            self.log, self.loss = np.pad(self.log, more), np.pad(self.loss, more)
            self.gain, self.kinds = np.pad(self.gain, more, constant_values=1.0), kinds


class SurgeBound:
    """Of one app; arrays are (tested series, kinds[, lifts])."""

    table: ClassVar[type[BoundTable] | None] = SurgeTable
    always: ClassVar[bool] = False

    def __init__(self, surge: Surge, state: SurgeState, ahead: Ahead, kinds: list[str]) -> None:
        self.evidence, self.min_hits = surge.evidence, surge.min_hits
        self.windows: Windows = ahead.windows
        self.places = list(state.places)
        learned = state.calls[state.places.index(ahead.app)] >= surge.min_calls
        self.judged: Flags = learned & np.array([kind not in ahead.open for kind in kinds])
        self.log: Floats = np.maximum(state.log, 0.0)
        self.run_hits: Floats = state.run_hits.max(axis=2)
        bar = surge.bars(state.hits, state.calls)[1]
        one, none = np.ones(bar.shape), np.zeros(bar.shape)
        self.gain = surge.gain(one, one, bar, state.spread, state.spread_slots)
        self.loss = surge.gain(none, one, bar, state.spread, state.spread_slots)

    def least(self) -> Floats:
        """Hits in open buckets below which there is no finding."""
        least = _least(self.log, self.gain, self.run_hits, self.evidence, self.min_hits)
        return np.where(self.judged, least, np.inf)


def _least(log: Floats, gain: Floats, run_hits: Floats, evidence: float, min_hits: int) -> Floats:
    enough = ((evidence - log) / gain).min(axis=2)
    least: Floats = np.maximum(enough * (1 - _SLACK), min_hits - run_hits)
    return least


def _hits(sums: Matrix) -> Matrix:
    """Hits, of as many kinds as ``sums`` has."""
    first = sums[:, _HITS]
    return first if sums.shape[1] == len(COLUMNS) else np.concatenate([first, sums[:, len(COLUMNS) :]], axis=1)
