"""State of ``latency`` for one app: learned histograms, the limits that follow from them, and the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.minute import MinuteState, no_rows
from pipelines.detect.side import TTFT, Matrix
from pipelines.detect.windows import Floats
from schemas.rollups import BUCKET_GAMMA

LOG_GAMMA = float(np.log(BUCKET_GAMMA))
FIRST, WIDTH, BINS = 60, 5, 128
"""Bins of the learned histograms: WIDTH buckets of the rollups each (10 %), from 3.3 ms to 17 minutes."""
MEASURES = ("latency_ms", "ttft_ms")
QUANTILES = (0.5, 0.95, 0.99)
TESTS = tuple((m, q) for m in range(len(MEASURES)) for q in QUANTILES)
"""(measure, quantile) of each regression test; the test of the objective follows."""
SLO = len(TESTS)
K = len(TESTS) + 1
MEASURE_OF = np.array([*(m for m, _ in TESTS), 0])
QUANTILE_OF = np.array([*(q for _, q in TESTS), 0.0])
LIFTS = (2.0, 4.0, 10.0, 30.0)
"""Of the odds that a call is slower than the limit."""
HOURS = 24
TOKENS = 3
"""Calls, input tokens and output tokens."""
_HISTOGRAM = (len(MEASURES), BINS)
ARRAYS: dict[str, tuple[int, ...]] = {
    "learned": _HISTOGRAM,
    "held": _HISTOGRAM,
    "hour": _HISTOGRAM,
    "tokens": (TOKENS,),
    "held_tokens": (TOKENS,),
    "held_minutes": (),
    "spread": (K, 2),
    "held_spread": (K, 2),
    "edge": (K,),
    "share": (K,),
    "season": (K, HOURS),
    "log": (K, len(LIFTS)),
    "onset": (K, len(LIFTS)),
    "run": (K, len(LIFTS), 2),
    "found": (K,),
}


Histogram = NDArray[np.float32]
"""(..., bins)."""


def _no_histograms() -> NDArray[np.float32]:
    return np.zeros((0, *_HISTOGRAM), np.float32)


@dataclass
class LatencyState(MinuteState):
    """Arrays are (series of ``Windows.side``, ...)."""

    learned: NDArray[np.float32] = field(default_factory=_no_histograms)
    """Calls by measure and bin, forgetting by half in some hours."""
    held: NDArray[np.float32] = field(default_factory=_no_histograms)
    """The same of minutes that are not learned yet."""
    hour: NDArray[np.float32] = field(default_factory=_no_histograms)
    """The same of what was learned of this hour of the day."""
    hour_of_day: int = -1
    tokens: Floats = field(default_factory=lambda: no_rows(TOKENS))
    held_tokens: Floats = field(default_factory=lambda: no_rows(TOKENS))
    held_minutes: Floats = field(default_factory=lambda: no_rows())
    spread: Floats = field(default_factory=lambda: no_rows(K, 2))
    """Sum of the squared distances of minutes from the learned share, in variances; minutes in it."""
    held_spread: Floats = field(default_factory=lambda: no_rows(K, 2))
    edge: Matrix = field(default_factory=lambda: np.zeros((0, K), np.int64))
    """Bucket of the rollups above which a call counts as slow; 0 = nothing is judged."""
    share: Floats = field(default_factory=lambda: no_rows(K))
    """Learned share of the calls above it."""
    season: Matrix = field(default_factory=lambda: np.zeros((0, K, HOURS), np.int64))
    """The limit that follows from this hour of earlier days; 0 = not known."""
    log: Floats = field(default_factory=lambda: no_rows(K, len(LIFTS)))
    onset: Matrix = field(default_factory=lambda: np.zeros((0, K, len(LIFTS)), np.int64))
    run: Floats = field(default_factory=lambda: no_rows(K, len(LIFTS), 2))
    """Slow calls, and calls whose time is reported, since the onset."""
    found: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, K), bool))
    """Whether the last minute left evidence enough."""
    muted: list[tuple[str, int, int]] = field(default_factory=list)
    """Family, start and end of incidents, which are not learned."""


def bins(buckets: Matrix) -> Matrix:
    """Buckets of the rollups -> bins of the learned histograms."""
    found: Matrix = np.clip(-(-(buckets - FIRST) // WIDTH), 0, BINS - 1)
    return found


def edge_of(bin_: Matrix) -> Matrix:
    """The highest bucket of a bin."""
    return FIRST + WIDTH * bin_


def histograms(cells: Matrix, rows: int) -> NDArray[np.float32]:
    """(rows, measures, bins) calls of ``cells`` of a side store."""
    timed = cells[cells[:, 1] < len(MEASURES) * TTFT]
    measure, bucket = timed[:, 1] // TTFT, timed[:, 1] % TTFT
    at = (timed[:, 0] * len(MEASURES) + measure) * BINS + bins(bucket)
    counts = np.bincount(at, weights=timed[:, 2], minlength=rows * len(MEASURES) * BINS)
    return counts[: rows * len(MEASURES) * BINS].reshape(rows, *_HISTOGRAM).astype(np.float32)


def over(cells: Matrix, edges: Matrix) -> Floats:
    """(rows, tests, 2): calls slower than ``edges`` (rows, tests), and calls whose time is reported."""
    rows, tests = edges.shape
    timed = cells[cells[:, 1] < len(MEASURES) * TTFT]
    place, calls = timed[:, 0], timed[:, 2]
    measure, bucket = timed[:, 1] // TTFT, timed[:, 1] % TTFT
    slow = (bucket[:, None] > edges[place]) & (measure[:, None] == MEASURE_OF[:tests])
    cell, test = np.nonzero(slow)  # few calls are slow
    hits = np.bincount(place[cell] * tests + test, weights=calls[cell], minlength=rows * tests)
    total = np.bincount(place * len(MEASURES) + measure, weights=calls, minlength=rows * len(MEASURES))
    total = total[: rows * len(MEASURES)].reshape(rows, len(MEASURES))[:, MEASURE_OF[:tests]]
    return np.stack([hits[: rows * tests].reshape(rows, tests), total], axis=-1)


def tails(histogram: NDArray[np.float32]) -> Floats:
    """(rows, measures, bins): calls in higher bins than each."""
    above: Floats = np.cumsum(histogram[..., ::-1].astype(float), axis=-1)[..., ::-1] - histogram
    return above


def quantile_bins(histogram: NDArray[np.float32]) -> Matrix:
    """(rows, regression tests): the bin that holds the quantile; 0 where there is no call."""
    above, total = tails(histogram), histogram.sum(axis=-1, dtype=float)
    found = np.zeros((len(histogram), len(TESTS)), np.int64)
    for k, (measure, q) in enumerate(TESTS):
        within = above[:, measure] <= (1 - q) * total[:, measure, None]
        found[:, k] = np.where(total[:, measure] > 0, within.argmax(axis=1), 0)
    return found


def quantile_ms(histogram: NDArray[np.float32], q: float) -> float:
    """A quantile of one histogram (bins,), ms: the middle of its bin, on the scale of logarithms."""
    total = float(histogram.sum(dtype=float))
    if total <= 0:
        return 0.0
    bin_ = int(np.searchsorted(np.cumsum(histogram, dtype=float), q * total))
    return float(BUCKET_GAMMA ** (FIRST + WIDTH * (min(bin_, BINS - 1) - 0.5)))


def time_words(ms: float) -> str:
    """A time at the precision that people read."""
    return f"{ms:.0f} ms" if ms < 995 else f"{ms / 1000:.1f} s" if ms < 99_500 else f"{ms / 1000:.0f} s"
