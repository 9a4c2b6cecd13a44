"""surge over a stretch of buckets: the same numbers as ``Surge.step`` gives one by one, for all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.stretch import ALIGNED, Stretch
from pipelines.detect.windows import RING, SLOT, Floats

if TYPE_CHECKING:
    from pipelines.detect.detectors.surge import Surge
    from pipelines.detect.detectors.surge_state import SurgeState


class SurgeScan:
    """One stretch; arrays are (buckets, tested series, kinds), evidence is kept for the pairs that have any."""

    def __init__(self, surge: Surge, state: SurgeState, stretch: Stretch, kinds: list[str]) -> None:
        self.surge, self.state, self.stretch, self.kinds = surge, state, stretch, kinds
        dense = stretch.dense(np.array(state.places))
        self.leaving = dense[: stretch.count]
        self._weigh(*surge.counts(dense[RING:], kinds))
        found = self._found()
        self.quiet = int(found.argmax()) if found.any() else stretch.count

    def _held(self, count: int) -> Floats:
        """What is held back after the first ``count`` buckets."""
        surge, state = self.surge, self.state
        hits, calls = surge.counts(self.leaving[:count], self.kinds)
        slots = [start - RING * SLOT for start in self.stretch.starts[:count]]
        live = np.array([[not surge.is_muted(state, {}, k, slot) for k in self.kinds] for slot in slots])
        added = surge.held_back(state, hits, calls, live[:, None, :])
        held: Floats = np.cumsum(np.concatenate([state.held[None], added]), axis=0)[-1]
        return held

    def _weigh(self, hits: Floats, calls: Floats) -> None:
        """Evidence after every bucket. Where there is none, a bucket without a hit leaves none."""
        surge, state, count = self.surge, self.state, self.stretch.count
        self.closed_calls = calls
        self.used = np.nonzero((state.log > 0).any(axis=2) | (hits > 0).any(axis=0))
        row, kind = self.used
        self.share, bar = surge.bars(state.hits[row, kind], state.calls[row, kind])
        hits, calls = hits[:, row, kind], calls[:, row, kind]
        gain = surge.gain(hits, calls, bar, state.spread[row, kind], state.spread_slots[row, kind])
        shape = (count, len(row), gain.shape[2])
        self.log, self.run_hits, self.run_calls = (np.empty(shape) for _ in range(3))
        self.onset = np.empty(shape, np.int64)
        log, onset = state.log[row, kind], state.onset[row, kind]
        run_hits, run_calls = state.run_hits[row, kind], state.run_calls[row, kind]
        for i, slot in enumerate(self.stretch.starts):
            restarted = log <= 0
            onset = np.where(restarted, slot, onset)
            run_hits = np.where(restarted, 0.0, run_hits) + hits[i][:, None]
            run_calls = np.where(restarted, 0.0, run_calls) + calls[i][:, None]
            log = np.maximum(np.maximum(log, 0) + gain[i], 0)
            self.log[i], self.onset[i], self.run_hits[i], self.run_calls[i] = log, onset, run_hits, run_calls

    def _found(self) -> NDArray[np.bool_]:
        """(buckets,) whether there is a finding."""
        surge, stretch, state = self.surge, self.stretch, self.state
        warm = stretch.until - stretch.windows.first >= surge.warm_up_s * 1e6
        strong = self.log[warm] >= surge.weak_evidence
        if not strong.any():
            return np.zeros(stretch.count, bool)
        row, kind = self.used
        learned = state.calls[state.places.index(stretch.app), kind] >= surge.min_calls
        tested = surge.tested(stretch.windows, stretch.app)[state.places][row]
        mean, hits, calls, _ = surge.best(self.log, self.run_hits, self.run_calls, self.onset)
        clear = surge.clear(hits, calls, self.share) & learned & tested
        found: NDArray[np.bool_] = (clear & (mean >= surge.weak_evidence)).any(axis=1) & warm
        return found

    def learn(self, count: int) -> SurgeState:
        """State after the first ``count`` buckets."""
        surge, state, last = self.surge, self.state, count - 1
        state.held = self._held(count)
        # a series without evidence is reset with every bucket
        state.onset[:], state.run_hits[:] = self.stretch.starts[last], 0.0
        state.run_calls[:] = self.closed_calls[last][:, :, None]
        state.log[:] = 0.0
        state.log[self.used], state.onset[self.used] = self.log[last], self.onset[last]
        state.run_hits[self.used], state.run_calls[self.used] = self.run_hits[last], self.run_calls[last]
        if self.stretch.starts[last] // SLOT % ALIGNED == 0:
            surge.learn(state)
        return state
