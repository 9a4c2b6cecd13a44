"""Whether a candidate is worse than its baseline: a paired comparison of scores in 0..1, clustered by case. Pure.

Several samples a case are averaged first, so that the case is the unit of the analysis: samples of one case are not
independent of each other. The interval is Student's t on the differences of the cases, with one pseudo-case at +1 and
one at -1: the adjusted Wald interval of D. Bonett and R. Price, "Adjusted Wald confidence interval for a difference of
binomial proportions based on paired data" (2012), which keeps its coverage where few cases or none differ. With no
difference at all it is as wide as by the rule of three: 20 equal cases prove little.

Passing needs every check (an intersection-union test, R. Berger 1982), so that the bound of a pass needs no correction
for their number. One regress blocks, so that its bound is corrected (Bonferroni): equal systems are blocked as rarely
with ten checks as with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, isfinite, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
LIMIT = 0.05
"""Five percentage points."""
FALSE_BLOCKS = 0.05
"""Share of equal candidates that may be blocked."""


class Verdict(StrEnum):
    """Of one check, and of all of them."""

    PASS = "pass"
    REGRESS = "regress"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Limit:
    """How much worse a candidate may be."""

    amount: float = LIMIT
    """A share: 0.05 is five percentage points, or five percent of the baseline where ``relative``."""
    relative: bool = False

    def of(self, baseline_mean: float) -> float:
        """Return the limit in units of the score."""
        return self.amount * abs(baseline_mean) if self.relative else self.amount


@dataclass(frozen=True)
class Pairs:
    """Scores of the cases that both sides have: a row a case, in the order of the ids."""

    case_ids: tuple[str, ...]
    candidate: Floats
    """Mean over the samples of a case."""
    baseline: Floats
    within: float
    """Variance of a difference that more samples a case would reduce; NaN where no case has two samples a side."""

    @property
    def differences(self) -> Floats:
        """Candidate − baseline of each case."""
        return self.candidate - self.baseline


@dataclass(frozen=True)
class Judgement:
    """What a comparison found. Estimate and bounds are candidate − baseline, in units of the score."""

    verdict: Verdict
    cases: int
    estimate: float
    lower: float
    """95 % two-sided: above −limit is a pass."""
    upper: float
    """95 % two-sided over all checks together: below 0 is a regress."""
    limit: float
    spread: float
    """Standard deviation of the differences between cases, the two pseudo-cases included."""
    cases_needed: int
    """More cases until a verdict is expected, if estimate and spread stay; 0 where there is one, -1 without a case."""
    false_block_risk: float
    """Chance that equal systems of this spread are blocked with this number of cases."""

    @property
    def rules_exclude(self) -> bool:
        """Whether ``estimate below −limit`` blocks more than 5 % of equal systems: noise exceeds the limit."""
        return self.false_block_risk > FALSE_BLOCKS + 1e-9


def pair(candidate: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]) -> Pairs:
    """Return the cases that have a score on both sides.

    Args:
        candidate: case -> the scores of its samples.
        baseline: the same.
    """
    ids = tuple(sorted(c for c in candidate if candidate[c] and baseline.get(c)))
    means = [np.array([np.mean(side[c]) for c in ids], dtype=np.float64) for side in (candidate, baseline)]
    noise = [
        np.var(candidate[c], ddof=1) / len(candidate[c]) + np.var(baseline[c], ddof=1) / len(baseline[c])
        for c in ids
        if len(candidate[c]) > 1 and len(baseline[c]) > 1
    ]
    return Pairs(ids, means[0], means[1], float(np.mean(noise)) if noise else float("nan"))


def judge(differences: Floats, limit: float = LIMIT, *, checks: int = 1) -> Judgement:
    """Judge the differences of the cases.

    Args:
        differences: candidate − baseline of each case, in -1..1.
        limit: how much worse a candidate may be, in the same unit; above 0.
        checks: how many of them can block: bounds of a regress are corrected for it.
    """
    cases = len(differences)
    if cases == 0:
        nan = float("nan")
        return Judgement(Verdict.UNDECIDED, 0, nan, nan, nan, limit, nan, -1, nan)
    estimate = float(np.mean(differences))
    centre, spread, error = _adjusted(differences)
    lower = max(-1.0, centre - _t(cases + 1, 1) * error)
    upper = min(1.0, centre + _t(cases + 1, checks) * error)
    verdict = _verdict(estimate, lower, upper, limit)
    needed = 0 if verdict is not Verdict.UNDECIDED else _cases_needed(estimate, spread, cases, limit, checks)
    risk = float(ndtr(max(-limit / error, -_t(cases + 1, checks))))
    return Judgement(verdict, cases, estimate, lower, upper, limit, spread, needed, risk)


def samples_needed(pairs: Pairs, judgement: Judgement, samples: int) -> int:
    """Return the samples a case at which the same cases are expected to give a verdict; -1 where none would.

    Args:
        pairs: what was compared.
        judgement: of it, undecided.
        samples: a case that each side has now.
    """
    if not isfinite(pairs.within) or judgement.verdict is not Verdict.UNDECIDED:
        return -1
    z, cases = float(ndtri(1 - (1 - CONFIDENCE) / 2)), judgement.cases
    margin = max(judgement.limit + judgement.estimate, -judgement.estimate)
    wanted = cases * (margin / z) ** 2  # variance of a difference at which the bound meets the margin
    between = max(0.0, judgement.spread**2 - pairs.within)
    if margin <= 0 or wanted <= between or pairs.within <= 0:
        return -1
    return max(samples + 1, ceil(samples * pairs.within / (wanted - between)))


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict over ``verdicts`` of all checks that may block: undecided is never a pass."""
    for worst in (Verdict.REGRESS, Verdict.UNDECIDED):
        if worst in verdicts:
            return worst
    return Verdict.PASS if verdicts else Verdict.UNDECIDED


def power(drop: float, *, spread: float, cases: int, limit: float = LIMIT, checks: int = 1) -> float:
    """Return the chance that a true ``drop`` (0.08: eight points) is blocked; ``spread`` as in ``Judgement``."""
    error = spread / sqrt(cases)
    threshold = -min(limit, _t(cases + 1, checks) * error)
    return float(ndtr((threshold + drop) / error))


def _verdict(estimate: float, lower: float, upper: float, limit: float) -> Verdict:
    if upper < 0 or estimate < -limit:
        return Verdict.REGRESS
    return Verdict.PASS if lower > -limit else Verdict.UNDECIDED


def _adjusted(differences: Floats) -> tuple[float, float, float]:
    """Return mean, standard deviation and standard error with a pseudo-case at +1 and one at -1."""
    count = len(differences) + 2
    centre = float(np.sum(differences)) / count
    squares = float(np.sum((differences - centre) ** 2)) + (1 - centre) ** 2 + (1 + centre) ** 2
    spread = sqrt(squares / (count - 1))
    return centre, spread, spread / sqrt(count)


def _t(degrees: int, checks: int) -> float:
    return float(stdtrit(degrees, 1 - (1 - CONFIDENCE) / (2 * checks)))


def _cases_needed(estimate: float, spread: float, cases: int, limit: float, checks: int) -> int:
    """Return how many more cases give a verdict: the smaller of the numbers for a pass and for a regress."""
    z = [float(ndtri(1 - (1 - CONFIDENCE) / (2 * m))) for m in (1, checks)]
    margin = max((limit + estimate) / z[0], -estimate / z[1])  # standard errors that decide; above 0 for any estimate
    return max(1, ceil((spread / margin) ** 2) - cases)
