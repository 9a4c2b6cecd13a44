"""Differences of two estimates, and which of many are significant. Pure.

The test of a difference takes the larger variance of two: that of the score test, where under "no difference" both have
the pooled mean and a size of n* each (``weights``), and the sum of both variances; Student's t has the degrees of the
smaller sample. Near 1, where most scores lie, the second variance alone calls too many equal pairs different.

Of many differences those are significant that Benjamini and Hochberg (1995) leave at 5 %: of what is called significant
at most 5 % is wrong on average, and where nothing differs at most 5 % of the reports call anything significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from jobs.evals.weights import Estimate

RATE = 0.05
"""False discovery rate."""


@dataclass(frozen=True)
class Difference:
    """New minus old."""

    value: float
    low: float
    high: float
    """Bounds of the 95 % interval."""
    p: float
    """Probability of such a difference, or a larger one, where there is none."""


def difference(new: Estimate, old: Estimate) -> Difference | None:
    """Return new - old; None where one of them has too few cases.

    The interval is Newcombe's (1998, method 10), made of both Wilson intervals.
    """
    if new.mean is None or old.mean is None:
        return None
    assert new.low is not None and new.high is not None and old.low is not None and old.high is not None  # noqa: PT018
    value = new.mean - old.mean
    low = value - float(np.hypot(new.mean - new.low, old.high - old.mean))
    high = value + float(np.hypot(new.high - new.mean, old.mean - old.low))
    return Difference(value, max(-1.0, low), min(1.0, high), _p(new, old, value))


def significant(p_values: Sequence[float], rate: float = RATE) -> npt.NDArray[np.bool_]:
    """Return which of ``p_values`` are significant by Benjamini and Hochberg at ``rate``."""
    p = np.asarray(p_values, dtype=float)
    if not len(p):
        return np.zeros(0, bool)
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    out = np.zeros(len(p), bool)
    if len(passing):
        out[order[: passing[-1] + 1]] = True
    return out


def _p(new: Estimate, old: Estimate, value: float) -> float:
    """Return the larger p of the score test and of Welch's."""
    if value == 0:
        return 1.0
    assert new.mean is not None and old.mean is not None  # noqa: PT018
    sizes = [new.design_n, old.design_n]
    pooled = (sizes[0] * new.mean + sizes[1] * old.mean) / sum(sizes)
    score = pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1])
    apart = new.mean * (1 - new.mean) / sizes[0] + old.mean * (1 - old.mean) / sizes[1]
    variance = max(score, apart)
    if variance <= 0:
        return 1.0
    degrees = max(1.0, min(new.effective_n, old.effective_n) - 1)
    return float(2 * special.stdtr(degrees, -abs(value) / np.sqrt(variance)))
