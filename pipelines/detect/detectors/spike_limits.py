"""The least that a window must hold before ``Spike`` may find anything, for some minutes ahead.

Every condition of ``Spike`` on a window is a least sum that grows with the learned level, so the lowest level that is
possible gives a lower bound. The level of the app itself is known beforehand: what it will learn is in the ring. A
series below it decays at the same rate, and all that it learns only raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.bounds import Ahead
from pipelines.detect.detectors.base import fit
from pipelines.detect.detectors.baseline import BINS, BUCKET, DAY, Records
from pipelines.detect.detectors.level_scan import LevelScan
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR, WINDOWS
from pipelines.detect.windows import RING, SLOT, Floats

if TYPE_CHECKING:
    from pipelines.detect.detectors.spike import Spike
    from pipelines.detect.detectors.spike_state import SpikeState

_CALLS = np.array(COLUMNS[2:])
_LENGTHS = np.array(WINDOWS, float)
_SCALE = (1 - 1e-9) * DIVISOR[:, None]
"""To nano-USD; a little less, because sums are compared with rounded products."""


@dataclass
class Limits:
    """Lower bounds by series; costs are in nano-USD."""

    sums: Floats
    """(series, measures, windows) of cost, tokens, calls."""
    calls: Floats
    """(series, 1)."""
    per_call: Floats
    """(series, 2, windows) of cost and tokens per call."""
    expensive_sums: Floats
    """(series, 2, windows) of cost and tokens, where it is the cost per call that is high."""
    new: Floats
    """(groups, measures, windows): ``sums`` of a series of which nothing is learned."""

    def grow(self, new: Floats, calls: float) -> None:
        """Add series without history; ``new`` are their ``sums``."""
        shape = (len(new), 2, len(WINDOWS))
        self.sums = np.concatenate([self.sums, new])
        self.calls = np.concatenate([self.calls, np.full((len(new), 1), calls)])
        self.per_call = np.concatenate([self.per_call, np.zeros(shape)])
        self.expensive_sums = np.concatenate([self.expensive_sums, np.full(shape, np.inf)])


@dataclass(frozen=True)
class _Level:
    """Bounds of what a level may be."""

    own: Floats
    """(3,) of the app, at least."""
    own_per_call: Floats
    """(2,) the same per call."""
    low: Floats
    """(3,) level of a series as a multiple of its ``Level.num``, at least."""
    high: float
    """The same for calls, at most."""
    per_call: Floats
    """(2,) cost and tokens per call as a multiple of what ``Level.num`` gives, at least."""


def limits(spike: Spike, state: SpikeState, ahead: Ahead) -> Limits:
    """Return what holds for the time of ``ahead``."""
    windows, app, floor = ahead.windows, ahead.app, spike.floor
    rows, level = len(windows.series), _level(spike, state, ahead)
    num = fit(state.level.num, rows)
    expected = num * level.low
    expected[app] = level.own
    begin = ahead.first - RING * SLOT
    calls = num[:, 2] + windows.total_of(_CALLS, begin, begin + ahead.count * SLOT)[:, 0]
    pooled = windows.high_cardinality() | (expected[:, 2] * WINDOWS[1] < spike.sparse_calls)
    narrow = ~windows.high_cardinality() & (calls * level.high * WINDOWS[1] >= spike.sparse_calls)
    named = windows.named.copy()
    pooled[app], narrow[app], named[app] = False, True, True
    margin = spike.margin * (1.0 + spike.young * 3.6e9 / max(ahead.last - windows.first, 1))
    records = state.records.held(rows) * _decay(state.records, ahead)
    pool = state.pool.held(len(windows.groups)) * _decay(state.pool, ahead)
    around, floors = (level.own + floor)[:, None] * _LENGTHS, floor[:, None] * _LENGTHS
    least, part = np.maximum(floors, np.array(spike.least)[:, None]), np.array(spike.part)
    shares = np.maximum(part, margin * pool) * around
    normal = expected[:, :, None] * _LENGTHS
    big = normal + np.maximum(least, part * around)
    big[app] = normal[app] + least
    single = np.maximum(big, np.maximum(spike.ratio, margin * records[:, :3]) * (normal + floors))
    shared = np.maximum(big, np.maximum(spike.ratio * normal + floors, shares[windows.group]))
    sums = np.where(_each(pooled), np.where(_each(narrow), np.minimum(single, shared), shared), single)
    rate = np.where(calls[:, None] > 0, num[:, :2] / np.maximum(calls, 1e-12)[:, None], 0.0) * level.per_call
    rate[app] = level.own_per_call
    # spike.margin of a ratio per call is the square root of it and a little
    per_call = margin / spike.margin * (spike.margin**0.5 + 0.1) * records[:, 3:]
    more = np.maximum(least[:2], 0.1 * level.own[:2, None] * _LENGTHS)
    usual = np.where(narrow & named & (calls >= 100), 0.0, np.inf)
    return Limits(
        sums=np.where(_each(named), sums, np.inf) * _SCALE,
        calls=np.where(narrow, spike.min_calls, spike.min_calls_wide)[:, None],
        per_call=np.maximum(spike.ratio_per_call, per_call) * rate[:, :, None] * _SCALE[:2],
        expensive_sums=(spike.min_calls_per_call * rate[:, :, None] + more + _each(usual)) * _SCALE[:2],
        new=np.maximum(np.maximum(least, part * around), np.maximum(floors, shares)) * _SCALE,
    )


def _level(spike: Spike, state: SpikeState, ahead: Ahead) -> _Level:
    """Go through what the app itself will learn."""
    level, begin = state.level, ahead.first - RING * SLOT
    slots = range(begin, begin + ahead.count * SLOT, SLOT)
    learned = [None if any(a <= slot < b for a, b in state.muted) else slot for slot in slots]
    scan = LevelScan(level, _own(ahead, slots), np.array([ahead.app]), learned, spike.half_life_s)
    num = np.concatenate([fit(level.num, ahead.app + 1)[[ahead.app]], scan.num[:, 0]])
    den = np.maximum(np.array([level.den, *scan.den]), 1.0)[:, None]
    faded = (scan.one ** np.array([0, *(s.fades for s in scan.states)]))[:, None]
    active = np.array([level.active, *(s.active for s in scan.states)])
    active /= np.maximum(np.array([level.active_den, *(s.active_den for s in scan.states)]), 1.0)[:, None]
    seasons = [level.season, *(s.season for s in scan.states)]
    mean, found = num / den, []
    first, last = (at // (DAY // BINS) for at in (ahead.first, ahead.last - SLOT))
    for now in {at % BINS for at in range(first, last + 1)}:
        highest = {id(s): s[[now - 1, now, (now + 1) % BINS]].max(axis=0) for s in seasons}
        season = np.array([highest[id(s)] for s in seasons])
        own = np.maximum(np.maximum(mean, 0.5 * active), season)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.clip(np.where(mean > 0, own / mean, 1.0), 1.0, 10.0)
        found.append(
            _Level(
                own.min(axis=0),
                (own[:, :2] / np.maximum(own[:, 2:], 1e-12)).min(axis=0),
                (faded / den * factor).min(axis=0),
                float((factor[:, 2:] / den).max()),
                (faded * factor[:, :2] / factor[:, 2:]).min(axis=0),
            )
        )
    return _Level(
        np.minimum.reduce([f.own for f in found]),
        np.minimum.reduce([f.own_per_call for f in found]),
        np.minimum.reduce([f.low for f in found]),
        max(f.high for f in found),
        np.minimum.reduce([f.per_call for f in found]),
    )


def _own(ahead: Ahead, slots: Sequence[int]) -> Floats:
    """(buckets, 1, 3) USD, tokens and calls of the app."""
    values = np.zeros((len(slots), 1, 3))
    for i, start in enumerate(slots):
        slot = ahead.windows.slots.get(start)
        row = slot.row(ahead.app) if slot else None
        if row is not None:
            values[i, 0] = row[COLUMNS] / DIVISOR
    return values


def _decay(records: Records, ahead: Ahead) -> float:
    """What is left of a record when records have moved up for the last time."""
    moved = ahead.last // BUCKET - records.bucket if records.bucket else 0
    return float(0.5 ** (min(moved, 10_000) * BUCKET / (2 * DAY)))


def _each(rows: NDArray[Any]) -> NDArray[Any]:
    """Of every measure and window."""
    return rows[:, None, None]
