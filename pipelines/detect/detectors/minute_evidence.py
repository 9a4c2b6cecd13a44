"""Evidence of a test of a minute that runs since its onset, and what is learned of minutes held back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.detect.detectors.likelihood import mean_evidence
from pipelines.detect.detectors.minute import TEN_MINUTES
from pipelines.detect.windows import Floats


def weigh(log: Floats, onset: Any, run: Floats, gain: Floats, sums: Floats, start: int) -> None:
    """Add the evidence and the sums of one minute to what runs since its onset, in place, as in a CUSUM.

    Args:
        log: (..., lifts) evidence.
        onset: (..., lifts) start of the run, µs UTC.
        run: (..., lifts, n) sums since then.
        gain: (..., lifts).
        sums: (..., n).
        start: of the minute, µs UTC.
    """
    restarted = log <= 0
    onset[restarted] = start
    run[restarted] = 0.0
    log[:] = np.maximum(np.maximum(log, 0) + gain, 0)
    run += sums[..., None, :]


def best(log: Floats, onset: Any, run: Floats) -> tuple[Floats, Any, Floats]:
    """Evidence over all lifts; onset and sums of the lift that has most of it. The axis of the lifts is reduced."""
    at = log.argmax(axis=-1)[..., None]
    return (
        mean_evidence(log),
        np.take_along_axis(onset, at, -1)[..., 0],
        np.take_along_axis(run, at[..., None], -2)[..., 0, :],
    )


def shown_spread(spread: Floats, minutes: Floats, most: float) -> Floats:
    """The overdispersion that is learned; 1 where there are fewer than 30 minutes, or buckets, to show it."""
    found: Floats = np.where(minutes < 30, 1.0, spread / np.maximum(minutes, 1.0))
    return np.clip(found, 1.0, most)


def more_for_many(calls: Floats, dimensions: Any) -> Floats:
    """Return (series,): by how much the evidence of each must be higher, because others of its dimension are tested.

    Minus the log of its part of the calls of its dimension (weighted Bonferroni; Genovese, Roeder and Wasserman,
    Biometrika 2006): so all values of a dimension together have as few false alarms as one series, and one with most of
    the calls is found as soon as it would be alone.

    Args:
        calls: (series,) learned.
        dimensions: (series,) names.
    """
    _, of = np.unique(dimensions, return_inverse=True)
    of = of.reshape(-1)
    total = np.bincount(of, weights=calls)[of]
    more: Floats = -np.log(np.where(calls > 0, calls / np.maximum(total, 1e-9), 1.0))
    return np.maximum(more, 0.0)


def distances(hits: Floats, calls: Floats, share: Floats) -> Floats:
    """(..., 2): squared distance of a minute from the learned share, in variances, at most 50; 1 where it counts."""
    variance = calls * share * (1 - share)
    counted = variance >= 0.5
    chi = np.where(counted, (hits - calls * share) ** 2 / np.maximum(variance, 1e-9), 0.0)
    return np.stack([np.minimum(chi, 50.0), counted], axis=-1)


def absorb(known: Sequence[Any], held: Sequence[Any], learned: Any, half_life_s: float) -> None:
    """Decay what is known by ten minutes and add what was held back, in place, in the rows that are ``learned``."""
    decay = float(0.5 ** (TEN_MINUTES / 1e6 / half_life_s))
    for old, new in zip(known, held, strict=True):
        old[learned] = old[learned] * decay + new[learned]
        new[learned] = 0.0
