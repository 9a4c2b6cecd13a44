"""What ``per_call`` learns of the minutes that are held back: how calls are spread, and the levels of the last days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors import minute, minute_evidence
from pipelines.detect.detectors.base import Opening
from pipelines.detect.detectors.minute import MINUTE
from pipelines.detect.detectors.per_call_state import (
    BLOCK_CALLS,
    COUNTED,
    FAMILY,
    LOG_SUM,
    PEAK_DAYS,
    K,
    PerCallState,
    binned,
    dims_of,
    histograms,
    sums_in,
)
from pipelines.detect.side import Matrix
from pipelines.detect.windows import Floats, Windows

if TYPE_CHECKING:
    from pipelines.detect.detectors.per_call import PerCall

DAY = 86_400_000_000
APART = ("feature", "tenant")
"""Dimensions of which a series holds calls that no other value of it holds, and whose values do not explain others."""


@dataclass(frozen=True)
class Calls:
    """The calls of some minutes."""

    busy: NDArray[np.bool_]
    """(minutes,) whether there was a call."""
    parts: tuple[Matrix, Matrix, Matrix, Floats]
    """Of ``binned``: the series of each minute are numbered apart."""
    sums: Floats
    """(minutes, series, SUMS)."""


def calls_of(windows: Windows, ends: Sequence[int]) -> Calls:
    """Read the minutes that end at ``ends``, µs UTC."""
    minutes = windows.side.minutes(ends, MINUTE)
    parts, rows = binned(minutes.cells), minutes.count * minutes.rows
    sums = sums_in(minutes.cells, parts, rows)
    return Calls(minutes.busy, parts, sums.reshape(minutes.count, minutes.rows, -1))


def apart_from(state: PerCallState, open_: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return (series,): which hold none of the calls of the open incident.

    They are the other values of its dimension, where a call has one value: other tenants, if it is of one tenant. An
    incident of one client would else leave the levels unknown that others have while it lasts.
    """
    since = open_.get(FAMILY)
    target = since.target if isinstance(since, Opening) else ""
    if target not in state.names:
        return np.zeros(len(state.names), bool)
    dims, row = dims_of(state), state.names.index(target)
    apart: NDArray[np.bool_] = (dims == dims[row]) & np.isin(dims, APART)
    apart[row] = False
    return apart


def hold(
    state: PerCallState, held: Calls, at: int, end: int, open_: Mapping[str, int], apart: NDArray[np.bool_]
) -> None:
    """Hold back the minute ``at``, which ends at ``end``; discard what was held where an incident is open.

    Series that are ``apart`` from it go on as ever.
    """
    if FAMILY in open_:
        for array in (state.held, state.held_sums, state.held_minutes):
            array[~apart] = 0.0
    kept = apart if minute.is_muted(state.muted, open_, FAMILY, end - MINUTE) else np.ones(len(apart), bool)
    if not kept.any():
        return
    state.held_minutes[kept] += 1
    if held.busy[at]:
        rows = len(state.names)
        series, *parts = (part[held.parts[0] // rows == at] for part in held.parts)
        state.held[kept] += histograms((series % rows, *parts), rows)[kept]
        state.held_sums[kept] += held.sums[at][kept]


def learn(test: PerCall, state: PerCallState, end: int) -> None:
    """Add what is held back to what is known, except where evidence against it is pending."""
    pending = (state.log.max(axis=(1, 2), initial=0.0) > test.pending) & test.tested(state).any(axis=1)
    learned = ~pending | (state.held_minutes >= test.hold_most_s * 1e6 / MINUTE)
    _note_levels(state, end, learned)
    known = (state.learned, state.usual, state.minutes, state.spread)
    held = (state.held, state.held_sums, state.held_minutes, _spread(test, state))
    minute_evidence.absorb(known, held, learned, test.half_life_s)
    state.density = None


def known_rise(state: PerCallState) -> Matrix:
    """(series, K) bins by which the highest level of the last days is above the usual one."""
    level = state.usual[:, LOG_SUM : LOG_SUM + K] / np.maximum(state.usual[:, COUNTED : COUNTED + K], 1e-9)
    rise: Matrix = np.round(state.peaks.max(axis=-1, initial=0.0) - level).astype(np.int64)
    return np.maximum(rise, 0)


def _note_levels(state: PerCallState, end: int, learned: NDArray[np.bool_]) -> None:
    """Note the level of the calls that are learned now, where they are enough, as one of this day."""
    day = end // DAY
    for begun in range(max(state.day, day - PEAK_DAYS) + 1, day + 1):
        state.peaks[..., begun % PEAK_DAYS] = 0.0
    state.day = day
    held = np.stack([state.held_sums[:, at : at + K] for at in (COUNTED, LOG_SUM)], axis=-1)
    state.block[learned] += held[learned]
    calls, bins = state.block[..., 0], state.block[..., 1]
    whole = calls >= BLOCK_CALLS
    level = np.where(whole, bins / np.maximum(calls, 1.0), 0.0)
    state.peaks[..., day % PEAK_DAYS] = np.maximum(state.peaks[..., day % PEAK_DAYS], level)
    state.block[whole] = 0.0


def _spread(test: PerCall, state: PerCallState) -> Floats:
    """(series, K, 2): squared distance of what is held from what is learned, in variances; 1 where it counts."""
    bins = np.arange(state.learned.shape[-1])
    total = np.maximum(state.learned.sum(axis=-1, dtype=float), 1.0)
    mean = (state.learned * bins).sum(axis=-1, dtype=float) / total
    variance = np.maximum((state.learned * bins**2).sum(axis=-1, dtype=float) / total - mean**2, 1.0)
    counted, logs = state.held_sums[:, COUNTED : COUNTED + K], state.held_sums[:, LOG_SUM : LOG_SUM + K]
    chi = (logs - counted * mean) ** 2 / np.maximum(counted * variance, 1e-9)
    counts = (counted >= 5) & (total >= test.learn_calls)
    return np.stack([np.where(counts, np.minimum(chi, 50.0), 0.0), counts], axis=-1)
