"""spike over a stretch of buckets: the same numbers as ``Spike.step`` gives one by one, for all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.baseline import BUCKET
from pipelines.detect.detectors.level_scan import LevelScan
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch, window_sums
from pipelines.detect.windows import RING, SLOT, Floats

if TYPE_CHECKING:
    from pipelines.detect.detectors.spike import Spike
    from pipelines.detect.detectors.spike_state import SpikeState

Flags = NDArray[np.bool_]
WINDOWS = (6, 30)
"""Slots: one minute, five minutes."""
COLUMNS = [COLUMN["cost_nanousd"], COLUMN["tokens"], COLUMN["calls"]]
DIVISOR = np.array([1e9, 1.0, 1.0])
"""Divided by, not multiplied: a sum of nano-USD over 1e9 is the double next to the exact decimal."""


class SpikeScan:
    """One stretch; arrays are (buckets, rows, ...), the app's own row first."""

    def __init__(self, spike: Spike, state: SpikeState, stretch: Stretch) -> None:
        self.spike, self.state, self.stretch = spike, state, stretch
        windows, self.rows = stretch.windows, stretch.active()
        self.named = windows.named[self.rows]
        self.named[0] = True
        self.high_cardinality = windows.high_cardinality()[self.rows]
        self.group = windows.group[self.rows]
        dense = stretch.dense(self.rows, COLUMNS)
        evicted = [slot - RING * SLOT for slot in stretch.starts]
        since, end = stretch.open.get("spend", 0), stretch.first + stretch.count * SLOT
        muted = [*state.muted, (since, end)] if since else state.muted
        learned = [None if any(a <= slot < b for a, b in muted) else slot for slot in evicted]
        self.level = LevelScan(state.level, dense[: stretch.count] / DIVISOR, self.rows, learned, spike.half_life_s)
        if since:  # a family that is open has no other incident, and sets no records
            self.quiet, self.sets_records = stretch.count, np.zeros(stretch.count, bool)
        else:
            self._windows(dense)

    def _windows(self, dense: NDArray[np.int64]) -> None:
        spike, stretch, count = self.spike, self.stretch, self.stretch.count
        self.expected = self.level.expected(stretch.starts)
        self.floor = spike.floor
        self.own = self.expected[:, 0] + self.floor
        self.pooled = self.high_cardinality | (self.expected[:, :, 2] * WINDOWS[1] < spike.sparse_calls)
        self.pooled[:, 0] = False
        self.warm_up_factor = 1.0 + spike.young * 3.6e9 / np.maximum(stretch.until - stretch.windows.first, 1)
        self.ratios = np.zeros((count, len(self.rows), 5, 2))
        self.shares = np.zeros((count, len(self.rows), 3, 2))
        breached = np.zeros(count, bool)
        # no window begins before the end of the last incident
        starts = stretch.first + SLOT * np.arange(-RING, count)
        if starts[0] < self.state.cut:
            dense = np.where((starts >= self.state.cut)[:, None, None], dense, 0)
        for i, slots in enumerate(WINDOWS):
            seen = window_sums(dense, slots) / DIVISOR
            breached |= self._sums(i, slots, seen)
            breached |= self._per_call(i, slots, seen)
        warm = stretch.until - stretch.windows.first >= spike.warm_up_s * 1e6
        learned = self.level.den > 0
        breached &= warm & learned
        self.quiet = int(breached.argmax()) if breached.any() else count
        self.sets_records = learned & (self.level.den >= spike.mature_slots)
        self.quiet = min(self.quiet, self._until_records_move())

    def _until_records_move(self) -> int:
        """Buckets until the records of finished ten minutes move up, which changes the limits of all later buckets."""
        for i in np.flatnonzero(self.sets_records).tolist():
            if self.stretch.starts[i] // BUCKET != self.state.records.bucket:
                return int(i) + 1
        return self.stretch.count

    def _limits(self, measures: list[int], window: int) -> Floats:
        """(buckets, rows, measures): least ratio that breaches."""
        spike, held = self.spike, self.state.records.held(len(self.stretch.windows.series))
        least = np.array([spike.ratio_per_call if m >= 3 else spike.ratio for m in measures])
        margin = np.array([spike.margin**0.5 + 0.1 if m >= 3 else spike.margin for m in measures])
        records = (margin * self.warm_up_factor[:, None])[:, None, :] * held[self.rows][:, measures, window]
        limits: Floats = np.maximum(least, records)
        return limits

    def _sums(self, i: int, slots: int, seen: Floats) -> Flags:
        """Cost, tokens and calls of a window; (buckets,) whether any breaches."""
        spike, expected, floor = self.spike, self.expected, self.floor
        excess = seen - slots * expected
        apart = (np.arange(len(self.rows)) != 0)[:, None]
        least = np.maximum(slots * floor, spike.least)
        big = excess >= np.maximum(least, spike.part[i] * slots * self.own[:, None, :] * apart)
        self.ratios[:, :, :3, i] = seen / (slots * (expected + floor))
        self.shares[:, :, :, i] = seen / (slots * self.own[:, None, :])
        counted = seen[:, :, 2] >= np.where(self.pooled, spike.min_calls_wide, spike.min_calls)
        big &= (counted & self.named)[:, :, None]
        if not big.any():
            return np.zeros(len(seen), bool)
        single = big & ~self.pooled[:, :, None] & (self.ratios[:, :, :3, i] / self._limits([0, 1, 2], i) > 1)
        held = self.state.pool.held(len(self.stretch.windows.groups))[self.group][:, :, i]
        pooled = np.maximum(spike.part[i], (spike.margin * self.warm_up_factor)[:, None, None] * held)
        above = seen > slots * (spike.ratio * expected + floor)
        shared = big & self.pooled[:, :, None] & above & (self.shares[:, :, :, i] / pooled > 1)
        found: Flags = (single | shared).any(axis=(1, 2))
        return found

    def _per_call(self, i: int, slots: int, seen: Floats) -> Flags:
        """Cost and tokens per call in a window; (buckets,) whether any breaches."""
        spike, expected = self.spike, self.expected
        enough = seen[:, :, 2] >= spike.min_calls_per_call
        if not enough.any():
            return np.zeros(len(seen), bool)
        enough &= (self.level.num[:, :, 2] >= 100) & self.named & ~self.pooled
        calls = np.maximum(seen[:, :, 2], 1.0)
        least = np.maximum(slots * self.floor, spike.least)
        found = np.zeros(len(seen), bool)
        for m in (0, 1):
            normal = expected[:, :, m] / np.maximum(expected[:, :, 2], 1e-12)
            usual = enough & (normal > 0)
            ratio = np.where(usual, seen[:, :, m] / calls / np.maximum(normal, 1e-12), 0.0)
            more = (seen[:, :, m] - calls * normal) >= np.maximum(least[m], 0.1 * slots * self.own[:, m])[:, None]
            self.ratios[:, :, 3 + m, i] = ratio
            found |= (more & (ratio / self._limits([3 + m], i)[:, :, 0] > 1)).any(axis=1)
        return found

    def learn(self, count: int) -> SpikeState:
        """State after the first ``count`` buckets."""
        state, starts = self.state, self.stretch.starts
        state.level = self.level.learn(count)
        kept = np.flatnonzero(self.sets_records[:count])
        last = [i for i in kept.tolist() if starts[i] // BUCKET != state.records.bucket]
        before = kept[: len(kept) - len(last)]
        for part in (before, np.array(last, np.int64)):
            if len(part):
                self._learn_records(part, starts[int(part[0])])
        return state

    def _learn_records(self, buckets: NDArray[np.int64], slot: int) -> None:
        windows, records, pool = self.stretch.windows, self.state.records, self.state.pool
        everything = len(buckets) == self.stretch.count
        ratios = (self.ratios if everything else self.ratios[buckets]).max(axis=0)
        ratios[self.high_cardinality] = 0.0
        records.raise_to(self.rows, ratios, slot, len(windows.series))
        counted = (self.pooled[buckets] & self.named)[:, :, None, None]
        shares = np.where(counted, self.shares[buckets], 0.0).max(axis=0)
        tops = np.zeros((len(windows.groups), 3, 2))
        np.maximum.at(tops, self.group, shares)
        pool.learn(tops, slot)
