"""State of ``per_call`` for one app: how tokens and cost of a call are spread, and the evidence that they rose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.minute import MinuteState, no_rows
from pipelines.detect.side import CODE, PER_CALL, Matrix
from pipelines.detect.side_cells import sums_of
from pipelines.detect.windows import Floats
from schemas.rollups import CALL_GAMMA, series_pairs

FAMILY = "per_call"
MEASURES = ("tokens_per_call", "cost_per_call")
FIRST_CODE = np.array([PER_CALL["call_tokens"], PER_CALL["call_cost"]])
BINS = 288
"""Of 10 % each: up to 8e11 tokens or nano-USD, 800 USD a call."""
LOG_GAMMA = float(np.log(CALL_GAMMA))
READ = ("calls", "input_tokens", "output_tokens", "cost_nanousd")
CODES = [CODE[name] for name in READ]
CALLS, TOKENS, COST = range(3)
"""Columns of the sums: calls, tokens, nano-USD; then COUNTED and LOG_SUM of each measure."""
COUNTED, LOG_SUM, SUMS = 3, 5, 7
"""Calls with tokens, and with a cost; the sums of their bins."""
PEAK_DAYS = 14
BLOCK_CALLS = 20
"""Calls of which the mean of the bins is a level of a series."""
LIFTS = (1.8, 3.0, 5.0, 10.0, 20.0)
"""Of the tokens or the cost of a call."""
SHIFTS = np.round(np.log(LIFTS) / LOG_GAMMA).astype(np.int64)
SHARES = (0.9, 0.2)
"""Of the calls that are taken to have risen: all of them, or those that go to another model."""
TESTS = len(LIFTS) * len(SHARES)
K = len(MEASURES)
NEW = K
"""Column of ``found`` of models that are new."""
ARRAYS: dict[str, tuple[int, ...]] = {
    "learned": (K, BINS),
    "held": (K, BINS),
    "usual": (SUMS,),
    "held_sums": (SUMS,),
    "minutes": (),
    "held_minutes": (),
    "spread": (K, 2),
    "since_first": (SUMS,),
    "block": (K, 2),
    "peaks": (K, PEAK_DAYS),
    "log": (K, TESTS),
    "onset": (K, TESTS),
    "run": (K, TESTS, SUMS),
    "found": (K + 1,),
}


def _no_histograms() -> NDArray[np.float32]:
    return np.zeros((0, K, BINS), np.float32)


@dataclass
class PerCallState(MinuteState):
    """Arrays are (series of ``Windows.side``, ...)."""

    learned: NDArray[np.float32] = field(default_factory=_no_histograms)
    """Calls by measure and bin, forgetting by half in some hours."""
    held: NDArray[np.float32] = field(default_factory=_no_histograms)
    """The same of minutes that are not learned yet."""
    usual: Floats = field(default_factory=lambda: no_rows(SUMS))
    """Sums of what is learned."""
    held_sums: Floats = field(default_factory=lambda: no_rows(SUMS))
    minutes: Floats = field(default_factory=lambda: no_rows())
    """Minutes in ``usual``."""
    held_minutes: Floats = field(default_factory=lambda: no_rows())
    block: Floats = field(default_factory=lambda: no_rows(K, 2))
    """Calls learned since the last level was noted, and the sum of their bins."""
    peaks: Floats = field(default_factory=lambda: no_rows(K, PEAK_DAYS))
    """Highest level (mean bin of a block) of each of the last days; 0 = none noted."""
    day: int = 0
    """Of the last column that was written, days since 1970."""
    spread: Floats = field(default_factory=lambda: no_rows(K, 2))
    """Sum of the squared distances of ten minutes from what is learned, in variances; such stretches in it."""
    models: dict[str, int] = field(default_factory=dict)
    """Series of a model -> minute of its first call, µs UTC; 0 = it is not new."""
    since_first: Floats = field(default_factory=lambda: no_rows(SUMS))
    """Of models that are new: sums since then."""
    log: Floats = field(default_factory=lambda: no_rows(K, TESTS))
    onset: Matrix = field(default_factory=lambda: np.zeros((0, K, TESTS), np.int64))
    run: Floats = field(default_factory=lambda: no_rows(K, TESTS, SUMS))
    """Sums since the onset."""
    found: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, K + 1), bool))
    """Whether the last minute left evidence enough, by measure; NEW: of a model that is new."""
    muted: list[tuple[str, int, int]] = field(default_factory=list)
    """Family, start and end of incidents, which are not learned."""

    def __post_init__(self) -> None:
        self.density: Floats | None = None
        """Of ``learned``, until more is learned. It changes the speed, not the alerts."""
        self.dims: NDArray[np.str_] | None = None
        """(series,) dimension below the app, "" = the app itself or several. It changes the speed, not the alerts."""


def dims_of(state: PerCallState) -> NDArray[np.str_]:
    """(series,) dimension below the app."""
    if state.dims is None or len(state.dims) != len(state.names):
        state.dims = np.array([",".join(list(series_pairs(name))[1:]) for name in state.names], np.str_)
    return state.dims


def sums_in(cells: Matrix, parts: tuple[Matrix, Matrix, Matrix, Floats], rows: int) -> Floats:
    """(rows, SUMS) of the cells of a minute; ``parts`` are ``binned``."""
    out = np.zeros((rows, SUMS))
    read = sums_of(cells, CODES, rows)
    out[:, CALLS], out[:, TOKENS], out[:, COST] = read[:, 0], read[:, 1] + read[:, 2], read[:, 3]
    series, measure, bins, calls = parts
    at = series * K + measure
    for column, weights in ((COUNTED, calls), (LOG_SUM, calls * bins)):
        out[:, column : column + K] = np.bincount(at, weights=weights, minlength=rows * K)[: rows * K].reshape(rows, K)
    return out


def binned(cells: Matrix) -> tuple[Matrix, Matrix, Matrix, Floats]:
    """(n,) series, measure, bin and calls of the cells that count calls by their tokens or cost."""
    by_size = cells[(cells[:, 1] >= FIRST_CODE[0]) & (cells[:, 1] < 2 * FIRST_CODE[1] - FIRST_CODE[0])]
    measure = (by_size[:, 1] >= FIRST_CODE[1]).astype(np.int64)
    bins = np.minimum(by_size[:, 1] - FIRST_CODE[measure], BINS - 1)
    return by_size[:, 0], measure, bins, by_size[:, 2].astype(float)


def histograms(parts: tuple[Matrix, Matrix, Matrix, Floats], rows: int) -> NDArray[np.float32]:
    """(rows, K, BINS) calls of ``binned`` cells."""
    series, measure, bins, calls = parts
    found = np.bincount((series * K + measure) * BINS + bins, weights=calls, minlength=rows * K * BINS)
    return found[: rows * K * BINS].reshape(rows, K, BINS).astype(np.float32)
