"""Means of a weighted sample, with intervals. Pure, vectorised.

A call is weighted by the inverse of its probability of inclusion. The mean of a domain (an app, a model, ...) is the
ratio of two weighted sums (Hajek). Its variance is that of Taylor linearisation for a stratified simple random sample
(Särndal, Swensson, Wretman 1992, 5.6 and 5.7). Calls of a stratum that are not in the domain count as zeros, so that
the random size of the domain is part of it. A stratum with one sampled call has no variance; such strata are taken
together. There is no correction for a finite number of calls: what is asked is how good the app is, of which the calls
of a week are a sample themselves. With that correction a week that was scored completely had intervals of no width, and
every difference to the week before was significant.

The interval is Wilson's with the effective size n* = p (1 - p) / variance (Korn and Graubard 1998): scores lie in 0..1
and many are near 1, where a symmetric interval leaves the range and covers the true mean too rarely. n* is at most that
of a simple random sample of as many calls: where a large stratum happens to hold no failure, the estimated variance is
too small, and the interval would cover the truth in 80 % of the draws, not in 95 % (docs/how-to/evals.md).

With ``Sample.replicates`` the interval is a bootstrap's (``bootstrap``) where there are enough calls for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from jobs.evals import bootstrap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MIN_EFFECTIVE = 30.0
"""Effective cases below which there is no mean: "too few"."""
MIN_BOOTSTRAP = 100
"""Judged calls below which there is no bootstrap interval, but Wilson's."""
MIN_EITHER = 20.0
"""Sum of the scores, and of what they lack to 1, below which there is none either: with few failures a resample is not
representative.
"""
_TINY = 1e-12


@dataclass(frozen=True)
class Sample:
    """The sampled calls of one scorer and run, as columns of one length."""

    values: Floats
    """Score; NaN: not judgeable."""
    weights: Floats
    """1 / probability of inclusion."""
    strata: Ints
    """0..h-1."""
    replicates: int = 0
    """Of a bootstrap; 0: intervals are Wilson's."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Estimate:
    """A weighted mean, and how far it can be trusted."""

    n: int
    """Judged calls."""
    effective_n: float
    """Kish: (sum of weights)^2 / sum of squared weights."""
    coverage: float
    """Share of the domain's calls that could be judged, weighted."""
    calls: float
    """Calls of the domain: the sum of the weights, judged or not."""
    mean: float | None
    """None: too few."""
    low: float | None
    high: float | None
    """Bounds of the 95 % interval."""
    design_n: float
    """n*: size of the simple random sample that would be as precise."""

    @property
    def too_few(self) -> bool:
        """Whether there are fewer than 30 effective cases."""
        return self.mean is None


def estimate(sample: Sample, *, level: float = 0.95) -> Estimate:
    """Return the mean of ``sample``; see ``estimates``."""
    return estimates(sample, np.zeros(len(sample), np.int64), 1, level=level)[0]


def estimates(sample: Sample, domains: Ints, size: int, *, level: float = 0.95) -> list[Estimate]:
    """Return the mean of ``sample`` over each of ``size`` domains that do not overlap.

    Args:
        sample: all sampled calls of the run, so that strata are whole.
        domains: (n,) number of the domain of each call, 0..size-1; -1: in none.
        size: how many domains.
        level: of the intervals.
    """
    inside = domains >= 0
    judged = inside & ~np.isnan(sample.values)
    of = domains[judged]
    weights, values = sample.weights[judged], sample.values[judged]
    calls = np.bincount(domains[inside], sample.weights[inside], minlength=size)
    counts, totals = np.bincount(of, minlength=size), np.bincount(of, weights, minlength=size)
    some = np.where(totals > 0, totals, 1.0)
    effective = totals**2 / np.where(counts, np.bincount(of, weights**2, minlength=size), 1.0)
    means = np.clip(np.bincount(of, weights * values, minlength=size) / some, 0.0, 1.0)
    residuals = np.zeros(len(sample))
    residuals[judged] = weights * (values - means[of]) / some[of]
    variances = _variances(sample, residuals, domains, size)
    spread = np.bincount(of, weights * (values - means[of]) ** 2, minlength=size) / some
    sizes = _design_sizes(means, variances, effective, spread / np.maximum(counts, 1))
    lows, highs = wilson(means, sizes, counts, level=level)
    if sample.replicates:
        lows, highs = _resampled(sample, domains, (lows, highs), level)
    columns = zip(
        counts, effective, totals / np.where(calls > 0, calls, 1.0), calls, means, lows, highs, sizes, strict=True
    )
    return [_estimate(int(n), *(float(value) for value in rest)) for n, *rest in columns]


def wilson(means: Floats, sizes: Floats, counts: Ints, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the bounds of Wilson's intervals of ``means`` with the effective ``sizes``; t with counts - 1 degrees."""
    finite = np.where(sizes <= 0, 1.0, sizes)
    t = special.stdtrit(np.maximum(counts - 1, 1), (1 + level) / 2)
    centre = (means + t * t / (2 * finite)) / (1 + t * t / finite)
    half = t / (1 + t * t / finite) * np.sqrt(means * (1 - means) / finite + t * t / (4 * finite**2))
    return np.clip(centre - half, 0.0, means), np.clip(centre + half, means, 1.0)


def _estimate(n: int, effective: float, *rest: float) -> Estimate:
    coverage, calls, mean, low, high, size = rest
    if effective < MIN_EFFECTIVE:
        return Estimate(n, effective, coverage, calls, None, None, None, 0.0)
    return Estimate(n, effective, coverage, calls, mean, low, high, size)


def _variances(sample: Sample, residuals: Floats, domains: Ints, size: int) -> Floats:
    """Return, by domain, the variance of the sum of ``residuals``, which are zero outside it, over the strata."""
    if not len(sample):
        return np.zeros(size)
    strata = int(sample.strata.max()) + 1
    counts = np.bincount(sample.strata, minlength=strata)
    alone = counts[sample.strata] < 2
    of = np.where(alone, strata, sample.strata)  # those of one call become one
    counts = np.bincount(of, minlength=strata + 1)
    inside = domains >= 0
    pairs, where = np.unique(domains[inside] * (strata + 1) + of[inside], return_inverse=True)
    sums = np.bincount(where, residuals[inside], minlength=len(pairs))
    squares = np.bincount(where, residuals[inside] ** 2, minlength=len(pairs))
    domain, stratum = np.divmod(pairs, strata + 1)
    n = counts[stratum].astype(float)
    several = n > 1
    within = np.where(several, squares - sums**2 / n, squares)
    factor = np.where(several, n / np.maximum(n - 1, 1), 1.0)
    parts = factor * np.clip(within, 0.0, None)
    return np.bincount(domain, parts, minlength=size).astype(np.float64)


def _design_sizes(means: Floats, variances: Floats, effective: Floats, simple: Floats) -> Floats:
    """Return n* by domain.

    Args:
        means: of the domains.
        variances: estimated, of the means.
        effective: Kish's sizes.
        simple: variances of the means of simple random samples of as many calls.
    """
    spread = means * (1 - means)
    alike = (variances <= _TINY) | (spread <= _TINY)  # the most that Kish's size allows
    return np.where(alike, effective, spread / np.where(alike, 1.0, np.maximum(variances, simple)))


def _resampled(sample: Sample, domains: Ints, wilsons: tuple[Floats, Floats], level: float) -> tuple[Floats, Floats]:
    """Return bootstrap bounds where a domain has enough calls, and those of ``wilsons`` elsewhere."""
    size = len(wilsons[0])
    judged = (domains >= 0) & ~np.isnan(sample.values)
    counts = np.bincount(domains[judged], minlength=size)
    good = np.bincount(domains[judged], sample.values[judged], minlength=size)
    enough = (counts >= MIN_BOOTSTRAP) & (np.minimum(good, counts - good) >= MIN_EITHER)
    if not enough.any():
        return wilsons
    low, high = bootstrap.bounds(
        sample.values,
        sample.weights,
        sample.strata,
        domains,
        size,
        replicates=sample.replicates,
        level=level,
    )
    use = enough & ~np.isnan(low) & ~np.isnan(high)
    return np.where(use, low, wilsons[0]), np.where(use, high, wilsons[1])
