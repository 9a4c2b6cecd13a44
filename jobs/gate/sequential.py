"""Two variants in production: a test that may be looked at every day. Pure.

The interval is valid at every look: R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Peeking at A/B Tests" (KDD 2017), the
mixture sequential probability ratio test with a normal mixture. A fixed interval that is looked at twenty times is
wrong in about a quarter of equal variants; this one in at most 5 %. The unit is the user (or session, or call): calls
of one user are not independent of each other. Where several measures or stages may end a release, the bound of a
regress is corrected for their number (Bonferroni), as in ``verdict``.

The variance of a share is that with one more success and one more failure a side: A. Agresti and B. Caffo, "Simple and
effective confidence intervals for proportions and differences of proportions" (2000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.gate.verdict import CONFIDENCE, Floats, Verdict

FEWEST = 30
"""Units of a variant below which there is no result: the interval uses the normal approximation."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of B with A in one measure; more is better where ``higher_is_better``."""

    measure: str
    verdict: Verdict
    units: tuple[int, int]
    """Users of A and of B with a known value."""
    a: float
    b: float
    estimate: float
    """B − A; relative to A where ``relative``."""
    lower: float
    upper: float
    limit: float
    relative: bool
    higher_is_better: bool


def compare(
    measure: str,
    a: Sequence[float],
    b: Sequence[float],
    limit: float,
    *,
    relative: bool = False,
    higher_is_better: bool = True,
    checks: int = 1,
) -> Comparison:
    """Compare the means of two variants.

    Args:
        measure: its name.
        a: one value a unit, such as the mean of a user.
        b: the same.
        limit: how much worse B may be: in units of the measure, or as a share of A's mean.
        relative: whether it is a share.
        higher_is_better: False for cost and latency.
        checks: how many comparisons may call B worse.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    units = (len(first), len(second))
    old, new = (float(side.mean()) if len(side) else math.nan for side in (first, second))
    if min(units) < FEWEST or (relative and not old > 0):
        verdict, estimate, width = Verdict.UNDECIDED, math.nan, math.nan
    else:
        estimate = (new - old) / (old if relative else 1.0)
        variance = _variance_of_difference(first, second, relative=relative)
        width, corrected = half_width(variance, limit), half_width(variance, limit, checks)
        verdict = _verdict(estimate if higher_is_better else -estimate, width, corrected, limit)
    return Comparison(
        measure,
        verdict,
        units,
        old,
        new,
        estimate,
        estimate - width,
        estimate + width,
        limit,
        relative,
        higher_is_better,
    )


def half_width(variance: float, scale: float, checks: int = 1) -> float:
    """Return half of the always-valid interval of an estimate.

    Args:
        variance: of the estimate; it must have a floor above 0, so that equal values do not give an interval of no
            width.
        scale: standard deviation of the mixture: differences of this size are found soonest.
        checks: intervals that hold together.
    """
    v, tau, alpha = max(variance, 1e-18), scale**2, (1 - CONFIDENCE) / checks
    return math.sqrt(v * (v + tau) / tau * math.log((v + tau) / (v * alpha**2)))


def _variance_of_difference(a: Floats, b: Floats, *, relative: bool) -> float:
    """Return the variance of ``estimate``: of the difference of the means, or of their ratio (delta method)."""
    if relative:
        old, new = float(a.mean()), float(b.mean())
        return (_variance(b) + (new / old) ** 2 * _variance(a)) / old**2
    # shares: without a failure among 40 users the variance would be 0 and the interval would have no width
    first, second = (np.append(side, (0.0, 1.0)) for side in (a, b))
    return _variance(second) + _variance(first)


def _variance(values: Floats) -> float:
    """Return the variance of the mean."""
    return float(np.var(values, ddof=1)) / len(values)


def _verdict(better: float, width: float, corrected: float, limit: float) -> Verdict:
    """Return pass where B is certainly not worse by the limit, regress where it certainly is worse."""
    if better - width > -limit:
        return Verdict.PASS
    return Verdict.REGRESS if better + corrected < 0 else Verdict.UNDECIDED
