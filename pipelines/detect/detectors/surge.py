"""surge: the share of calls that a guardrail stopped, that failed, were refused, cut off ... is above its baseline.

One test whose result may be read after every slot, without an end: an e-detector (Shin, Ramdas, Rinaldo, arXiv
2203.03532). For each of a few lifts the likelihood ratio of "share = lift x limit" against "share <= limit" is a
supermartingale while nothing is wrong; restarted at one like a CUSUM and averaged over the lifts, it exceeds 1/alpha on
average not before 1/alpha slots. ``surge_limits`` has the limit, and the overdispersion by which the log ratio is
divided.

A bucket that leaves the ring is held back first. Every ten minutes what is held of a series and kind is added to its
baseline, unless there is evidence against the baseline: then it is held until the evidence is zero again (learned), or
an incident begins (discarded). So a share that rises does not become the baseline that it is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead, Bound, CannotFind
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.likelihood import log_ratios, mean_evidence
from pipelines.detect.detectors.surge_bases import base_columns, columns_of, has_hits, learned_from
from pipelines.detect.detectors.surge_bound import SurgeBound
from pipelines.detect.detectors.surge_finding import findings_of, labels_of
from pipelines.detect.detectors.surge_learning import hold, learn
from pipelines.detect.detectors.surge_limits import (
    least_reported,
    least_share,
    limits_of,
    overdispersion,
    shares_of,
)
from pipelines.detect.detectors.surge_scan import SurgeScan
from pipelines.detect.detectors.surge_state import KINDS, LIFTS, SurgeState
from pipelines.detect.items import COLUMN, COLUMNS
from pipelines.detect.stretch import ALIGNED, Stretch
from pipelines.detect.windows import RING, SLOT, Floats, Matrix, Windows
from schemas.rollups import series_pairs

MAX_ROWS = 512
"""Series tested per app."""


@dataclass(frozen=True)
class Surge:
    """The proportion is above its baseline, by a test that holds under continuous looking."""

    name: ClassVar[str] = "surge"
    shares: ClassVar[tuple[str, ...]] = ("errors",)
    """Families of which another detector may find an incident, too: what is over is not learned here either."""
    evidence: float = 12.0
    """Log of 1/alpha: while the share is at the limit itself one false alarm in e^12 slots, 19 days; at the learned
    share, below the limit, far fewer."""
    weak_evidence: float = 4.0
    tolerance: float = 1.1
    """Least multiple of the learned share against which there is evidence, and ``slack``, which is added to it."""
    slack: float = 0.001
    lift: float = 2.0
    """Least multiple of the learned share, and ``rise``: least distance to it, since the onset."""
    rise: float = 0.01
    min_hits: int = 5
    min_calls: int = 200
    """Calls learned before anything is reported."""
    warm_up_s: float = 1800.0
    half_life_s: float = 21_600.0
    max_spread: float = 20.0
    certainty: float = 2.5
    """Standard deviations from the learned share to the limit: a baseline of few calls may be wrong itself."""
    hold_most_s: float = 86_400.0
    """Event time after which what is held back becomes part of the baseline, with any evidence."""

    def initial_state(self) -> SurgeState:
        """State of an app never seen."""
        return SurgeState()

    def step(self, state: SurgeState, view: View) -> tuple[SurgeState, list[Finding]]:
        """Learn the slot that left the ring, weigh the one that closed, judge with the open ones."""
        self._fit(state, view.windows, view.app)
        kinds = self._kinds(view)
        share, spread = shares_of(state.hits, state.calls), overdispersion(self, state)
        limit = limits_of(self, state.hits, state.calls, spread)
        if view.closed is not None:
            hits, calls = self.counts(view.windows.total(view.closed, view.closed + SLOT)[state.places], kinds)
            self._weigh(state, self.gain(hits, calls, limit, spread), hits, calls, view.closed)
            for i, kind in enumerate(kinds):
                if kind in view.open:
                    self._restart(state, i)
        trial = self._tentative(state, view, kinds, (limit, spread))
        warm = view.until - view.windows.first >= self.warm_up_s * 1e6
        findings = findings_of(self, trial, view, kinds, share) if warm else []
        if view.evicted is not None and view.closed is not None:
            hold(self, state, view, kinds)
            if view.closed // SLOT % ALIGNED == 0:
                learn(self, state)
        return state, findings

    def scan(self, state: SurgeState, stretch: Stretch) -> SurgeScan:
        """The same over many buckets, while nothing is open."""
        self._fit(state, stretch.windows, stretch.app)
        return SurgeScan(self, state, stretch, [*KINDS, *stretch.windows.kinds])

    def bound(self, state: SurgeState, ahead: Ahead) -> Bound:
        """How many hits open buckets must hold before there may be evidence enough."""
        self._fit(state, ahead.windows, ahead.app)
        if ahead.last - ahead.windows.first < self.warm_up_s * 1e6:
            return CannotFind()
        return SurgeBound(self, state, ahead, [*KINDS, *ahead.windows.kinds])

    def idle(self, state: SurgeState, slots: int) -> SurgeState:
        """No calls, no proportion; what is held back is learned as at the end of ten minutes."""
        learn(self, state)
        return state

    def observe(
        self, state: SurgeState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Hits and calls per slot; the learned share, and the least share that raises an alarm."""
        kind = self._kinds(view).index(finding.family)
        place = view.windows.index.get(finding.target)
        # a user is not tested alone: the normal share of the app is used
        row = state.places.index(place if place in state.places else view.app)
        spread = overdispersion(self, state)[row, kind]
        hits, calls = state.hits[row, kind], state.calls[row, kind]
        share = shares_of(hits, calls)
        limit = least_reported(self, share, limits_of(self, hits, calls, spread))
        terms = Terms(float(share), float(limit), dispersion=float(spread), share=True)
        if place is None:
            return terms, [Bucket(0.0, 0.0, 0.0)] * ((until - since) // SLOT)
        top, base = columns_of(finding.family, view.windows.kinds)
        seen = view.windows.of(place, base, since, until).astype(float)
        found = np.minimum(view.windows.of(place, top, since, until), seen)
        return terms, [Bucket(h, n, n) for h, n in zip(found.tolist(), seen.tolist(), strict=True)]

    def has_steady_terms(self, state: SurgeState, finding: Finding, slot: int) -> bool:
        """Baselines are updated when ten minutes end."""
        return slot // SLOT % ALIGNED != 0

    def about_app(self, state: SurgeState, view: View, finding: Finding) -> Finding:
        """The same share, as learned of the whole app."""
        kind, target = self._kinds(view).index(finding.family), view.windows.own
        labels = labels_of(finding.family)
        row = state.places.index(view.app)
        expected = float(shares_of(state.hits[row, kind], state.calls[row, kind]))
        return replace(
            finding,
            target=target,
            series={**series_pairs(target), **labels},
            expected=expected,
            causes=(),
            users=None,
        )

    def on_resolved(self, state: SurgeState, finding: Finding, end: int, proven: int) -> SurgeState:
        """Reset the evidence; neither the incident nor the time until its end was proven enters the baseline."""
        kept = [m for m in state.muted if m[2] > finding.start - 2 * RING * SLOT]
        state.muted = [*kept, (finding.family, finding.start, proven)]
        return state

    def _kinds(self, view: View) -> list[str]:
        return [*KINDS, *view.windows.kinds]

    def _fit(self, state: SurgeState, windows: Windows, app: int) -> None:
        state.clear(windows.reused)
        known = set(state.places)
        for place in np.flatnonzero(self.tested(windows, app)).tolist():
            if place not in known and len(state.places) < MAX_ROWS:
                state.places.append(place)
        width = len(KINDS) + len(windows.kinds)
        state.fit(width, learned_from(windows.kinds) if width > state.calls.shape[1] else ())

    def tested(self, windows: Windows, app: int) -> NDArray[np.bool_]:
        """(series,): the app's own, and those below it without a dimension of high cardinality."""
        tested = windows.named & ~windows.high_cardinality()
        tested[app] = True
        return tested

    def counts(self, sums: Matrix, kinds: list[str]) -> tuple[Floats, Floats]:
        """Hits and calls (..., series, kinds) out of sums (..., series, columns)."""
        rows = sums.astype(float)
        more = range(len(COLUMNS), len(COLUMNS) + len(kinds) - len(KINDS))
        hits = rows[..., [*(COLUMN[k] for k in KINDS), *more]]
        dynamic = kinds[len(KINDS) :]
        calls = rows[..., base_columns(dynamic)]
        return np.minimum(hits, calls) * has_hits(dynamic), calls

    @property
    def decay(self) -> float:
        """Decay factor of a share per bucket."""
        return float(0.5 ** (SLOT / 1e6 / self.half_life_s))

    def gain(self, hits: Floats, calls: Floats, limit: Floats, spread: Floats) -> Floats:
        """(..., lifts): what one slot adds to the evidence that the share is above ``limit``."""
        gain: Floats = log_ratios(hits, calls, limit, LIFTS) / spread[..., None]
        return gain

    def _weigh(self, state: SurgeState, gain: Floats, hits: Floats, calls: Floats, slot: int) -> None:
        """Add one slot to the evidence of every lift, in place."""
        restarted = state.log <= 0
        state.onset[restarted] = slot
        state.run_hits[restarted] = state.run_calls[restarted] = 0
        state.log = np.maximum(np.maximum(state.log, 0) + gain, 0)
        state.run_hits += hits[:, :, None]
        state.run_calls += calls[:, :, None]

    def _restart(self, state: SurgeState, kind: int) -> None:
        state.log[:, kind] = state.run_hits[:, kind] = state.run_calls[:, kind] = 0

    def _tentative(self, state: SurgeState, view: View, kinds: list[str], terms: tuple[Floats, Floats]) -> SurgeState:
        """The evidence with the open slots in it; the state itself stays as it is."""
        trial = SurgeState(
            places=state.places,
            hits=state.hits,
            calls=state.calls,
            log=state.log.copy(),
            onset=state.onset.copy(),
            run_hits=state.run_hits.copy(),
            run_calls=state.run_calls.copy(),
        )
        if view.closed is None:
            for start in view.windows.held(view.windows.closed, view.until):
                hits, calls = self.counts(view.windows.total(start, start + SLOT)[state.places], kinds)
                self._weigh(trial, self.gain(hits, calls, *terms), hits, calls, start)
        return trial

    def clearest(self, log: Floats, run_hits: Floats, run_calls: Floats, share: Floats) -> tuple[Floats, Matrix]:
        """Evidence over all lifts, and which of them has most of it; the last axis, of the lifts, is reduced.

        The evidence is -inf where the share since the onset of that lift is too small to matter, however sure it is.
        """
        best = log.argmax(axis=-1)
        hits, calls = (np.take_along_axis(a, best[..., None], -1)[..., 0] for a in (run_hits, run_calls))
        clear = (hits >= self.min_hits) & (hits / np.maximum(calls, 1) >= least_share(self, share))
        return np.where(clear, mean_evidence(log), -np.inf), best
