"""surge over a stretch of buckets: the same numbers as ``Surge.step`` gives one by one, for all of them at once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.surge_learning import held_back, learn, live_slots
from pipelines.detect.detectors.surge_limits import limits_of, overdispersion, shares_of
from pipelines.detect.stretch import ALIGNED, Stretch
from pipelines.detect.windows import RING, SLOT, Floats, Matrix

if TYPE_CHECKING:
    from pipelines.detect.detectors.surge import Surge
    from pipelines.detect.detectors.surge_state import SurgeState


class SurgeScan:
    """One stretch; arrays are (buckets, tested series, kinds), evidence is kept for the pairs that have any."""

    def __init__(self, surge: Surge, state: SurgeState, stretch: Stretch, kinds: list[str]) -> None:
        self.surge, self.state, self.stretch, self.kinds = surge, state, stretch, kinds
        self.open = np.array([kind in stretch.open for kind in kinds])
        """(kinds,) of which an incident is open: there is no evidence beside it."""
        dense = stretch.dense(np.array(state.places))
        self.evicted = dense[: stretch.count]
        self._weigh(*surge.counts(dense[RING:], kinds))
        found = self._found()
        self.quiet = int(found.argmax()) if found.any() else stretch.count

    def _held(self, count: int) -> Floats:
        """What is held back after the first ``count`` buckets."""
        surge, state = self.surge, self.state
        hits, calls = surge.counts(self.evicted[:count], self.kinds)
        slots = [start - RING * SLOT for start in self.stretch.starts[:count]]
        live = live_slots(state, self.stretch.open, self.kinds, np.array(slots))
        added = held_back(state, hits, calls, live[:, None, :])
        held: Floats = np.cumsum(np.concatenate([state.held[None], added]), axis=0)[-1]
        held[:, self.open] = added[-1][:, self.open]  # what was held of an incident is discarded
        return held

    def _weigh(self, hits: Floats, calls: Floats) -> None:
        """Evidence after every bucket. Where there is none, a bucket without a hit leaves none."""
        surge, state, count = self.surge, self.state, self.stretch.count
        self.closed_calls = calls
        self.used = np.nonzero(((state.log > 0).any(axis=2) | (hits > 0).any(axis=0)) & ~self.open)
        row, kind = self.used
        known, spread = (state.hits[row, kind], state.calls[row, kind]), overdispersion(surge, state)[row, kind]
        self.share, limit = shares_of(*known), limits_of(surge, *known, spread)
        hits, calls = hits[:, row, kind], calls[:, row, kind]
        gain = surge.gain(hits, calls, limit, spread)
        self.log = np.empty((count, len(row), gain.shape[2]))
        log = np.maximum(state.log[row, kind], 0)
        for more, out in zip(gain, self.log, strict=True):
            np.add(log, more, out=out)
            log = np.maximum(out, 0, out=out)
        self.hits, self.calls = hits, calls

    @cached_property
    def runs(self) -> tuple[Matrix, Floats, Floats]:
        """(buckets, pairs, lifts) onset, hits and calls of the evidence: it starts again where there was none."""
        state, (row, kind) = self.state, self.used
        restarted = np.concatenate([state.log[row, kind][None] <= 0, self.log[:-1] <= 0])
        steps = np.where(restarted, np.arange(len(restarted))[:, None, None], -1)
        begin = np.maximum.accumulate(steps, axis=0)
        goes_on, begin = begin < 0, np.maximum(begin, 0)
        onset = np.where(goes_on, state.onset[row, kind], self.stretch.first + SLOT * begin)
        hits = _since(self.hits, begin) + np.where(goes_on, state.run_hits[row, kind], 0.0)
        calls = _since(self.calls, begin) + np.where(goes_on, state.run_calls[row, kind], 0.0)
        return onset, hits, calls

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
        _, run_hits, run_calls = self.runs
        mean, _ = surge.clearest(self.log, run_hits, run_calls, self.share)
        found: NDArray[np.bool_] = (learned & tested & (mean >= surge.weak_evidence)).any(axis=1) & warm
        return found

    def learn(self, count: int) -> SurgeState:
        """State after the first ``count`` buckets."""
        surge, state, last = self.surge, self.state, count - 1
        state.held = self._held(count)
        onset, run_hits, run_calls = self.runs
        # a series without evidence is reset with every bucket, and evidence for what is open after it
        known = state.onset[:, self.open]
        restarted = (state.log[:, self.open] <= 0) if count == 1 else np.ones(known.shape, bool)
        state.onset[:], state.run_hits[:] = self.stretch.starts[last], 0.0
        state.onset[:, self.open] = np.where(restarted, self.stretch.starts[last], known)
        state.run_calls[:] = self.closed_calls[last][:, :, None]
        state.run_calls[:, self.open] = 0.0
        state.log[:] = 0.0
        state.log[self.used], state.onset[self.used] = self.log[last], onset[last]
        state.run_hits[self.used], state.run_calls[self.used] = run_hits[last], run_calls[last]
        if self.stretch.starts[last] // SLOT % ALIGNED == 0:
            learn(surge, state)
        return state


def _since(counts: Floats, begin: Matrix) -> Floats:
    """(buckets, pairs, lifts) sums of ``counts`` (buckets, pairs), which are whole numbers, since bucket ``begin``."""
    total = np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)])
    since: Floats = total[1:, :, None] - total[begin, np.arange(counts.shape[1])[:, None]]
    return since
