"""What a share may be before surge has evidence against it, and by how much the evidence is divided. Pure.

The limit is the upper end of a confidence interval (Wilson 1927) of the learned share, and never nearer to it than a
little: so it is wide where little is learned, and a baseline of few calls may be wrong without an alert. A share that
moves from ten minutes to ten minutes, or calls of one session that fail together, are more than chance: how much more
is learned as a factor of the variance, on the scale of a bucket and on that of ten minutes. It widens the interval, and
the log of a likelihood ratio is divided by it (quasi-likelihood; McCullagh & Nelder 1989, 4.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.detect.detectors.minute_evidence import shown_spread
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.windows import Floats

if TYPE_CHECKING:
    from pipelines.detect.detectors.surge import Surge

HIGHEST = 0.97
"""No limit of a share is higher."""
_MIN_TEN_MINUTES = 12
"""Fewer of them show no overdispersion."""
HITS, HITS_TEN_MINUTES = 0.05, 0.5
"""Least expected hits of a stretch: with fewer, one hit alone would be a large distance."""
_VARIANCE = 2.0 + 1.0 / HITS_TEN_MINUTES
"""Of the squared distance of such a stretch, where there is nothing but chance: one standard error is no sign."""
_KNOWN = 100.0
"""Calls learned from which a distance is counted."""
_MOST = 50.0
"""Squared distance, in variances, that one stretch counts at most."""
LEARNED = ("hits", "calls", "spread", "spread_slots", "decade_spread", "decades")
"""What is learned of what was held back, in the order of HELD, then of ``distances`` of the whole."""


def shares_of(hits: Floats, calls: Floats) -> Floats:
    """Return the learned share of ``hits`` among ``calls``."""
    share: Floats = np.clip((hits + 0.5) / (calls + 50), 0.0, 1.0)
    return share


def limits_of(surge: Surge, hits: Floats, calls: Floats, dispersion: Floats) -> Floats:
    """Return the highest share against which there is no evidence, all of one shape."""
    z2 = surge.certainty**2 * dispersion
    upper = (hits + z2 / 2 + np.sqrt(z2 * (hits + z2 / 4))) / np.maximum(calls, 1.0)
    limit: Floats = np.maximum(surge.tolerance * shares_of(hits, calls) + surge.slack, upper)
    return np.minimum(limit, HIGHEST)


def least_share(surge: Surge, share: Floats) -> Floats:
    """Return the least share since the onset that is worth an alert; ``share`` is learned."""
    least: Floats = np.maximum(surge.lift * share, share + surge.rise)
    return least


def least_reported(surge: Surge, share: Floats, limit: Floats) -> Floats:
    """Return the lowest share that raises an alert; ``share`` is learned, ``limit`` is of ``limits_of``."""
    return np.minimum(np.maximum(limit, least_share(surge, share)), HIGHEST)


def overdispersion(surge: Surge, state: SurgeState) -> Floats:
    """Return (series, kinds): variance over what chance gives, as learned; from 1 on."""
    shown = shown_spread(state.spread, state.spread_slots, surge.max_spread)
    count = np.maximum(state.decades, 1.0)
    slow = np.where(state.decades < _MIN_TEN_MINUTES, 1.0, state.decade_spread / count - np.sqrt(_VARIANCE / count))
    found: Floats = np.maximum(shown, np.clip(slow, 1.0, surge.max_spread))
    return found


def distances(
    hits: Floats, calls: Floats, known_hits: Floats, known_calls: Floats, least: float
) -> tuple[Floats, Floats]:
    """Squared distance of a stretch from what is known, in variances; and 1 where it is counted, else 0.

    Args:
        hits: of the stretch.
        calls: of the stretch.
        known_hits: learned.
        known_calls: learned.
        least: hits expected, with fewer than which a stretch does not count.
    """
    share = np.clip((known_hits + 0.5) / (known_calls + 50), 1e-4, 0.5)
    chi = (hits - calls * share) ** 2 / np.maximum(calls * share * (1 - share), 1e-9)
    counted = (calls * share >= least) & (known_calls >= _KNOWN)
    return np.where(counted, np.minimum(chi, _MOST), 0.0), counted.astype(float)


def held_and_known(state: SurgeState) -> tuple[Floats, Floats, Floats, Floats]:
    """Hits and calls that are held back, hits and calls that are learned: what ``distances`` takes."""
    return state.held[..., 0], state.held[..., 1], state.hits, state.calls
