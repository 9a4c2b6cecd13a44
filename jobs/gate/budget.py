"""Whether a candidate costs more or is slower: relative changes of a mean and of a quantile, paired by case. Pure.

More is worse here, and small significant changes are no regress: a longer prompt always costs more. So the change is
compared with the limit: a regress where it exceeds the limit significantly, a pass where the upper bound is within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from jobs.gate.verdict import CONFIDENCE, Verdict

FEWEST_CASES = 2
RESAMPLES = 1_000
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Change:
    """A relative change of the candidate against the baseline: 0.1 is ten percent more."""

    verdict: Verdict
    cases: int
    """With a known value on both sides."""
    baseline: float
    candidate: float
    estimate: float
    lower: float
    upper: float
    limit: float


def mean_change(
    candidate: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]], limit: float
) -> Change:
    """Compare the means of the cases' means: the ratio estimator with its linearised variance (W. Cochran 1977, 6.3).

    Args:
        candidate: case -> known values of its samples.
        baseline: the same.
        limit: relative, above 0.
    """
    ids = _both(candidate, baseline)
    new, old = (np.array([np.mean(side[c]) for c in ids], dtype=np.float64) for side in (candidate, baseline))
    if len(ids) < FEWEST_CASES or not old.mean() > 0:
        return _unknown(len(ids), limit)
    ratio = float(new.mean() / old.mean())
    residuals = (new - ratio * old) / old.mean()
    error = float(np.std(residuals, ddof=1)) / len(ids) ** 0.5
    width = float(stdtrit(len(ids) - 1, 1 - _TAIL)) * error
    return _change(len(ids), (float(old.mean()), float(new.mean())), (ratio - 1 - width, ratio - 1 + width), limit)


def quantile_change(
    candidate: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Sequence[float]],
    limit: float,
    *,
    rng: np.random.Generator,
    quantile: float = 0.95,
) -> Change:
    """Compare a quantile over all samples; the interval is a bootstrap that resamples cases, not samples.

    Args:
        candidate: case -> known values of its samples.
        baseline: the same.
        limit: relative, above 0.
        rng: draws the resamples; the same seed gives the same interval.
        quantile: 0.95 for p95.
    """
    ids = _both(candidate, baseline)
    if len(ids) < FEWEST_CASES:
        return _unknown(len(ids), limit)
    new, old = ([np.asarray(side[c], dtype=np.float64) for c in ids] for side in (candidate, baseline))
    before, after = (float(np.quantile(np.concatenate(side), quantile)) for side in (old, new))
    if not before > 0:
        return _unknown(len(ids), limit)
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(0, len(ids), len(ids))
        below = np.quantile(np.concatenate([old[j] for j in drawn]), quantile)
        ratios[i] = np.quantile(np.concatenate([new[j] for j in drawn]), quantile) / below if below > 0 else np.nan
    low, high = np.nanquantile(ratios, [_TAIL, 1 - _TAIL])
    return _change(len(ids), (before, after), (float(low) - 1, float(high) - 1), limit)


def _both(candidate: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]) -> list[str]:
    return sorted(c for c in candidate if candidate[c] and baseline.get(c))


def _change(cases: int, values: tuple[float, float], bounds: tuple[float, float], limit: float) -> Change:
    estimate = values[1] / values[0] - 1
    if bounds[1] <= limit:
        verdict = Verdict.PASS
    elif estimate > limit and bounds[0] > 0:
        verdict = Verdict.REGRESS
    else:
        verdict = Verdict.UNDECIDED
    return Change(verdict, cases, values[0], values[1], estimate, bounds[0], bounds[1], limit)


def _unknown(cases: int, limit: float) -> Change:
    nan = float("nan")
    return Change(Verdict.UNDECIDED, cases, nan, nan, nan, nan, nan, limit)
