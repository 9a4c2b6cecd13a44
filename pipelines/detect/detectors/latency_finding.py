"""What ``latency`` reports: which test, which series, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from pipelines.alerts.cause import explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors import minute_evidence
from pipelines.detect.detectors.latency_state import (
    LOG_GAMMA,
    MEASURE_OF,
    MEASURES,
    QUANTILE_OF,
    SLO,
    Histogram,
    LatencyState,
    bins,
    histograms,
    over,
    quantile_ms,
    time_words,
)
from pipelines.detect.side import is_minute_only
from pipelines.detect.windows import RING, SLOT, Floats, Windows
from schemas.alerts import BROAD, Cause
from schemas.rollups import BUCKET_GAMMA, series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.latency import Latency

FAMILY = "latency"
OBJECTIVE = "latency_slo"
NOUNS = {"latency_ms": "latency", "ttft_ms": "time to first token"}
STEPS = (
    "Check the provider's status page, and compare its models and regions (`tailrace alerts show ALERT_ID`).",
    "Open a slow call (`tailrace call CALL_ID`): a long prompt, a long answer, retries inside it, a tool that waits?",
    "Only large inputs are slow: trim the context, or send them elsewhere. All are: switch to the fallback model.",
)


def regressed(finding: Finding) -> bool:
    """Whether it is about what is usual, not about an objective."""
    return finding.rule != OBJECTIVE


def finding_of(test: Latency, state: LatencyState, view: View) -> Finding:
    """The finding of the last minute; there is one."""
    windows = view.windows
    mean, onset, _ = minute_evidence.best(state.log, state.onset, state.run)
    mean = np.where(state.found, mean, 0.0)
    if state.found[:, SLO].any():
        mean[:, :SLO] = 0.0
    app = state.names.index(windows.own)
    row, k = divmod(int(mean.argmax()), mean.shape[1])
    if mean[app].max() >= 0.5 * mean[row, k]:
        row, k = app, int(mean[app].argmax())
    start = max(int(onset[row, k]), windows.closed - RING * SLOT)
    return _finding(test, state, view, (row, k), (start, float(mean[row, k])))


def _finding(test: Latency, state: LatencyState, view: View, at: tuple[int, int], run: tuple[int, float]) -> Finding:
    (row, k), (start, score), windows, side = at, run, view.windows, view.windows.side
    end, edge = windows.closed, int(state.edge[row, k])
    cells, rows = side.cells(start, end), len(state.names)
    counts = over(cells[cells[:, 0] < rows], np.full((rows, len(MEASURE_OF)), edge))[:, k]
    usual = _shares(state, int(MEASURE_OF[k]), edge) if k != SLO else np.full(rows, test.slo_share)
    app = state.names.index(windows.own)
    excess, normal = counts[:, 0] - counts[:, 1] * usual, counts[:, 1] / max(counts[app, 1], 1.0)
    explained = explain(state.names, excess, normal, app=app, trigger=row, enough=counts[:, 0] >= test.min_hits)
    place = row if explained.place == app else explained.place  # what is slow is the series that was tested
    (hits, calls), measure, limit = counts[place].tolist(), MEASURES[int(MEASURE_OF[k])], float(BUCKET_GAMMA**edge)
    seen = hits / max(calls, 1.0)
    before = float(state.share[row, k]) if place == row else float(usual[place])
    now = histograms(cells[cells[:, 0] == place], rows)[place, int(MEASURE_OF[k])]
    moved = _moved(test, k, state.learned[place, int(MEASURE_OF[k])], now, seen)
    return Finding(
        detector=test.name,
        rule=_rule(k),
        family=FAMILY,
        rank=2,
        severity="critical" if k == SLO and seen >= 10 * test.slo_share else "warning",
        measure=measure,
        target=state.names[place] if state.names[place] in windows.index else windows.own,
        series=series_pairs(state.names[place]),
        start=start,
        end=end,
        observed=seen,
        expected=test.slo_share if k == SLO else before,
        score=round(score, 3),
        unit="share",
        peak=seen,
        excess=float(hits - calls * before),
        calls=int(hits),
        causes=_causes(explained.causes, moved),
        call_ids=_examples(windows, state.names[place], start, end),
        noun=f"{NOUNS[measure]} over {time_words(limit)}",
        value_sql=f"count(*) FILTER ({measure} > {limit!r})::DOUBLE / count({measure})",
        over=limit,
        steps=STEPS,
    )


def _shares(state: LatencyState, measure: int, edge: int) -> Floats:
    """(rows,) learned share of the calls above a bucket."""
    at = int(bins(np.array([edge]))[0])
    histogram = state.learned[:, measure]
    shares: Floats = histogram[:, at + 1 :].sum(axis=1, dtype=float) / np.maximum(histogram.sum(axis=1, dtype=float), 1)
    return shares


def _examples(windows: Windows, name: str, start: int, end: int) -> tuple[str, ...]:
    """Ids of expensive calls of a series; there are none of a series that only these detectors have."""
    if is_minute_only(name):
        return ()
    return windows.calls_of(windows.index.get(name, windows.index[windows.own]), "cost", start, end)


def _rule(k: int) -> str:
    return OBJECTIVE if k == SLO else f"{MEASURES[int(MEASURE_OF[k])].removesuffix('_ms')}_p{QUANTILE_OF[k] * 100:.0f}"


def _moved(test: Latency, k: int, learned: Histogram, now: Histogram, seen: float) -> str:
    """How the quantile of a test moved; of the objective also the share of slow calls that was ``seen``."""
    q, noun = float(QUANTILE_OF[k]) or 0.95, NOUNS[MEASURES[int(MEASURE_OF[k])]]
    before, after = (time_words(quantile_ms(histogram, q)) for histogram in (learned, now))
    moved = f"p{q * 100:.0f} of the {noun} went from {before} to {after}"
    if k != SLO:
        return moved
    return f"the objective allows {test.slo_share:.1%}: {seen / test.slo_share:.1f} times as many; {moved}"


def _causes(named: tuple[Cause, ...], moved: str) -> tuple[Cause, ...]:
    if not any(cause.named for cause in named):
        return (Cause("", BROAD, 1.0, moved), *named)
    return (replace(named[0], text=f"{named[0].text}; {moved}"), *named[1:])


def limit_bucket(ms: float | None) -> int:
    """The bucket of the rollups whose upper end is ``ms``."""
    return round(float(np.log(ms or 1.0)) / LOG_GAMMA)
