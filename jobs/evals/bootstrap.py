"""Bootstrap intervals of the means of a weighted, stratified sample. Pure, vectorised, the same for the same sample.

Of each stratum of n calls n - 1 are drawn with replacement and weighted by n / (n - 1) (McCarthy and Snowden 1985, "The
bootstrap and finite population sampling", 2.1), so that replicates vary as much as samples do. The mean of each
replicate is that of ``weights``: a ratio of two weighted sums. The bounds are percentiles, widened for the size of the
sample as Student's t widens a normal interval (Hesterberg 2015, "What teachers should know about the bootstrap", 3.2):
plain percentiles are too narrow.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
REPLICATES = 1_000
_CELLS = 1 << 20
"""Weights in memory at a time."""


def bounds(
    values: Floats,
    weights: Floats,
    strata: Ints,
    domains: Ints,
    size: int,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Return the bounds of the mean of each domain; NaN where a replicate has no call of it.

    Args:
        values: (n,) scores; NaN: not judgeable.
        weights: (n,) inverse of the probability of inclusion.
        strata: (n,) number of the stratum.
        domains: (n,) number of the domain, 0..size-1; -1: in none.
        size: how many domains.
        replicates: how often.
        level: of the intervals.
    """
    judged = np.flatnonzero((domains >= 0) & ~np.isnan(values))
    counts = np.bincount(domains[judged], minlength=size)
    means = _replicated_means(values, weights, strata, domains, size, judged, replicates)
    degrees = np.maximum(counts - 1, 1)
    stretched = np.sqrt(counts / degrees) * special.stdtrit(degrees, (1 - level) / 2)
    tails = special.ndtr(stretched)
    ordered = np.sort(means, axis=1)  # NaN comes last, and so in the upper bound
    rows = np.arange(size)
    low, high = (_quantiles(ordered, rows, share) for share in (tails, 1 - tails))
    unknown = np.isnan(means).any(axis=1)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _replicated_means(
    values: Floats, weights: Floats, strata: Ints, domains: Ints, size: int, judged: Ints, replicates: int
) -> Floats:
    """(size, replicates) the mean of each domain over the calls ``judged`` in each replicate."""
    cells = (domains[judged], judged)
    totals = sparse.csr_array((weights[judged], cells), shape=(size, len(values)))
    sums = sparse.csr_array((weights[judged] * values[judged], cells), shape=(size, len(values)))
    rng = np.random.default_rng(_seed(values, weights, strata))
    means = np.empty((size, replicates))
    step = max(1, _CELLS // max(1, len(values)))
    for start in range(0, replicates, step):
        factors = _factors(rng, strata, min(step, replicates - start))
        with np.errstate(invalid="ignore", divide="ignore"):
            means[:, start : start + step] = (sums @ factors) / (totals @ factors)
    return means


def _factors(rng: np.random.Generator, strata: Ints, count: int) -> Floats:
    """(n, count) what the weight of each call is multiplied with in each replicate."""
    order = np.argsort(strata, kind="stable")
    firsts = np.flatnonzero(np.diff(strata[order], prepend=-1))
    sizes = np.diff(firsts, append=len(strata))
    drawn = np.zeros((len(strata), count), np.int64)
    for first, n in zip(firsts.tolist(), sizes.tolist(), strict=True):
        if n > 1:
            picked = rng.integers(n, size=(n - 1, count)) * count + np.arange(count)
            drawn[first : first + n] = np.bincount(picked.ravel(), minlength=n * count).reshape(n, count)
        else:
            drawn[first] = 1
    n_of = np.repeat(sizes, sizes)
    factors = np.empty((len(strata), count))
    factors[order] = np.where(n_of > 1, n_of / np.maximum(n_of - 1, 1), 1.0)[:, None] * drawn
    return factors


def _quantiles(ordered: Floats, rows: Ints, shares: Floats) -> Floats:
    """Return the quantile ``shares[i]`` of row i, linear between its values."""
    place = shares * (ordered.shape[1] - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    return np.asarray(ordered[rows, below] + (place - below) * (ordered[rows, above] - ordered[rows, below]))


def _seed(*arrays: npt.NDArray[np.generic]) -> int:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays))
    return int.from_bytes(digest.digest()[:8], "big")
