"""When evidence of ``per_call`` is worth an alert: how large the rise is, what it costs, what a mix explains of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.minute import MINUTE
from pipelines.detect.detectors.per_call_learning import known_rise
from pipelines.detect.detectors.per_call_state import (
    CALLS,
    CODES,
    COST,
    COUNTED,
    LOG_GAMMA,
    LOG_SUM,
    TOKENS,
    PerCallState,
    dims_of,
)
from pipelines.detect.windows import Floats, Windows
from schemas.rollups import CALL_GAMMA

if TYPE_CHECKING:
    from pipelines.detect.detectors.per_call import PerCall

MINUTES_A_DAY = 1440.0
LEAST_MINUTES = 10.0
"""A rise is projected to a day from no shorter time."""
MIXED = ("feature", "tenant", "provider", "model", "release", "prompt_version")
"""Dimensions of which a change of the mix is no change of what a call costs."""

LEARNED = 20
"""Calls learned from which the mean of a value is known."""
OF_OTHERS = ("", "model", "provider")
"""Dimensions of series whose calls are those of features and tenants: of the app itself, too."""


def usual_of(state: PerCallState) -> Floats:
    """(series, K) learned tokens, and USD, per call."""
    calls = np.maximum(state.usual[:, CALLS], 1e-9)
    return np.stack([state.usual[:, TOKENS] / calls, state.usual[:, COST] / 1e9 / calls], axis=-1)


def value_of(read: Floats) -> Floats:
    """(..., len(CODES)) -> (..., 3): calls, tokens, nano-USD."""
    return np.stack([read[..., 0], read[..., 1] + read[..., 2], read[..., 3]], axis=-1)


def geometric(state: PerCallState, run: Floats, row: int, k: int) -> float:
    """Geometric mean per call since the onset over the learned one."""
    now = run[LOG_SUM + k] / max(run[COUNTED + k], 1e-9)
    before = state.usual[row, LOG_SUM + k] / max(state.usual[row, COUNTED + k], 1e-9)
    return float(np.exp(LOG_GAMMA * (now - before)))


def is_rise(
    test: PerCall, state: PerCallState, windows: Windows, at: tuple[int, int, int], run: Floats, end: int
) -> bool:
    """Whether the run of series ``at[0]`` and measure ``at[1]`` since ``at[2]`` (µs UTC) is worth an alert."""
    row, k, onset = at
    usual = usual_of(state)
    app = state.names.index(windows.own)
    seen = (run[TOKENS], run[COST] / 1e9)[k] / max(run[CALLS], 1e-9)
    if seen < test.ratio * usual[row, k] or not is_worth(test, state, app, row, run, (end - onset) / MINUTE):
        return False
    sums = value_of(windows.side.longer(CODES, max(onset, end - test.reach), end))
    return bool(seen >= test.ratio * usual[row, k] * mix_ratio(state, sums, app, row, k))


def is_worth(test: PerCall, state: PerCallState, app: int, row: int, run: Floats, minutes: float) -> bool:
    """Whether what is beyond the usual is above the floors, at the pace of the run."""
    usual = usual_of(state)[row]
    a_day = _a_day(minutes)
    if run[COST] <= 0 or usual[1] <= 0:
        return bool((run[TOKENS] - run[CALLS] * usual[0]) * a_day >= test.least_tokens_per_day)
    beyond = (run[COST] / 1e9 - run[CALLS] * usual[1]) * a_day
    return bool(beyond >= _least_usd(test, state, app))


def _a_day(minutes: float) -> float:
    """How often a time of ``minutes`` minutes fits into a day."""
    return MINUTES_A_DAY / max(minutes, LEAST_MINUTES)


def _least_usd(test: PerCall, state: PerCallState, app: int) -> float:
    """USD a day beyond the usual that are worth an alert: the floor, or a part of what the app spends."""
    spent = state.usual[app, COST] / 1e9 / max(float(state.minutes[app]), 1.0) * MINUTES_A_DAY
    return float(max(test.least_usd_per_day, test.least_part * spent))


def mix_ratio(state: PerCallState, sums: Floats, app: int, row: int, k: int) -> float:
    """Most by which the values of another dimension raise the mean of the app, each as usual but in another mix.

    For the app, its models and providers each value may also be at the highest level that it had in the last days, and
    one that is new is taken as it is.

    Args:
        state: what is usual.
        sums: (series, 3) calls, tokens, nano-USD of the time in question.
        app: row of the whole app.
        row: of the series in question: values of its own dimension are not the reason.
        k: measure.
    """
    dims, usual, most = dims_of(state), usual_of(state)[:, k], 1.0
    for dimension in MIXED:
        if dimension == dims[row] or usual[app] <= 0:
            continue
        is_other = dims[row] in OF_OTHERS and dimension not in OF_OTHERS
        mine = (dims == dimension) & ((state.usual[:, CALLS] >= LEARNED) | is_other)
        calls = sums[mine, CALLS]
        if calls.sum() >= 0.5 * sums[app, CALLS] > 0:
            expected = usual[mine]
            if is_other:
                seen = sums[mine, 1 + k] / (1.0, 1e9)[k] / np.maximum(calls, 1.0)
                highest = expected * CALL_GAMMA ** known_rise(state)[mine, k].astype(float)
                expected = np.where(state.usual[mine, CALLS] >= LEARNED, np.clip(seen, expected, highest), seen)
            most = max(most, float((calls * expected).sum() / calls.sum() / usual[app]))
    return most


def new_models(test: PerCall, state: PerCallState, app: int, end: int) -> NDArray[np.bool_]:
    """(series,): models that are new, and whose calls cost a multiple of what calls of the app usually cost."""
    found = np.zeros(len(state.names), bool)
    usual = usual_of(state)[app, 1]
    if usual <= 0:
        return found
    least = _least_usd(test, state, app)
    for name, first in state.models.items():
        if not first or end - first > test.new_s * 1e6 or name not in state.names:
            continue
        row = state.names.index(name)
        calls, usd = state.since_first[row, CALLS], state.since_first[row, COST] / 1e9
        worth = (usd - calls * usual) * _a_day((end - first) / MINUTE) >= least
        found[row] = calls >= test.new_calls and usd >= test.new_ratio * calls * usual and worth
    return found
