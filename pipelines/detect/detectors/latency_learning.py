"""What ``latency`` learns of the minutes that are held back, and the limits that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors import minute, minute_evidence
from pipelines.detect.detectors.latency_evidence import counted, hour_of
from pipelines.detect.detectors.latency_finding import FAMILY
from pipelines.detect.detectors.latency_state import (
    BINS,
    FIRST,
    LOG_GAMMA,
    MEASURE_OF,
    QUANTILE_OF,
    SLO,
    WIDTH,
    K,
    LatencyState,
    bins,
    edge_of,
    histograms,
    quantile_bins,
    tails,
)
from pipelines.detect.detectors.minute import MINUTE
from pipelines.detect.side import Matrix
from pipelines.detect.windows import Floats, Windows
from schemas.rollups import BUCKET_GAMMA

if TYPE_CHECKING:
    from pipelines.detect.detectors.latency import Latency


@dataclass(frozen=True)
class Held:
    """What will be learned of some minutes."""

    busy: NDArray[np.bool_]
    """(minutes,) whether there was a call."""
    calls: NDArray[np.float32]
    """(minutes, series, measures, bins)."""
    tokens: Floats
    """(minutes, series, 3)."""
    spread: Floats
    """(minutes, series, tests, 2): squared distance from the learned share, in variances; 1 where it counts."""


def held_of(state: LatencyState, windows: Windows, ends: Sequence[int]) -> Held:
    """Read the minutes that end at ``ends``, µs UTC."""
    minutes = windows.side.minutes(ends, MINUTE)
    tokens, counts = counted(state, minutes, ends)
    share = np.clip(state.share, 0.002, 0.97)
    spread = minute_evidence.distances(counts[..., 0], counts[..., 1], share)
    calls = histograms(minutes.cells, minutes.count * minutes.rows)
    return Held(
        minutes.busy,
        calls.reshape(minutes.count, minutes.rows, *calls.shape[1:]),
        tokens,
        np.where((state.edge > 0)[..., None], spread, 0.0),
    )


def hold(state: LatencyState, held: Held, at: int, end: int, open_: Mapping[str, int]) -> None:
    """Hold back the minute ``at``, which ends at ``end``; discard what was held where an incident is open."""
    if FAMILY in open_:
        for array in (state.held, state.held_tokens, state.held_minutes, state.held_spread):
            array[:] = 0.0
    if not held.busy[at] or minute.is_muted(state.muted, open_, FAMILY, end - MINUTE):
        return
    state.held += held.calls[at]
    state.held_tokens += held.tokens[at]
    state.held_minutes += 1
    state.held_spread += held.spread[at]


def learn(test: Latency, state: LatencyState, end: int) -> None:
    """Add what is held back to what is known, except where evidence against it is pending; set new limits."""
    evidence = state.log[:, :SLO].max(axis=(1, 2), initial=0.0)
    pending = (evidence > test.pending) & (state.held_minutes < test.hold_most_s * 1e6 / MINUTE)
    learned = ~pending
    _end_hour(test, state, end)
    state.hour[learned] += state.held[learned]
    known, held = (state.learned, state.tokens, state.spread), (state.held, state.held_tokens, state.held_spread)
    minute_evidence.absorb(known, held, learned, test.half_life_s)
    state.held_minutes[learned] = 0.0
    _set_limits(test, state)


def _end_hour(test: Latency, state: LatencyState, end: int) -> None:
    """Note the limits that follow from an hour of the day when it ends, where it holds calls enough."""
    hour = hour_of(end)
    if hour == state.hour_of_day:
        return
    if state.hour_of_day >= 0:
        calls = state.hour.sum(axis=-1, dtype=float)[:, MEASURE_OF[:SLO]]
        known = calls >= np.maximum(100, 10 / (1 - QUANTILE_OF[:SLO]))
        limits = _edges(test, state.hour)
        season = state.season[:, :SLO, state.hour_of_day]
        both = np.where(season > 0, (season + limits) // 2, limits)
        state.season[:, :SLO, state.hour_of_day] = np.where(known, both, season)
    state.hour[:], state.hour_of_day = 0.0, hour


def _edges(test: Latency, histogram: NDArray[np.float32]) -> Matrix:
    """(rows, regression tests): the limits that follow from the quantiles of histograms."""
    at = quantile_bins(histogram)
    ms = BUCKET_GAMMA ** edge_of(at).astype(float)
    ratio = np.array([test.ratio, test.ratio_ttft])[MEASURE_OF[:SLO]]
    least = np.maximum(ms * ratio, ms + test.least_ms)
    return edge_of(bins(np.ceil(np.log(least) / LOG_GAMMA).astype(np.int64)))


def _set_limits(test: Latency, state: LatencyState) -> None:
    total = state.learned.sum(axis=-1, dtype=float)[:, MEASURE_OF]
    needed = np.maximum(test.learn_calls, 10 / np.maximum(1 - QUANTILE_OF, 1e-9))
    edge = np.zeros((len(state.names), K), np.int64)
    edge[:, :SLO] = _edges(test, state.learned)
    above = tails(state.learned)
    at = np.clip((edge - FIRST) // WIDTH, 0, BINS - 1)
    rows = np.arange(len(edge))[:, None]
    state.share = (above[rows, MEASURE_OF, at] + 0.5) / (total + 10.0)
    state.edge = np.where(total >= needed, edge, 0)
    if test.slo_ms > 0:
        state.edge[:, SLO] = int(np.ceil(np.log(max(test.slo_ms, 1.0)) / LOG_GAMMA))
        state.share[:, SLO] = test.slo_share
