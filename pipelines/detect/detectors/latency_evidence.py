"""How many calls of some minutes are slow, by series, and the evidence in them against the usual latency. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors import minute_evidence
from pipelines.detect.detectors.latency_state import (
    BINS,
    FIRST,
    HOURS,
    LIFTS,
    LOG_GAMMA,
    MEASURE_OF,
    SLO,
    WIDTH,
    K,
    LatencyState,
    over,
    tails,
)
from pipelines.detect.detectors.likelihood import log_ratios
from pipelines.detect.detectors.minute import MINUTE
from pipelines.detect.side import CODE, Matrix
from pipelines.detect.side_cells import Minutes
from pipelines.detect.windows import Floats, Windows
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.latency import Latency

HOUR = 3_600_000_000
_TOKENS = [CODE[name] for name in ("calls", "input_tokens", "output_tokens")]
_GROWS_WITH = np.array([1, 0])
"""Of each measure: the whole call grows with its output tokens (1), the first token with the input tokens (0)."""
MIXED = ("feature", "tenant", "model", "provider")
"""Dimensions of which a change of the mix is no change of the latency."""


@dataclass(frozen=True)
class Evidence:
    """Of some minutes."""

    busy: NDArray[np.bool_]
    """(minutes,) whether there was a call."""
    counts: Floats
    """(minutes, series, tests, 2) slow calls, and calls whose time is reported."""
    gain: Floats
    """(minutes, series, tests, lifts)."""


def evidence_of(test: Latency, state: LatencyState, windows: Windows, ends: Sequence[int]) -> Evidence:
    """Weigh the calls of the minutes that end at ``ends``, µs UTC."""
    minutes = windows.side.minutes(ends, MINUTE)
    tokens, counts = counted(state, minutes, ends)
    gain = log_ratios(counts[..., 0], counts[..., 1], test.bars(_expected(state, tokens, counts, windows)), LIFTS)
    gain /= minute_evidence.shown_spread(state.spread[..., 0], state.spread[..., 1], test.max_spread)[..., None]
    return Evidence(minutes.busy, counts, gain)


def counted(state: LatencyState, minutes: Minutes, ends: Sequence[int]) -> tuple[Floats, Floats]:
    """(minutes, series, 3) calls and tokens; (minutes, series, tests, 2) as in ``Evidence``."""
    tokens = minutes.sums(_TOKENS)
    edges = limits(state, tokens, ends)
    counts = over(minutes.cells, edges.reshape(-1, edges.shape[-1]))
    return tokens, counts.reshape(*edges.shape, 2)


def limits(state: LatencyState, tokens: Floats, ends: Sequence[int]) -> Matrix:
    """(minutes, series, tests): buckets above which calls of a minute are slow; they grow with its tokens per call."""
    season = np.moveaxis(state.season[..., [hour_of(end) for end in ends]], -1, 0)
    edge = np.maximum(state.edge, season * (state.edge > 0))
    usual = state.tokens[:, 1:] / np.maximum(state.tokens[:, :1], 1.0)
    now = tokens[..., 1:] / np.maximum(tokens[..., :1], 1.0)
    growth = np.log(np.maximum(np.where(usual > 0, now / np.maximum(usual, 1e-9), 1.0), 1.0))
    shift = np.ceil(growth[..., _GROWS_WITH[MEASURE_OF]] / LOG_GAMMA).astype(np.int64)
    shift[..., SLO] = 0
    return edge + shift


def _expected(state: LatencyState, tokens: Floats, counts: Floats, windows: Windows) -> Floats:
    """The learned shares, raised where the mix of features or models alone explains more slow calls."""
    share = np.clip(state.share, 0.002, 0.97)
    app = state.names.index(windows.own)
    above, total = tails(state.learned), state.learned.sum(axis=-1, dtype=float)
    edges = np.clip((state.edge[app] - FIRST) // WIDTH, 0, BINS - 1)
    by_row = above[:, MEASURE_OF, edges] / np.maximum(total[:, MEASURE_OF], 1.0)
    known = total[:, MEASURE_OF] >= 20
    dims = np.array([dimension_of(name) for name in state.names])
    mixed = np.broadcast_to(share[app], (len(counts), K))
    for dimension in MIXED:
        part = np.where(known & (dims == dimension)[:, None], counts[..., 1], 0.0)
        calls = part.sum(axis=1)
        expected = (part * by_row).sum(axis=1) / np.maximum(calls, 1.0)
        mixed = np.where(calls >= 0.5 * counts[:, app, :, 1], np.maximum(mixed, expected), mixed)
    mixed = np.clip(mixed, 0.002, 0.97)
    lift = np.maximum(mixed / (1 - mixed) * (1 - share[app]) / share[app], 1.0)
    odds = share / (1 - share) * lift[:, None]
    raised: Floats = odds / (1 + odds)
    return raised


@lru_cache(maxsize=65_536)
def dimension_of(name: str) -> str:
    """Dimension of a series (JSON) below the app; empty of the app itself."""
    return next(iter(list(series_pairs(name))[1:]), "")


def hour_of(end: int) -> int:
    """Hour of the day of the minute that ends at ``end``, µs UTC."""
    return (end - 1) // HOUR % HOURS
