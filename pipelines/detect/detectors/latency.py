"""latency: calls take longer than is usual for their series, or more of them than an objective allows are slow.

A quantile is tested as a share. Calls above the learned median of a series, plus a margin, are slow; if half of the
calls are slow now, the median has moved. So the test is that of ``surge``: a likelihood ratio restarted at one like a
CUSUM, weighed once a minute, divided by the overdispersion between minutes. It is the same for p95 and p99, of the
whole call and of the time to the first token where that is reported.

Longer answers take longer, and a prompt of 300,000 tokens waits longer for its first token. So the limit of a minute
grows with the tokens per call, a change of the mix of features, tenants or models raises what is expected of the app,
and calls are judged by the class of their input tokens, too.
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
from pipelines.detect.detectors.latency_evidence import dimension_of, evidence_of
from pipelines.detect.detectors.latency_finding import FAMILY, finding_of, limit_bucket, regressed
from pipelines.detect.detectors.latency_learning import held_of, hold, learn
from pipelines.detect.detectors.latency_state import (
    ARRAYS,
    MEASURE_OF,
    MEASURES,
    QUANTILE_OF,
    SLO,
    TESTS,
    K,
    LatencyState,
    bins,
    over,
    quantile_ms,
    time_words,
)
from pipelines.detect.detectors.minute import LEARNED_AFTER, MINUTE, TEN_MINUTES, MinuteDetector
from pipelines.detect.windows import RING, SLOT, Floats, Windows
from schemas.rollups import BUCKET_GAMMA, series_key, series_pairs


@dataclass(frozen=True)
class Latency(MinuteDetector):
    """A quantile above what was learned, or an objective missed, by tests that hold under continuous looking."""

    name: ClassVar[str] = "latency"
    follows: ClassVar[tuple[str, ...]] = (FAMILY,)
    """Families that may follow an incident of another detector: what is over is not learned here either."""
    slo_ms: float = 0.0
    """The objective: at most ``slo_share`` of the calls take longer than this; 0 = there is none."""
    slo_share: float = 0.05
    evidence: float = 10.0
    """Log of 1/alpha: under the very worst permitted share one false alarm in e^10 minutes, 15 days, of all values of
    a dimension together (``more_for_many``)."""
    ratio: float = 2.0
    """Multiple of a learned quantile of the whole call that is not worth an alert: answers differ in their length."""
    ratio_ttft: float = 1.1
    """The same of the time to the first token; limits are those of bins of 10 %."""
    least_ms: float = 100.0
    """Distance to the learned quantile that is not worth an alert."""
    tolerance: float = 1.25
    """Multiple of the odds of the learned share that is not worth an alert."""
    rise: float = 0.03
    """Least distance of the share to the learned one, since the onset."""
    min_hits: int = 8
    min_calls: int = 30
    """Slow calls, and calls, of the series since the onset."""
    learn_calls: int = 200
    """Calls of the series learned before anything is reported; and ten beyond the quantile."""
    warm_up_s: float = 3600.0
    half_life_s: float = 43_200.0
    max_spread: float = 20.0
    pending: float = 3.0
    """Evidence from which a minute is held back and not learned."""
    hold_most_s: float = 86_400.0
    """Event time after which what is held back is learned, with any evidence."""

    def initial_state(self) -> LatencyState:
        """State of an app never seen."""
        return LatencyState()

    def minutes(
        self, state: LatencyState, windows: Windows, ends: Sequence[int], open_: Mapping[str, int]
    ) -> Iterator[None]:
        """See ``MinuteTest``."""
        minute.fit_rows(state, windows.side.names, ARRAYS)
        judges = self._is_warm(windows, ends[-1]) and (state.edge > 0).any()
        now = evidence_of(self, state, windows, ends) if judges else None
        held = held_of(state, windows, [end - LEARNED_AFTER for end in ends])
        for i, end in enumerate(ends):
            judged = (state.edge > 0) & self._is_warm(windows, end)
            if minute.is_muted(state.muted, open_, FAMILY, end - MINUTE):
                state.log[:], state.found[:] = 0.0, False
            elif now is not None and now.busy[i] and judged.any():
                gain = np.where(judged[..., None], now.gain[i], -np.inf)
                minute_evidence.weigh(state.log, state.onset, state.run, gain, now.counts[i], end - MINUTE)
                state.found = self._judged(state) & judged
            hold(state, held, i, end - LEARNED_AFTER, open_)
            if end % TEN_MINUTES == 0:
                learn(self, state, end)
            yield

    def breaches(self, state: LatencyState, open_: Mapping[str, int]) -> bool:
        """See ``MinuteTest``."""
        return FAMILY not in open_ and bool(state.found.any())

    def findings(self, state: LatencyState, view: View) -> list[Finding]:
        """One finding: the objective before regressions, else what has most evidence."""
        return [finding_of(self, state, view)]

    def bars(self, share: Floats) -> Floats:
        """The highest share that is not worth an alert; of the objective it is the share that it allows."""
        odds = self.tolerance * share / (1 - share) + 0.005
        bar = np.clip(odds / (1 + odds), 0.005, 0.97)
        bar[..., SLO] = self.slo_share
        return bar

    def _is_warm(self, windows: Windows, end: int) -> bool:
        return end - windows.first >= self.warm_up_s * 1e6

    def least_evidence(self, state: LatencyState) -> Floats:
        """(series,): ``evidence``, and more for each of many values of a dimension."""
        dimensions = np.array([dimension_of(name) for name in state.names], np.str_)
        return self.evidence + minute_evidence.more_for_many(state.tokens[:, 0], dimensions)

    def _judged(self, state: LatencyState) -> NDArray[np.bool_]:
        if state.log.max(initial=0.0) < self.evidence:  # the mean is at most that
            return np.zeros_like(state.found)
        mean, _, run = minute_evidence.best(state.log, state.onset, state.run)
        hits, calls = run[..., 0], run[..., 1]
        seen = hits / np.maximum(calls, 1.0)
        clear = (seen >= 2 * state.share) | (QUANTILE_OF <= 0.5)
        clear &= (seen >= state.share + self.rise) & (seen >= 1 - QUANTILE_OF)
        clear[:, SLO] = seen[:, SLO] > self.slo_share
        enough = mean >= self.least_evidence(state)[:, None]
        found: NDArray[np.bool_] = enough & clear & (hits >= self.min_hits) & (calls >= self.min_calls)
        return found

    def observe(
        self, state: LatencyState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Slow calls and calls per slot, by the limit that the finding was found with."""
        name = series_key(finding.series)[1]
        row = state.names.index(name) if name in state.names else 0
        share = finding.expected
        bar = max(1.5 * share, share + self.rise) if regressed(finding) else 1.2 * share
        spread = float(
            minute_evidence.shown_spread(state.spread[row, :, 0], state.spread[row, :, 1], self.max_spread).max()
        )
        terms = Terms(share, min(bar, 0.95), dispersion=spread, share=True)
        side, buckets = view.windows.side, []
        place, measure = side.index.get(name, -1), MEASURES.index(finding.measure)
        edge = np.full((len(side.names), K), limit_bucket(finding.over), np.int64)
        k = next(i for i, m in enumerate(MEASURE_OF.tolist()) if m == measure)
        for start in range(since, until, SLOT):
            cells = side.cells(start, start + SLOT)
            hits, calls = over(cells[cells[:, 0] == place], edge)[place, k].tolist()
            buckets.append(Bucket(hits, calls, calls))
        return terms, buckets

    def has_steady_terms(self, state: LatencyState, finding: Finding, slot: int) -> bool:
        """The overdispersion is learned when ten minutes end."""
        return (slot + SLOT) % TEN_MINUTES != 0

    def about_app(self, state: LatencyState, view: View, finding: Finding) -> Finding:
        """The same limit, with the share of the whole app that is learned to be above it."""
        row = state.names.index(view.windows.own)
        histogram = state.learned[row, MEASURES.index(finding.measure)]
        at = int(bins(np.array([limit_bucket(finding.over)]))[0])
        share = float(histogram[at + 1 :].sum() / max(float(histogram.sum()), 1.0))
        target = view.windows.own
        expected = share if regressed(finding) else finding.expected
        return replace(finding, target=target, series=series_pairs(target), expected=expected, causes=())

    def on_resolved(self, state: LatencyState, finding: Finding, end: int, proven: int) -> LatencyState:
        """Reset the evidence; neither the incident nor the time until its end was proven is learned."""
        minute.resolved(state, FAMILY, finding.start, proven)
        return state

    def bands(self, state: LatencyState, view: View, series: str) -> list[Band]:
        """What is compared for a series (JSON), for people."""
        if series not in state.names:
            return []
        row, side, found = state.names.index(series), view.windows.side, []
        needed = float(self.least_evidence(state)[row])
        cells = side.cells(view.until - RING * SLOT, view.until)
        counts = over(cells, np.maximum(state.edge, 1))[row] if len(state.edge) == len(side.names) else np.zeros((K, 2))
        window = RING * SLOT // 1_000_000
        for k, (measure, q) in enumerate((*TESTS, (0, 0.0))):
            hits, calls = counts[k].tolist()
            if not calls or (k == SLO and self.slo_ms <= 0):
                continue
            name = f"{MEASURES[measure].removesuffix('_ms')} {'slo' if k == SLO else f'p{q * 100:.0f}'}"
            learned = state.learned[row, measure]
            if not state.edge[row, k]:
                note = f"learned {learned.sum():.0f} of {max(self.learn_calls, 10 / max(1 - q, 1e-9)):.0f} calls"
                found.append(Band(self.name, name, window, "share", 0.0, None, None, int(calls), self.min_calls, note))
                continue
            limit, share = time_words(BUCKET_GAMMA ** int(state.edge[row, k])), float(state.share[row, k])
            least = self.slo_share if k == SLO else max(1 - q, share + self.rise, 2 * share if q > 0.5 else 0.0)
            note = f"calls over {limit}; usually p{q * 100:.0f} is {time_words(quantile_ms(learned, q))}; "
            note = (note if k != SLO else f"calls over {limit}; ") + (
                f"evidence {float(state.log[row, k].max()):.1f} of {needed:.3g}"
            )
            found.append(
                Band(self.name, name, window, "share", hits / calls, share, least, int(calls), self.min_calls, note)
            )
        return found
