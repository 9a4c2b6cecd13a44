"""surge: the share of calls that a guardrail stopped, that failed, were refused, cut off ... is above its baseline.

One test that may be looked at after every slot for ever: an e-detector (Shin, Ramdas, Rinaldo, arXiv 2203.03532). For
each of a few lifts the likelihood ratio of "share = lift x baseline" against "share <= baseline" is a supermartingale
while nothing is wrong; restarted at one like a CUSUM and averaged over the lifts, it exceeds 1/alpha on average not
before 1/alpha slots. Calls of one session fail together, so the log ratio is divided by the overdispersion that the
series has shown (quasi-likelihood; McCullagh & Nelder 1989, 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.alerts.cause import explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.base import View, fit
from pipelines.detect.items import COLUMN, COLUMNS, GUARDRAIL
from pipelines.detect.windows import RING, SLOT, Floats, Matrix, column
from schemas.rollups import series_pairs

KINDS = (
    "errors",
    "blocked",
    "refused",
    "truncated",
    "fallbacks",
    "usage_missing",
    "unpriced",
    "empty_retrievals",
)
"""Beside the guardrails, which come first: the order in which two surges of one cause are named."""
LIFTS = (2.0, 4.0, 10.0, 30.0)
MAX_ROWS = 512
"""Series tested per app."""
_CALM_SLOTS = 3


@dataclass
class SurgeState:
    """Baselines and evidence; arrays are (tested series, kinds[, lifts]), kinds = KINDS, then guardrails as met."""

    version: int = 1
    places: list[int] = field(default_factory=list)
    """Which series are tested: the app's own, and those below it without a wide dimension."""
    hits: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    calls: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    spread: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    spread_slots: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    log: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    onset: Matrix = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS)), np.int64))
    run_hits: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    run_calls: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    muted: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Surge:
    """The proportion is above its baseline, by a test that holds under continuous looking."""

    name: ClassVar[str] = "surge"
    evidence: float = 12.0
    """Log of 1/alpha: under the very worst permitted share one false alarm in e^12 slots, 19 days."""
    weak_evidence: float = 4.0
    tolerance: float = 1.5
    """Multiple of the learned share that is not worth an alert."""
    slack: float = 0.005
    """Added to it."""
    lift: float = 2.0
    """Least multiple of the learned share, and ``rise``: least distance to it, since the onset."""
    rise: float = 0.01
    min_hits: int = 5
    min_calls: int = 200
    """Calls learned before anything rings."""
    warm_up_s: float = 1800.0
    half_life_s: float = 21_600.0
    max_spread: float = 20.0

    def fresh(self) -> SurgeState:
        """State of an app never seen."""
        return SurgeState()

    def step(self, state: SurgeState, view: View) -> tuple[SurgeState, list[Finding]]:
        """Learn the slot that left the ring, weigh the one that closed, judge with the open ones."""
        self._fit(state, view)
        kinds = self._kinds(view)
        if view.leaving is not None and view.closed is not None:
            self._learn(state, view, kinds)
        share, bar = self._bars(state)
        if view.closed is not None:
            hits, calls = self._counts(state, view.windows.total(view.closed, view.closed + SLOT), kinds)
            self._weigh(state, hits, calls, bar, view.closed)
            for i, kind in enumerate(kinds):
                if kind in view.open:
                    self._restart(state, i)
        trial = self._tentative(state, view, kinds, bar)
        if view.until - view.windows.first < self.warm_up_s * 1e6:
            return state, []
        return state, self._findings(trial, view, kinds, share)

    def idle(self, state: SurgeState, slots: int) -> SurgeState:
        """No calls, no proportion."""
        return state

    def calm(self, state: SurgeState, view: View, finding: Finding) -> int:
        """Three closed slots whose share is back near the baseline: under a third of the way to the peak, together."""
        until = view.windows.closed
        since = until - _CALM_SLOTS * SLOT
        place = view.windows.index.get(finding.target)
        if since < finding.start:
            return 0
        if place is None or place not in state.places:
            return since
        kind = self._kinds(view).index(finding.family)
        top, base = self._columns(view, finding.family)
        hits = view.windows.of(place, top, since, until)
        calls = view.windows.of(place, base, since, until)
        share, bar = (a[state.places.index(place), kind] for a in self._bars(state))
        limit = max(2 * bar, share + 0.3 * (finding.peak - share))
        # a slot alone holds few calls: two hits in it are chance, half the way to the peak is not
        slack = max(2 * bar, share + 0.5 * (finding.peak - share))
        each = (hits <= 2) | (hits <= slack * calls)
        return since if each.all() and (hits.sum() <= 2 or hits.sum() <= limit * calls.sum()) else 0

    def settle(self, state: SurgeState, finding: Finding, end: int) -> SurgeState:
        """Start the evidence anew; the incident is not learned."""
        kept = [m for m in state.muted if m[2] > finding.start - 2 * RING * SLOT]
        state.muted = [*kept, (finding.family, finding.start, end)]
        return state

    def _kinds(self, view: View) -> list[str]:
        return [*KINDS, *view.windows.kinds]

    def _columns(self, view: View, kind: str) -> tuple[int, int]:
        base = "retrievals" if kind == "empty_retrievals" else "calls"
        return column(view.windows.kinds, kind), COLUMN[base]

    def _fit(self, state: SurgeState, view: View) -> None:
        for place in view.windows.reused:
            if place in state.places:
                row = state.places.index(place)
                for array in self._arrays(state):
                    array[row] = 0
        known = set(state.places)
        for place in np.flatnonzero(self._tested(view)).tolist():
            if place not in known and len(state.places) < MAX_ROWS:
                state.places.append(place)
        rows, width = len(state.places), len(KINDS) + len(view.windows.kinds)
        before = state.calls.shape[1]
        for name in ("hits", "calls", "spread", "spread_slots", "log", "onset", "run_hits", "run_calls"):
            setattr(state, name, fit(getattr(state, name), rows, width))
        # a guardrail never seen before had no hit in all the calls that were learned
        state.calls[:, before:] = state.calls[:, :1]

    def _tested(self, view: View) -> NDArray[np.bool_]:
        tested = np.array(view.windows.named) & ~view.windows.wide()
        tested[view.app] = True
        return tested

    def _arrays(self, state: SurgeState) -> list[Floats]:
        return [state.hits, state.calls, state.spread, state.spread_slots, state.log, state.run_hits, state.run_calls]

    def _counts(self, state: SurgeState, sums: Matrix, kinds: list[str]) -> tuple[Floats, Floats]:
        rows = sums[state.places].astype(float)
        hits = rows[:, [COLUMN[k] for k in KINDS] + list(range(len(COLUMNS), len(COLUMNS) + len(kinds) - len(KINDS)))]
        calls = np.repeat(rows[:, [COLUMN["calls"]]], len(kinds), axis=1)
        calls[:, KINDS.index("empty_retrievals")] = rows[:, COLUMN["retrievals"]]
        return np.minimum(hits, calls), calls

    def _learn(self, state: SurgeState, view: View, kinds: list[str]) -> None:
        assert view.leaving is not None
        assert view.closed is not None
        slot = view.closed - RING * SLOT
        sums = np.zeros((len(view.windows.series), view.windows.width), np.int64)
        sums[: view.leaving.shape[0], : view.leaving.shape[1]] = view.leaving
        hits, calls = self._counts(state, sums, kinds)
        live = np.array([not self._muted(state, view, k, slot) for k in kinds])
        share = np.clip((state.hits + 0.5) / (state.calls + 50), 1e-4, 0.5)
        chi = (hits - calls * share) ** 2 / np.maximum(calls * share * (1 - share), 1e-9)
        told = (calls * share >= 0.05) & live  # below, one hit alone would look like a crowd
        decay = np.where(live, 0.5 ** (SLOT / 1e6 / self.half_life_s), 1.0)
        state.spread = state.spread * decay + np.where(told, np.minimum(chi, 50.0), 0.0)
        state.spread_slots = state.spread_slots * decay + told
        state.hits = state.hits * decay + hits * live
        state.calls = state.calls * decay + calls * live

    def _muted(self, state: SurgeState, view: View, kind: str, slot: int) -> bool:
        if kind in view.open and slot >= view.open[kind]:
            return True
        return any(name == kind and start <= slot < end for name, start, end in state.muted)

    def _bars(self, state: SurgeState) -> tuple[Floats, Floats]:
        """Learned share, and the highest share that is not worth an alert."""
        share = np.clip((state.hits + 0.5) / (state.calls + 50), 0.0, 1.0)
        return share, np.minimum(self.tolerance * share + self.slack, 0.97)

    def _weigh(self, state: SurgeState, hits: Floats, calls: Floats, bar: Floats, slot: int) -> None:
        """Add one slot to the evidence of every lift, in place."""
        lifts = np.array(LIFTS)
        odds = bar[:, :, None] / (1 - bar[:, :, None])
        high = np.minimum(bar[:, :, None] * lifts, lifts * odds / (1 + lifts * odds))
        high = np.maximum(high, bar[:, :, None] * 1.01)
        gain = hits[:, :, None] * np.log(high / bar[:, :, None])
        gain += (calls - hits)[:, :, None] * np.log((1 - np.minimum(high, 0.995)) / (1 - bar[:, :, None]))
        few = state.spread_slots < 30
        spread = np.where(few, 1.0, state.spread / np.maximum(state.spread_slots, 1.0))
        gain /= np.clip(spread, 1.0, self.max_spread)[:, :, None]
        anew = state.log <= 0
        state.onset[anew] = slot
        state.run_hits[anew] = state.run_calls[anew] = 0
        state.log = np.maximum(np.maximum(state.log, 0) + gain, 0)
        state.run_hits += hits[:, :, None]
        state.run_calls += calls[:, :, None]

    def _restart(self, state: SurgeState, kind: int) -> None:
        state.log[:, kind] = state.run_hits[:, kind] = state.run_calls[:, kind] = 0

    def _tentative(self, state: SurgeState, view: View, kinds: list[str], bar: Floats) -> SurgeState:
        """The evidence with the open slots in it; the state itself stays as it is."""
        trial = SurgeState(
            places=state.places,
            hits=state.hits,
            calls=state.calls,
            spread=state.spread,
            spread_slots=state.spread_slots,
            log=state.log.copy(),
            onset=state.onset.copy(),
            run_hits=state.run_hits.copy(),
            run_calls=state.run_calls.copy(),
        )
        if view.closed is None:
            for start in range(view.windows.closed, view.until, SLOT):
                if start in view.windows.slots:
                    hits, calls = self._counts(state, view.windows.total(start, start + SLOT), kinds)
                    self._weigh(trial, hits, calls, bar, start)
        return trial

    def _findings(self, trial: SurgeState, view: View, kinds: list[str], share: Floats) -> list[Finding]:
        top = trial.log.max(axis=2)
        mean = top + np.log(np.exp(trial.log - top[:, :, None]).mean(axis=2))
        best = trial.log.argmax(axis=2)[:, :, None]
        hits = np.take_along_axis(trial.run_hits, best, 2)[:, :, 0]
        calls = np.take_along_axis(trial.run_calls, best, 2)[:, :, 0]
        onset = np.take_along_axis(trial.onset, best, 2)[:, :, 0]
        seen = hits / np.maximum(calls, 1)
        app = trial.places.index(view.app)
        learned = trial.calls[app] >= self.min_calls
        tested = self._tested(view)[trial.places]  # a place may have been given to a user since
        clear = (
            (hits >= self.min_hits)
            & (seen >= self.lift * share)
            & (seen >= share + self.rise)
            & learned
            & tested[:, None]
        )
        found = []
        for i, kind in enumerate(kinds):
            weak = clear[:, i] & (mean[:, i] >= self.weak_evidence)
            if weak.any() and kind not in view.open:
                row = app if weak[app] and mean[app, i] >= 0.5 * mean[:, i].max() else int(mean[:, i].argmax())
                found.append(
                    self._finding(trial, view, kind, share[:, i], row, int(onset[row, i]), float(mean[row, i]))
                )
        return found

    def _finding(
        self, trial: SurgeState, view: View, kind: str, share: Floats, row: int, onset: int, score: float
    ) -> Finding:
        windows = view.windows
        start = max(onset, view.until - RING * SLOT)
        top, base = self._columns(view, kind)
        sums = windows.total(start, view.until)
        hits, calls = sums[:, top].astype(float), sums[:, base].astype(float)
        expected = np.full(len(hits), share[trial.places.index(view.app)])
        expected[trial.places] = share
        normal = calls / max(calls[view.app], 1.0)
        told = explain(windows.series, hits - calls * expected, normal, app=view.app, trigger=trial.places[row])
        target = windows.series[told.place]
        seen = float(hits[told.place] / max(calls[told.place], 1.0))
        guardrail = {"guardrail": kind.removeprefix(GUARDRAIL)} if kind.startswith(GUARDRAIL) else {}
        measure = kind if guardrail else "error" if kind == "errors" else "cost"
        return Finding(
            detector=self.name,
            rule="surge_guardrail" if guardrail else f"surge_{kind}",
            family=kind,
            rank=0 if guardrail else 1 + KINDS.index(kind),
            weak=score < self.evidence,
            severity="critical" if seen >= 0.3 else "warning",
            measure=kind,
            target=target,
            series={**series_pairs(target), **guardrail},
            start=start,
            end=view.until,
            observed=seen,
            expected=float(expected[told.place]),
            score=round(score, 3),
            unit="share",
            peak=seen,
            excess=float(hits[told.place] - calls[told.place] * expected[told.place]),
            calls=int(hits[told.place]),
            causes=told.causes,
            call_ids=windows.calls_of(told.place, measure, start, view.until),
        )
