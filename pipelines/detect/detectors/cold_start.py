"""cold_start: absolute rules for an app of which too little is learned: spend an hour, and a majority of errors.

spike and surge compare with what is usual, so they judge nothing in the first 40 minutes of an app. Until then the
spend of an app is compared with its own first minutes, with the highest spend of the apps on the same partition, and
with an absolute limit; and errors with half of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec.structs import replace

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead, Bound, CannotFind
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.baseline import SLOTS_AN_HOUR
from pipelines.detect.detectors.cold_start_bound import ColdStartBound, ColdStartScan
from pipelines.detect.detectors.cold_start_finding import finding_of
from pipelines.detect.detectors.cold_start_state import ERRORS, SPEND, ColdStartState
from pipelines.detect.detectors.spike_scan import WINDOWS
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch
from pipelines.detect.windows import RING, SLOT, Windows
from schemas.rollups import series_pairs

_COST, _CALLS, _ERRORS = COLUMN["cost_nanousd"], COLUMN["calls"], COLUMN["errors"]
_PRIOR_DISPERSION = 4.0
"""Variance over mean, in calls, assumed of an incident that has just begun."""


@dataclass(frozen=True)
class ColdStart:
    """Spend far above all that was seen and above a limit, or errors in most calls, while an app is new."""

    name: ClassVar[str] = "cold_start"
    shares: ClassVar[tuple[str, ...]] = (SPEND, ERRORS)
    limit_usd_per_hour: float = 100.0
    """No lower spend is reported."""
    least_usd: float = 5.0
    """USD that a window must hold: at 100 USD an hour that takes three minutes."""
    ratio: float = 5.0
    """Least multiple of the highest spend of the app so far."""
    ratio_lake: float = 2.0
    """Least multiple of the highest spend, in five minutes, of any app on the same partition of llm.rollups."""
    min_calls: int = 20
    """Calls in a window of spend: a few expensive calls are reported by ``ceiling``."""
    share: float = 0.5
    """Share of errors above which an alert is raised."""
    min_calls_errors: int = 30
    """Calls in the last five minutes before a share of errors is judged."""
    warm_up_s: float = 2400.0
    """Event time of an app after which spike judges its spend."""
    learn_calls: int = 200
    """Calls after which surge judges its errors, if it is older than ``warm_up_s``, too."""
    usual_share: float = 0.05
    """Share of errors at which such an incident is over, for nothing is learned."""

    def initial_state(self) -> ColdStartState:
        """State of an app never seen."""
        return ColdStartState()

    def step(self, state: ColdStartState, view: View) -> tuple[ColdStartState, list[Finding]]:
        """Learn what left the ring; judge while the app is new."""
        if view.evicted is not None and view.closed is not None:
            slot = view.closed - RING * SLOT
            if self.learns(state, view.windows, view.open, slot):
                row = view.evicted[view.app]
                state.learn(int(row[_COST]), int(row[_CALLS]))
        found = []
        if self.is_new(view.windows, view.until) and SPEND not in view.open:
            found += self._spend(state, view)
        if self.learns_errors(state, view.windows, view.until) and ERRORS not in view.open:
            found += self._errors(state, view)
        return state, found

    def scan(self, state: ColdStartState, stretch: Stretch) -> ColdStartScan:
        """The same over many buckets, while nothing is open."""
        return ColdStartScan(self, state, stretch)

    def bound(self, state: ColdStartState, ahead: Ahead) -> Bound:
        """The spend and the errors that open buckets must hold; nothing of an app that is not new."""
        new = self.is_new(ahead.windows, ahead.until) and SPEND not in ahead.open
        learns = self.learns_errors(state, ahead.windows, ahead.until) and ERRORS not in ahead.open
        if not (new or learns):
            return CannotFind()
        return ColdStartBound(self, ahead, spend=new, errors=learns, cut=state.cuts.get(ERRORS, 0))

    def idle(self, state: ColdStartState, slots: int) -> ColdStartState:
        """Learn buckets without calls."""
        state.recent = [*state.recent, *[0] * min(slots, RING)][-RING:]
        return state

    def observe(
        self, state: ColdStartState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Cost per slot and the least rate that is reported; or errors and calls per slot."""
        place, column = view.windows.index.get(finding.target), _ERRORS if finding.family == ERRORS else _COST
        sums = np.zeros((2, (until - since) // SLOT))
        if place is not None:
            sums[0] = view.windows.of(place, column, since, until)
            sums[1] = view.windows.of(place, _CALLS, since, until)
        if finding.family == ERRORS:
            return Terms(self.usual_share, self.share, share=True), [Bucket(h, n, n) for h, n in sums.T.tolist()]
        normal, size = finding.expected_rate or 0.0, finding.observed / max(finding.calls, 1)
        limit = max(self.ratio * normal, self.limit_usd_per_hour / SLOTS_AN_HOUR)
        return Terms(normal, limit, size, _PRIOR_DISPERSION), [Bucket(v / 1e9, 1.0, n) for v, n in sums.T.tolist()]

    def has_steady_terms(self, state: ColdStartState, finding: Finding, slot: int) -> bool:
        """Nothing is learned of buckets since the incident began; those before it leave the ring in five minutes."""
        return slot - RING * SLOT >= finding.start

    def about_app(self, state: ColdStartState, view: View, finding: Finding) -> Finding:
        """The same of the whole app."""
        target = view.windows.own
        rate = state.highest[0] if finding.family == SPEND else None
        return replace(finding, target=target, series=series_pairs(target), expected_rate=rate, causes=(), users=None)

    def on_resolved(self, state: ColdStartState, finding: Finding, end: int, proven: int) -> ColdStartState:
        """Start windows at ``end``; nothing of the incident is learned, unless it was accepted as the new normal."""
        if finding.family == SPEND and finding.detector == self.name and end == proven:  # accepted: nothing fell
            rate = (finding.expected_rate or 0.0) + (finding.usd_per_hour or 0.0) / SLOTS_AN_HOUR
            state.highest = [max(highest, rate) for highest in state.highest]
        if finding.family in self.shares:
            state.cuts[finding.family] = end
            kept = [m for m in state.muted if m[1] > finding.start - 2 * RING * SLOT]
            state.muted = [*kept, (finding.start, proven)]
        return state

    def learns(self, state: ColdStartState, windows: Windows, open_: Mapping[str, int], slot: int) -> bool:
        """Whether a slot that leaves the ring is learned: it is of no incident."""
        since = min((open_[family] for family in self.shares if family in open_), default=slot + 1)
        return windows.first <= slot < since and not state.is_muted(slot)

    def is_new(self, windows: Windows, until: int) -> bool:
        """Whether spike does not judge the app yet."""
        return until - windows.first < self.warm_up_s * 1e6

    def learns_errors(self, state: ColdStartState, windows: Windows, until: int) -> bool:
        """Whether surge does not judge the errors of the app yet."""
        return state.calls < self.learn_calls or self.is_new(windows, until)

    def least(self, slots: int) -> float:
        """USD that a window must hold."""
        return max(self.limit_usd_per_hour * slots / SLOTS_AN_HOUR, self.least_usd)

    def bar(self, state: ColdStartState, windows: Windows, window: int) -> float:
        """USD in a window, as of WINDOWS, that are reported."""
        slots = WINDOWS[window]
        own, lake = state.highest[window], windows.lake_usd
        return max(self.least(slots), self.ratio * slots * own, self.ratio_lake * slots * lake)

    def _spend(self, state: ColdStartState, view: View) -> list[Finding]:
        for i, slots in enumerate(WINDOWS):
            row = view.total(slots, state.cuts.get(SPEND, 0))[view.app]
            usd, bar = float(row[_COST]) / 1e9, self.bar(state, view.windows, i)
            if row[_CALLS] >= self.min_calls and usd >= bar and (state.highest[i] or view.windows.lake_usd):
                start = max(view.until - slots * SLOT, state.cuts.get(SPEND, 0))
                return [finding_of(self, state, view, SPEND, self._onset(view, start, usd), usd / bar)]
        return []

    def _errors(self, state: ColdStartState, view: View) -> list[Finding]:
        cut = state.cuts.get(ERRORS, 0)
        row = view.total(RING, cut)[view.app]
        if row[_CALLS] < self.min_calls_errors or row[_ERRORS] <= self.share * row[_CALLS]:
            return []
        start = max(view.until - RING * SLOT, cut, view.windows.first)
        return [finding_of(self, state, view, ERRORS, start, float(row[_ERRORS] / row[_CALLS] / self.share))]

    def _onset(self, view: View, start: int, usd: float) -> int:
        """First slot of the window that holds its part of the spend."""
        costs = view.windows.of(view.app, _COST, start, view.until) / 1e9
        return start + int(np.flatnonzero(costs >= 0.5 * usd / max(len(costs), 1))[0]) * SLOT
