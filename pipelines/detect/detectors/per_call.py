"""per_call: a call of a series holds more tokens, or costs more, than is usual for it, though calls are few.

``spike`` needs a hundred calls in five minutes before a mean per call means anything; a client that makes 4 % of half a
call a second makes six. So each call is weighed by itself, by its logarithm, against all that is learned of the
calls of its series (``per_call_evidence``): an e-detector as in ``surge``, once a minute, divided by the overdispersion
between stretches of ten minutes. Calls that go to a model that the app has never used are found by the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.detectors import minute, minute_evidence
from pipelines.detect.detectors.bands import Band
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.minute import LEARNED_AFTER, MINUTE, MinuteDetector
from pipelines.detect.detectors.per_call_evidence import densities, dispersions, gains
from pipelines.detect.detectors.per_call_finding import NEW_MODEL, UNITS, finding_of
from pipelines.detect.detectors.per_call_learning import Calls, apart_from, calls_of, hold, known_rise, learn
from pipelines.detect.detectors.per_call_rules import OF_OTHERS, geometric, is_rise, new_models, usual_of, value_of
from pipelines.detect.detectors.per_call_state import (
    ARRAYS,
    CALLS,
    CODES,
    COUNTED,
    FAMILY,
    MEASURES,
    NEW,
    K,
    PerCallState,
    dims_of,
)
from pipelines.detect.side import KEPT_LONGER
from pipelines.detect.windows import SLOT, Floats, Windows
from schemas.rollups import CALL_GAMMA, DERIVED, series_pairs


@dataclass(frozen=True)
class PerCall(MinuteDetector):
    """Tokens or cost of a call above what was learned, by a test that holds under continuous looking."""

    name: ClassVar[str] = "per_call"
    follows: ClassVar[tuple[str, ...]] = (FAMILY,)
    """Families that may follow an incident of another detector: what is over is not learned here either."""
    reach: ClassVar[int] = KEPT_LONGER * SLOT
    """How long before now the sums of a series are kept, µs."""
    evidence: float = 10.0
    """Log of 1/alpha: where nothing changed one false alarm of a series in e^10 minutes with calls, 15 days."""
    ratio: float = 2.0
    """Least multiple of the learned mean per call since the onset."""
    ratio_log: float = 1.8
    """The same of the geometric mean, on which a single call has little influence."""
    margin: float = 1.6
    """The same over the highest level of the last days: such levels come again, and somewhat higher."""
    tolerance: int = 2
    """Bins of 10 % by which the usual may move without being evidence."""
    min_calls: int = 5
    """Calls since the onset."""
    min_calls_mixed: int = 20
    """The same of the app, a model or a provider, whose calls are those of features and tenants in some mix."""
    learn_calls: int = 200
    """Calls of the series learned before anything is reported."""
    least_usd_per_day: float = 2.5
    """USD a day beyond the usual, at the pace since the onset, where prices are known."""
    least_tokens_per_day: float = 1_000_000.0
    """The same in tokens, where no price is known."""
    least_part: float = 0.005
    """The same as a part of what the app spends."""
    new_ratio: float = 5.0
    """Least multiple of the usual cost per call of the app for calls of a model that is new."""
    new_calls: int = 2
    """Calls of a model that is new."""
    new_s: float = 10_800.0
    """For how long a model is new, event time since its first call."""
    warm_up_s: float = 3600.0
    half_life_s: float = 86_400.0
    most_s: float = 3600.0
    """Longest run of evidence, event time: what takes longer is a drift, which is learned."""
    max_spread: float = 1.5
    """Most by which the evidence is divided: other levels of the last days are no evidence anyway."""
    pending: float = 3.0
    """Evidence from which a minute is held back and not learned."""
    hold_most_s: float = 86_400.0
    """Event time after which what is held back is learned, with any evidence."""

    def initial_state(self) -> PerCallState:
        """State of an app never seen."""
        return PerCallState()

    def minutes(
        self, state: PerCallState, windows: Windows, ends: Sequence[int], open_: Mapping[str, int]
    ) -> Iterator[None]:
        """See ``MinuteTest``."""
        side = windows.side
        if state.names != side.names:
            minute.fit_rows(state, side.names, ARRAYS)
            state.density = state.dims = None
        if not state.names:
            yield from (None for _ in ends)
            return
        app = state.names.index(windows.own)
        now, held = calls_of(windows, ends), calls_of(windows, [end - LEARNED_AFTER for end in ends])
        weights, apart = self._gains(state, now, app), apart_from(state, open_)
        for i, end in enumerate(ends):
            sums = now.sums[i][:, None]
            if minute.is_muted(state.muted, open_, FAMILY, end - MINUTE):
                if apart.any() and now.busy[i]:
                    minute_evidence.weigh(state.log, state.onset, state.run, weights[i], sums, end - MINUTE)
                state.log[~apart], state.found[:] = 0.0, False
            elif now.busy[i]:
                self._note_models(state, now.sums[i], app, end - MINUTE)
                state.log[end - state.onset > self.most_s * 1e6] = 0.0
                minute_evidence.weigh(state.log, state.onset, state.run, weights[i], sums, end - MINUTE)
                warm = end - windows.first >= self.warm_up_s * 1e6
                state.found = self._judged(state, windows, app, end) if warm else np.zeros_like(state.found)
            hold(state, held, i, end - LEARNED_AFTER, open_, apart)
            if end % minute.TEN_MINUTES == 0:
                learn(self, state, end)
            yield

    def breaches(self, state: PerCallState, open_: Mapping[str, int]) -> bool:
        """See ``MinuteTest``."""
        return FAMILY not in open_ and bool(state.found.any())

    def findings(self, state: PerCallState, view: View) -> list[Finding]:
        """One finding: of a model that is new, else of what has most evidence."""
        return [finding_of(self, state, view)]

    def observe(
        self, state: PerCallState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Tokens or USD and calls per slot."""
        measure, normal = MEASURES.index(finding.measure), finding.expected
        row = state.names.index(finding.target) if finding.target in state.names else 0
        size = 1.0
        if state.usual[row, COUNTED + measure] > 0:
            density = densities(state.learned[[row]], 0)
            size = float(np.clip(dispersions(density)[0, measure], 1.0, self.max_spread))
        ratio = self.new_ratio if finding.rule == NEW_MODEL else self.ratio
        terms = Terms(normal, ratio * normal, normal, size)
        starts = list(range(since, until, SLOT))
        sums = view.windows.side.by_slot(finding.target, CODES, starts)
        values = sums[:, 1] + sums[:, 2] if measure == 0 else sums[:, 3] / 1e9
        return terms, [Bucket(v, n, n) for v, n in zip(values.tolist(), sums[:, 0].tolist(), strict=True)]

    def has_steady_terms(self, state: PerCallState, finding: Finding, slot: int) -> bool:
        """What is usual is that of the finding; how calls are spread is learned when ten minutes end."""
        return (slot + SLOT) % minute.TEN_MINUTES != 0

    def about_app(self, state: PerCallState, view: View, finding: Finding) -> Finding:
        """The same measure, as learned of the whole app."""
        target = view.windows.own
        row = state.names.index(target) if target in state.names else 0
        expected = float(usual_of(state)[row, MEASURES.index(finding.measure)])
        return replace(finding, target=target, series=series_pairs(target), expected=expected, causes=())

    def on_resolved(self, state: PerCallState, finding: Finding, end: int, proven: int) -> PerCallState:
        """Reset the evidence; neither the incident nor the time until its end was proven is learned."""
        doubtful = state.log.max(axis=(1, 2), initial=0.0) > self.pending
        for array in (state.held, state.held_sums, state.held_minutes):
            array[doubtful] = 0.0
        minute.resolved(state, FAMILY, finding.start, proven)
        state.models = dict.fromkeys(state.models, 0)
        return state

    def bands(self, state: PerCallState, view: View, series: str) -> list[Band]:
        """What is compared for a series (JSON), for people."""
        if series not in state.names:
            return []
        row, windows = state.names.index(series), view.windows
        sums = value_of(windows.side.longer(CODES, view.until - self.reach, view.until)[windows.side.index[series]])
        found = []
        for k, measure in enumerate(MEASURES):
            if not sums[CALLS] or not state.usual[row, COUNTED + k]:
                continue
            tested, learned = bool(self.tested(state)[row, k]), float(state.usual[row, COUNTED + k])
            seen, usual = float(sums[1 + k] / sums[CALLS]), float(usual_of(state)[row, k])
            log = float(state.log[row, k].max())
            note = f"evidence {log:.1f} of {self.evidence:g}" if tested else f"learned {learned:.0f} calls"
            limit = self.ratio * usual if tested else None
            seen = seen / 1e9 if k else seen
            window = self.reach // 1_000_000
            noun = measure.replace("_", " ")
            found.append(
                Band(self.name, noun, window, UNITS[k], seen, usual, limit, int(sums[CALLS]), self.min_calls, note)
            )
        return found

    def tested(self, state: PerCallState) -> NDArray[np.bool_]:
        """(series, K): enough is learned; not of the classes of the input, which a prompt that grew changes."""
        derived = np.isin(dims_of(state), DERIVED)
        tested: NDArray[np.bool_] = state.usual[:, COUNTED : COUNTED + K] >= self.learn_calls
        return tested & ~derived[:, None]

    def _gains(self, state: PerCallState, calls: Calls, app: int) -> Floats:
        """(minutes, series, K, TESTS) evidence of each minute."""
        if state.density is None:
            state.density = densities(state.learned, app)
        found = gains(state.density, calls.parts, known_rise(state) + self.tolerance, len(calls.busy))
        found /= minute_evidence.shown_spread(state.spread[..., 0], state.spread[..., 1], self.max_spread)[..., None]
        found[:, ~self.tested(state)] = -np.inf
        return found

    def _judged(self, state: PerCallState, windows: Windows, app: int, end: int) -> NDArray[np.bool_]:
        found = np.zeros_like(state.found)
        found[:, NEW] = new_models(self, state, app, end)
        if state.log.max(initial=0.0) < self.evidence:  # the mean is at most that
            return found
        mean, onset, run = minute_evidence.best(state.log, state.onset, state.run)
        fewest = np.where(np.isin(dims_of(state), OF_OTHERS), self.min_calls_mixed, self.min_calls)
        able = (mean >= self.evidence) & (run[..., CALLS] >= fewest[:, None])
        highest = CALL_GAMMA ** known_rise(state).astype(float) if able.any() else np.ones(able.shape)
        for row, k in np.argwhere(able).tolist():
            least = max(self.ratio_log, self.margin * float(highest[row, k]))
            clear = geometric(state, run[row, k], row, k) >= least
            found[row, k] = clear and is_rise(self, state, windows, (row, k, int(onset[row, k])), run[row, k], end)
        return found

    def _note_models(self, state: PerCallState, sums: Floats, app: int, start: int) -> None:
        """Note models of which there are calls for the first time, and sum up those that are new."""
        rows = np.flatnonzero((dims_of(state) == "model") & (sums[:, CALLS] > 0))
        for row in rows.tolist():
            name = state.names[row]
            if name not in state.models:
                known = state.minutes[app] >= 60 and state.usual[app, CALLS] >= self.learn_calls
                state.models[name] = start if known and len(state.models) < MOST_MODELS else 0
                state.since_first[row] = 0.0
            if start - state.models[name] < self.new_s * 1e6:
                state.since_first[row] += sums[row]


MOST_MODELS = 512
"""Models of an app that are distinguished; of those beyond none is new."""
