"""How many hits a series must have in its open buckets before ``Surge`` may find anything, for some minutes ahead.

The evidence of a lift grows by a fixed number per hit and falls by a fixed number per call without one, as long as the
baseline is the same: it is updated when ten minutes end, and bounds end before. So an upper bound is moved bucket by
bucket like the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.bounds import Ahead
from pipelines.detect.detectors.surge_state import BASES
from pipelines.detect.items import COLUMN, COLUMNS
from pipelines.detect.windows import Floats, Matrix

if TYPE_CHECKING:
    from pipelines.detect.detectors.surge import Surge
    from pipelines.detect.detectors.surge_state import SurgeState

_SLACK = 1e-6


class SurgeBound:
    """Arrays are (tested series, kinds[, lifts])."""

    def __init__(self, surge: Surge, state: SurgeState, ahead: Ahead, kinds: list[str]) -> None:
        windows = ahead.windows
        self.surge, self.windows = surge, windows
        self.never = ahead.last - windows.first < surge.warm_up_s * 1e6
        if self.never:
            return
        self.row_of = np.full(len(windows.series), -1)
        self.row_of[state.places] = np.arange(len(state.places))
        self.first_kinds = len(kinds) - len(windows.kinds)
        self.columns = np.array([*(COLUMN[k] for k in kinds[: self.first_kinds])])
        self.base = np.full(len(kinds), COLUMN["calls"])
        for kind, base in BASES.items():
            self.base[kinds.index(kind)] = COLUMN[base]
        learned = state.calls[state.places.index(ahead.app)] >= surge.min_calls
        self.judged = learned & np.array([kind not in ahead.open for kind in kinds])
        self._gains(state)
        self.log, self.run_hits = np.maximum(state.log, 0.0), state.run_hits.max(axis=2)
        self.hits: Matrix = np.zeros(state.calls.shape, np.int64)
        self.moved: list[Matrix] = []
        for start in windows.held(ahead.first, ahead.until):
            self.add(start, *windows.slots[start].dense())
        self.least = self._least(slice(None))
        self.everything = True

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Add the hits of an open bucket."""
        if self.never:
            return
        rows, sums = self._tested(places, sums)
        if len(rows):
            hits = self._hits(sums)
            self.hits[rows, : hits.shape[1]] += hits
            self.moved.append(rows)

    def close(self, start: int) -> None:
        """Move the evidence over a bucket that has closed."""
        slot = self.windows.slots.get(start)
        if self.never or slot is None:
            return
        rows, sums = self._tested(*slot.dense())
        if not len(rows):
            return
        hits = self._hits(sums)
        self.hits[rows, : hits.shape[1]] -= hits
        log = self.log[rows]
        self.log[rows], full = self._weighed(log, rows, sums)
        self.run_hits[rows] = np.where((log <= 0).all(axis=2), 0.0, self.run_hits[rows]) + full
        self.least[rows] = self._least(rows)
        self.moved.append(rows)

    def may_find(self, until: int) -> bool:
        """Whether a series that moved may have evidence enough."""
        if self.never or not (self.everything or self.moved):
            return False
        if self.everything:
            rows = np.arange(len(self.hits))
        else:
            rows = self.moved[0] if len(self.moved) == 1 else np.concatenate(self.moved)
        over = self.hits[rows] >= self.least[rows]
        self.everything, self.moved = bool(over.any()) and self._is_over(rows, over, until), []
        return self.everything

    def spare(self, slack: Floats) -> bool:
        """Hits that are missing; one where there are enough of them and calls speak against it.

        A bucket that closes moves its hits from here into the evidence, and its calls only lower that.
        """
        if not self.never:
            least = np.maximum(self.least - self.hits, 1.0).min(axis=0)
            more = np.arange(len(COLUMNS), len(COLUMNS) + len(least) - self.first_kinds)
            columns = np.concatenate([self.columns, more])
            slack[columns] = np.minimum(slack[columns], least)
        return True

    def _is_over(self, rows: Matrix, over: NDArray[np.bool_], until: int) -> bool:
        """Whether there is evidence enough once the calls without a hit count, too: where calls are many, they do."""
        windows, some = self.windows, over.any(axis=1)
        rows, at = np.unique(rows[some], return_index=True)
        over, log = over[some][at], self.log[rows]
        place_of = np.full(len(self.hits), -1)
        place_of[rows] = np.arange(len(rows))
        for start in windows.held(windows.closed, until):
            found, sums = self._tested(*windows.slots[start].dense())
            looked_at = place_of[found] >= 0
            found, sums = found[looked_at], sums[looked_at]
            places = place_of[found]
            log[places], _ = self._weighed(log[places], found, sums)
        top = log.max(axis=2)
        mean = top + np.log(np.exp(log - top[:, :, None]).mean(axis=2))
        return bool((over & (mean >= self.surge.evidence - _SLACK)).any())

    def _weighed(self, log: Floats, rows: Matrix, sums: Matrix) -> tuple[Floats, Floats]:
        """Evidence of ``rows`` after a bucket with ``sums``, and the hits of that bucket."""
        hits, calls = self._hits(sums), sums[:, self.base]
        full = np.zeros(calls.shape)
        full[:, : hits.shape[1]] = hits
        full = np.minimum(full, calls)
        log = log + full[:, :, None] * self.gain[rows] + (calls - full)[:, :, None] * self.loss[rows]
        return np.maximum(log, 0.0), full

    def _tested(self, places: Matrix, sums: Matrix) -> tuple[Matrix, Matrix]:
        """Rows of tested series, and their sums."""
        inside = places < len(self.row_of)  # a series that is new is a user, who is not tested
        if not inside.all():
            places, sums = places[inside], sums[inside]
        rows = self.row_of[places]
        tested = rows >= 0
        return rows[tested], sums[tested]

    def _hits(self, sums: Matrix) -> Matrix:
        """Hits, of as many kinds as ``sums`` has."""
        return np.concatenate([sums[:, self.columns], sums[:, len(COLUMNS) :]], axis=1)

    def _least(self, rows: Matrix | slice) -> Floats:
        """Hits in open buckets below which there is no finding."""
        enough = ((self.surge.evidence - self.log[rows]) / self.gain[rows]).min(axis=2)
        least = np.maximum(enough * (1 - _SLACK), self.surge.min_hits - self.run_hits[rows])
        return np.where(self.judged, least, np.inf)

    def _gains(self, state: SurgeState) -> None:
        """What a hit adds, and a call without one (it is negative), by the baseline until ten minutes end."""
        surge = self.surge
        bar = surge.bars(state.hits, state.calls)[1]
        one, none = np.ones(bar.shape), np.zeros(bar.shape)
        self.gain = surge.gain(one, one, bar, state.spread, state.spread_slots)
        self.loss = surge.gain(none, one, bar, state.spread, state.spread_slots)
