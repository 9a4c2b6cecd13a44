"""spike: cost, tokens or calls far above what this app, feature, tenant, model or user does at this time of day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead, Bound, CannotFind, MustJudge
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.baseline import SLOTS_AN_HOUR
from pipelines.detect.detectors.spike_bound import SpikeBound
from pipelines.detect.detectors.spike_finding import clearer, finding_of
from pipelines.detect.detectors.spike_limits import limits
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR, WINDOWS, SpikeScan
from pipelines.detect.detectors.spike_state import BASE, MEASURES, SpikeState
from pipelines.detect.detectors.spike_windows import Observed, observed
from pipelines.detect.stretch import Stretch
from pipelines.detect.windows import RING, SLOT, Floats
from schemas.rollups import series_pairs

_MONEY = ("cost", "cost_per_call")
HOURS = 720
"""In 30 days."""
_PRIOR_DISPERSION = 4.0
"""Variance over mean, in calls, assumed of an incident that has just begun."""


@dataclass(frozen=True)
class Spike:
    """Far above normal, by ratio, by record and by absolute size, all at once. Defaults need no tuning.

    Method: ``baseline``. The ratios were chosen on the quiet stretches of real traces.
    """

    name: ClassVar[str] = "spike"
    follows: ClassVar[tuple[str, ...]] = ("spend",)
    """Families whose incidents may follow those of another detector: when one ends, its time is not learned."""
    shares: ClassVar[tuple[str, ...]] = ("spend",)
    """Families of which another detector finds incidents, too: when one ends, spike does not learn its time either."""
    ratio: float = 3.0
    """Least multiple of what is expected; per-call measures: ``ratio_per_call``."""
    ratio_per_call: float = 2.0
    margin: float = 2.0
    """Least multiple of the record; per-call measures: the square root of it and a little."""
    young: float = 0.5
    """A record of h hours may be exceeded by 1 + ``young`` / h times more: there are few windows in it."""
    floor_usd_per_hour: float = 1.0
    floor_tokens_per_hour: float = 500_000.0
    floor_calls_per_hour: float = 600.0
    least: tuple[float, float, float] = (0.25, 100_000.0, 100.0)
    """USD, tokens, calls: what a window must hold beyond its expectation: 25 cents are no incident."""
    share_of_month: float = 0.00002
    """Share of what the app spends in 30 days that a rise of cost must exceed, if it is more than ``least``: 0.002 %
    is what the app spends in 52 s. A rise of ten times exceeds it after 6 s, one of three times after 26 s."""
    min_calls: int = 5
    min_calls_wide: int = 20
    """The same for one user: people rarely make this number of calls in five minutes, loops always do."""
    sparse_calls: float = 5.0
    """Calls expected in five minutes; a series with fewer is judged like a user."""
    min_calls_per_call: int = 100
    """Calls in a window before its cost per call means anything."""
    min_calls_named: int = 30
    """Calls in the window of a series that is named as the cause of a higher cost per call; of a sum: ``min_calls``."""
    part: tuple[float, float] = (0.4, 0.2)
    """Least share of the app's normal volume that a series below it must add, in one and in five minutes."""
    warm_up_s: float = 2400.0
    """Event time of an app before anything is reported."""
    mature_slots: int = 60
    """Slots learned before ratios to them are records."""
    half_life_s: float = 1800.0

    def initial_state(self) -> SpikeState:
        """State of an app never seen."""
        return SpikeState()

    def step(self, state: SpikeState, view: View) -> tuple[SpikeState, list[Finding]]:
        """Learn and judge."""
        since = view.open.get("spend", 0)
        if view.windows.reused:
            state.level.clear(view.windows.reused)
            state.records.clear(view.windows.reused)
        if view.evicted is not None and view.closed is not None:
            slot = view.closed - RING * SLOT
            if not (since and slot >= since) and not any(a <= slot < b for a, b in state.muted):
                state.level.learn(view.evicted[:, COLUMNS] / DIVISOR, view.app, slot, self.half_life_s)
        if not state.level.den or since:  # one incident of a family at a time
            return state, []
        now = observed(self, state, view)
        warm = view.until - view.windows.first >= self.warm_up_s * 1e6
        found = [finding_of(self, state, view, now)] if now.breaches.any() and warm else []
        found = [f for f in found if f.measure not in _MONEY or f.excess >= self.worth_usd(state, view.app)]
        mature = state.level.den >= self.mature_slots
        if view.closed is not None and not found and mature:
            self._learn_records(state, view, now)
        return state, found

    def scan(self, state: SpikeState, stretch: Stretch) -> SpikeScan:
        """The same over many buckets, while nothing is open."""
        return SpikeScan(self, state, stretch)

    def bound(self, state: SpikeState, ahead: Ahead) -> Bound:
        """What windows must hold before one may breach; nothing while the family is open."""
        cold = ahead.last - ahead.windows.first < self.warm_up_s * 1e6
        if cold or "spend" in ahead.open:
            return CannotFind()
        if state.cut > ahead.first:  # rows of open buckets may come before it: they are in no window
            return MustJudge()
        calls = (self.min_calls_wide, self.min_calls_per_call)
        return SpikeBound(ahead.windows, ahead.app, limits(self, state, ahead), state.cut, *calls)

    def idle(self, state: SpikeState, slots: int) -> SpikeState:
        """Learn buckets without calls."""
        state.level.idle(slots, self.half_life_s)
        return state

    def observe(
        self, state: SpikeState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Sums per slot, or per call for costs per call; normal rate and least alarming rate of the target."""
        expected = state.level.expected(len(view.windows.series), view.app, view.until - SLOT, with_active_mean=False)
        measure = MEASURES.index(finding.measure)
        base = BASE[measure]
        place = view.windows.index.get(finding.target)
        sums = np.zeros((2, (until - since) // SLOT))
        if place is not None:
            sums[0] = view.windows.of(place, COLUMNS[base], since, until) / DIVISOR[base]
            sums[1] = view.windows.of(place, COLUMNS[2], since, until)
        buckets = [Bucket(v, n if measure >= 3 else 1.0, n) for v, n in sums.T.tolist()]
        known = place if place is not None else view.app
        if measure >= 3:
            known = known if expected[known, 2] > 0 else view.app
            normal = float(expected[known, base] / max(expected[known, 2], 1e-12))
            limit = float(self.ratio_limits(state, view, known)[0, measure].min()) * normal
            return Terms(normal, limit, normal, _PRIOR_DISPERSION), buckets
        size = finding.observed / max(finding.calls, 1) if base < 2 else 1.0
        normal = float(expected[known, base])
        return Terms(normal, self._rate_limit(expected, view, known, base, state), size, _PRIOR_DISPERSION), buckets

    def has_steady_terms(self, state: SpikeState, finding: Finding, slot: int) -> bool:
        """Nothing is learned of buckets since the incident began; those before it leave the ring in five minutes."""
        return slot - RING * SLOT >= finding.start

    def about_app(self, state: SpikeState, view: View, finding: Finding) -> Finding:
        """The same measure, as expected of the whole app."""
        target, measure = view.windows.own, MEASURES.index(finding.measure)
        rates = state.level.expected(len(view.windows.series), view.app, view.until - SLOT)[view.app].tolist()
        app = replace(
            finding, target=target, series=series_pairs(target), usd_rate=rates[0], causes=(), users=None, excess=0.0
        )
        if measure >= 3:
            return replace(app, expected=rates[BASE[measure]] / max(rates[2], 1e-12))
        return replace(app, expected_rate=rates[measure])

    def on_resolved(self, state: SpikeState, finding: Finding, end: int, proven: int) -> SpikeState:
        """Start windows at ``end``; neither the incident nor the time until its end was proven enters the baseline."""
        state.cut = end
        state.muted = [*(m for m in state.muted if m[1] > finding.start - 2 * RING * SLOT), (finding.start, proven)]
        state.records.discard()
        state.pool.discard()
        return state

    def clearer(self, state: SpikeState, view: View, finding: Finding) -> Finding | None:
        """``finding`` of an open incident with the causes of now, where they name what the emitted ones did not."""
        return clearer(self, state, view, finding)

    @property
    def floor(self) -> Floats:
        """USD, tokens and calls per slot that are too small to be compared."""
        hourly = [self.floor_usd_per_hour, self.floor_tokens_per_hour, self.floor_calls_per_hour]
        return np.array(hourly) / SLOTS_AN_HOUR

    def monthly_usd(self, state: SpikeState, app: int) -> float:
        """What the app spends in 30 days: by the half hours of the day that are known, else by its last half hour."""
        known = state.level.season_days > 0
        recent = float(state.level.num[app, 0]) / max(state.level.den, 1.0) if app < len(state.level.num) else 0.0
        per_slot = float(state.level.season[known, 0].mean()) if known.any() else recent
        return per_slot * SLOTS_AN_HOUR * HOURS

    def worth_usd(self, state: SpikeState, app: int) -> float:
        """USD beyond what is expected from which a rise of cost is reported."""
        return max(self.least[0], self.share_of_month * self.monthly_usd(state, app))

    def limits_of(self, state: SpikeState, view: View, place: int) -> tuple[Floats, Floats | None]:
        """(5, 2) least ratios of a series; (3, 2) least shares of the app, where series are judged by each other."""
        expected = state.level.expected(len(view.windows.series), view.app, view.until - SLOT)
        ratios: Floats = self.ratio_limits(state, view, place)[0]
        if not self.is_pooled(expected, view)[place]:
            return ratios, None
        return ratios, np.stack([self.pool_limits(state, view, i)[place] for i in range(len(WINDOWS))], axis=1)

    def ratio_limits(self, state: SpikeState, view: View, place: int | None = None) -> Floats:
        """(series, 5, 2): least ratios that breach; of one series only where ``place`` is given."""
        held = state.records.held(len(view.windows.series))
        limits: Floats = np.maximum(
            np.array([self.ratio] * 3 + [self.ratio_per_call] * 2)[None, :, None],
            np.array([self.margin] * 3 + [self.margin**0.5 + 0.1] * 2)[None, :, None]
            * self._warm_up_factor(view)
            * (held if place is None else held[place : place + 1]),
        )
        return limits

    def is_pooled(self, expected: Floats, view: View) -> NDArray[np.bool_]:
        """(series,): judged against each other, users and series with rare calls."""
        pooled = view.windows.high_cardinality() | (expected[:, 2] * WINDOWS[1] < self.sparse_calls)
        pooled[view.app] = False
        return pooled

    def _warm_up_factor(self, view: View) -> float:
        return 1.0 + self.young * 3.6e9 / max(view.until - view.windows.first, 1)

    def pool_limits(self, state: SpikeState, view: View, window: int) -> Floats:
        """(series, 3): least share of the app's volume at which a series of high cardinality breaches."""
        held = state.pool.held(len(view.windows.groups))[:, :, window]
        limits: Floats = np.maximum(self.part[window], self.margin * self._warm_up_factor(view) * held)
        return limits[view.windows.group]

    def _learn_records(self, state: SpikeState, view: View, now: Observed) -> None:
        assert view.closed is not None
        counted = now.pooled & view.windows.named
        state.records.learn(np.where(view.windows.high_cardinality()[:, None, None], 0.0, now.ratios), view.closed)
        tops = np.zeros((len(view.windows.groups), 3, 2))
        np.maximum.at(tops, view.windows.group[counted], now.shares[counted])
        state.pool.learn(tops, view.closed)

    def _rate_limit(self, expected: Floats, view: View, place: int, measure: int, state: SpikeState) -> float:
        """Per slot, the least mean rate that may raise an alarm; a record is one of windows, not of means."""
        own = expected[view.app] + self.floor
        if self.is_pooled(expected, view)[place]:
            share = min(self.pool_limits(state, view, i)[place, measure] for i in range(len(WINDOWS)))
            return float(max(self.ratio * expected[place, measure] + self.floor[measure], share * own[measure]))
        return float(self.ratio * (expected[place, measure] + self.floor[measure]))
