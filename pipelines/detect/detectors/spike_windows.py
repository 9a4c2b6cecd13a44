"""The windows of ``spike`` that end now: observed and expected values, and which of them breach their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.spike_mix import mix_ratios
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR, WINDOWS
from pipelines.detect.windows import SLOT, Floats

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.spike import Spike
    from pipelines.detect.detectors.spike_state import SpikeState


@dataclass
class Observed:
    """Observed and expected values of the windows that end now."""

    expected: Floats  # (series, 3) per slot
    ratios: Floats  # (series, 5, 2)
    shares: Floats  # (series, 3, 2) of the app's normal volume
    breaches: Floats  # (series, 5, 2) value over limit; 0 = no breach
    pooled: NDArray[np.bool_]  # (series,) judged against each other: users, and series with rare calls


def observed(spike: Spike, state: SpikeState, view: View) -> Observed:
    """Compare every series in both windows."""
    rows = len(view.windows.series)
    expected = state.level.expected(rows, view.app, view.until - SLOT)
    ratios, shares, breaches = np.zeros((rows, 5, 2)), np.zeros((rows, 3, 2)), np.zeros((rows, 5, 2))
    # for a series with rare calls the next burst is always a record: such series share their records
    now = Observed(expected, ratios, shares, breaches, spike.is_pooled(expected, view))
    named, limits = view.windows.named.copy(), spike.ratio_limits(state, view)
    named[view.app] = True
    known = named & (state.level.num[:rows, 2] >= 100)  # calls learned: below, no cost per call is normal
    met = state.level.num[:rows, 2] >= 1  # calls fade, their mean does not
    for i, slots in enumerate(WINDOWS):
        seen = view.total(slots, state.cut)[:, COLUMNS] / DIVISOR
        _compare_sums(spike, now, view, (i, seen, named), (limits[:, :3, i], spike.pool_limits(state, view, i)))
        _compare_per_call(spike, now, view, (i, seen, known), limits[:, 3:, i], met)
    return now


def _compare_sums(
    spike: Spike,
    now: Observed,
    view: View,
    window: tuple[int, Floats, NDArray[np.bool_]],
    limits: tuple[Floats, Floats],
) -> None:
    """Cost, tokens and calls: ``window`` is its index, (series, 3) sums, (series,) which may be reported.

    ``limits``: (series, 3) least ratio to the expected sum; (series, 3) least share of the app where series are pooled.
    """
    (i, seen, named), expected, floor, slots = window, now.expected, spike.floor, WINDOWS[window[0]]
    own, apart = expected[view.app] + floor, (np.arange(len(seen)) != view.app)[:, None]
    least = np.maximum(slots * floor, spike.least)
    big = seen - slots * expected >= np.maximum(least, spike.part[i] * slots * own * apart)
    now.ratios[:, :3, i] = seen / (slots * (expected + floor))
    now.shares[:, :, i] = seen / (slots * own)
    counted = named & (seen[:, 2] >= np.where(now.pooled, spike.min_calls_wide, spike.min_calls))
    over = now.ratios[:, :3, i] / limits[0]
    now.breaches[:, :3, i] = np.where((over > 1) & big & (counted & ~now.pooled)[:, None], over, 0)
    # pooled series: against the highest value of any of them, and three times their own
    over = now.shares[:, :, i] / limits[1]
    above = (seen > slots * (spike.ratio * expected + floor)) & big & (counted & now.pooled)[:, None]
    now.breaches[:, :3, i] = np.where((over > 1) & above, over, now.breaches[:, :3, i])


def _compare_per_call(
    spike: Spike,
    now: Observed,
    view: View,
    window: tuple[int, Floats, NDArray[np.bool_]],
    limits: Floats,
    met: NDArray[np.bool_],
) -> None:
    """Cost and tokens per call; ``window`` as above.

    ``limits``: (series, 2) least ratio to the expected value. ``met``: (series,) whose usual mean a mix may be made of.
    """
    (i, seen, known), expected, slots = window, now.expected, WINDOWS[window[0]]
    own, least = expected[view.app] + spike.floor, np.maximum(slots * spike.floor, spike.least)
    enough = (seen[:, 2] >= spike.min_calls_per_call) & known & ~now.pooled
    calls = np.maximum(seen[:, 2], 1.0)
    for m in (0, 1):
        normal = expected[:, m] / np.maximum(expected[:, 2], 1e-12)
        ratio = np.where(enough & (normal > 0), seen[:, m] / calls / np.maximum(normal, 1e-12), 0.0)
        more = (seen[:, m] - calls * normal) >= max(least[m], 0.1 * slots * own[m])
        now.ratios[:, 3 + m, i] = ratio
        over = ratio / limits[:, m]
        if (over > 1).any():
            over /= mix_ratios(view.windows, seen[:, 2], np.where(met, normal, 0.0), view.app)
        now.breaches[:, 3 + m, i] = np.where((over > 1) & more, over, 0)
