"""Evidence that a share is above a limit, for a test that holds under continuous looking. Pure.

For each of a few lifts the likelihood ratio of "share = lift x limit" against "share <= limit" is a supermartingale
while nothing is wrong. It stays one for outcomes in [0, 1] that are no shares, such as 1 - score: the ratio is convex
in the outcome, so its mean is at most that of the two ends. Restarted at one like a CUSUM and averaged over the lifts,
it exceeds 1/alpha on average not before 1/alpha looks (Shin, Ramdas, Rinaldo, arXiv 2203.03532).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.detect.windows import Floats


def log_ratios(hits: Floats, calls: Floats, limit: Floats, lifts: Sequence[float]) -> Floats:
    """Return (..., lifts): the log of each likelihood ratio of ``hits`` among ``calls``, all of shape (...)."""
    lift = np.array(lifts)
    limit = limit[..., None]
    odds = limit / (1 - limit)
    high = np.minimum(limit * lift, lift * odds / (1 + lift * odds))
    high = np.maximum(high, limit * 1.01)
    gain: Floats = hits[..., None] * np.log(high / limit)
    gain += (calls - hits)[..., None] * np.log((1 - np.minimum(high, 0.995)) / (1 - limit))
    return gain


def mean_evidence(log: Floats) -> Floats:
    """Return (...): the log of the mean over the lifts, the last axis of ``log``."""
    top = log.max(axis=-1)
    mean: Floats = top + np.log(np.exp(log - top[..., None]).mean(axis=-1))
    return mean
