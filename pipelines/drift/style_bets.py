"""Has the style of answers moved? Bets on the rank that each number of a style has in the reference.

Where nothing has changed, the rank of a new answer among those of the reference is 0.5 on average, for any
distribution of the number. For each number two components bet that its mean rank is above, or below, what the
reference and its error allow; one more bets on the rank along the direction in which the last answers differ from the
reference (Fisher's linear discriminant, learned on earlier answers and judged on later ones: a classifier two-sample
test by betting, Podkopaev and Ramdas, arXiv 2305.00143). The evidence is the weighted mean of the capitals; it is the
e-detector of ``betting``, and its bound holds for any fixed weights (Shin, Ramdas and Rinaldo, arXiv 2203.03532).

An answer is compared with those of its own feature, and a tenant brings its own mean rank with it: so another mix of
features or tenants is no change of style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipelines.drift.betting import Doubles, bet, initial_capitals
from pipelines.drift.regions import Ints

STAKES = np.array([0.05, 0.15, 0.4, 0.95])
"""Of the greatest stake: few ranks are 0, so that a stake near the greatest does not ruin."""
_UNIFORM_SPREAD = math.sqrt(1 / 12)
_LEAST_MARGIN = 0.01


@dataclass(frozen=True)
class StyleConfig:
    """Thresholds of the test of styles; the defaults need no tuning."""

    alpha: float = 1e-5
    """On average at least 1 / alpha bets pass before a false alarm."""
    min_growth: float = 0.03
    """Smallest change of a mean rank that matters, beyond the error of the reference."""
    errors: float = 1.0
    """Standard errors that the mean ranks are given; half as many texts are independent as there are."""
    block: int = 1
    """Answers a bet, where neighbours are independent."""
    longest_block: int = 80
    least_effective: float = 16.0
    """With fewer independent answers than this in the reference nothing is judged."""
    recent: int = 200
    """Answers before the bet from which the direction is learned."""
    warm: int = 20
    """Answers needed before that direction is used."""
    every: int = 5
    """Answers between two renewals of the direction."""
    shrinkage: float = 0.2
    """Share of each variance that is added to it before the covariances are inverted."""
    pull: float = 30.0
    """Texts by which the mean rank of a tenant is drawn towards that of its feature."""


@dataclass(frozen=True)
class Style:
    """One answer, placed in the reference."""

    ranks: Doubles
    """(p,) in [0, 1], within its stratum."""
    expected: Doubles
    """(p,) mean ranks of its tenant."""
    stratum: int
    group: int


@dataclass(frozen=True)
class StyleReference:
    """Answers that are normal."""

    config: StyleConfig
    positions: Doubles
    """(n, p) in [0, 1]."""
    strata: Ints
    groups: Ints

    @cached_property
    def sorted(self) -> list[Doubles]:
        """Per stratum (n of it, p), each column ascending."""
        count = int(self.strata.max(initial=-1)) + 1
        return [np.sort(self.positions[self.strata == s], axis=0) for s in range(count)]

    @cached_property
    def ranks(self) -> Doubles:
        """(n, p): of the reference in itself."""
        out: Doubles = np.empty_like(self.positions)
        for s, known in enumerate(self.sorted):
            rows = np.flatnonzero(self.strata == s)
            for column in range(self.positions.shape[1]):
                out[rows, column] = _middle(known[:, column], self.positions[rows, column])
        return out

    @cached_property
    def half(self) -> Ints:
        """(n,) 0 or 1: neighbours in time stay in one half."""
        return (np.arange(len(self.strata)) // 10) % 2

    @cached_property
    def parts(self) -> list[list[Doubles]]:
        """Per half and stratum the ranks of that part."""
        count = range(len(self.sorted))
        return [[self.ranks[(self.strata == s) & (self.half == h)] for s in count] for h in (0, 1)]

    @cached_property
    def spread(self) -> Doubles:
        """(p,) standard deviation of the ranks: less than that of a uniform one where values are equal."""
        out: Doubles = self.ranks.std(axis=0)
        return out

    @cached_property
    def precision(self) -> Doubles:
        """(p, p): inverse of the shrunken covariances of the ranks."""
        found = np.atleast_2d(np.cov(self.ranks.T))
        out: Doubles = np.linalg.inv(found + np.diag(self.config.shrinkage * np.diag(found) + 1e-4)).astype(np.float64)
        return out

    @cached_property
    def _expected(self) -> dict[int, Doubles]:
        return {}

    def expected(self, group: int) -> Doubles:
        """(p,) mean ranks of a tenant, drawn towards 0.5."""
        if group not in self._expected:
            own, pull = self.ranks[self.groups == group], self.config.pull
            self._expected[group] = (own.sum(axis=0) + 0.5 * pull) / (len(own) + pull)
        return self._expected[group]

    def place(self, position: Doubles, stratum: int, group: int) -> Style:
        """Return the ranks of an answer, (p,) positions."""
        return Style(_ranks(self.sorted[stratum], position), self.expected(group), stratum, group)


@dataclass(frozen=True)
class Witness:
    """The direction in which the last answers differ: each half of the reference is judged by the one learned without
    it.
    """

    reference: StyleReference
    directions: Doubles
    """(2, p)."""
    scores: list[list[Doubles]]
    """Per half and stratum the scores of the other half, ascending."""
    _expected: dict[int, float] = field(default_factory=dict)

    def gain(self, style: Style) -> float:
        """Return the rank of an answer along the direction, the mean of the two parts, less what its tenant expects."""
        rank = sum(self._rank(h, style.stratum, style.ranks) for h in (0, 1)) / 2
        return float(rank) - self._of(style.group, style.stratum)

    def _rank(self, half: int, stratum: int, ranks: Doubles) -> Doubles:
        return _middle(self.scores[half][stratum], ranks @ self.directions[half])

    def _of(self, group: int, stratum: int) -> float:
        """Mean rank of a tenant along the direction, drawn towards 0.5."""
        if group not in self._expected:
            reference, total, count = self.reference, 0.0, 0
            for h in (0, 1):
                own = reference.ranks[(reference.groups == group) & (reference.half != h)]
                total, count = total + float(self._rank(h, stratum, own).sum()), count + len(own)
            pull = reference.config.pull
            self._expected[group] = (total + 0.5 * pull) / (count + pull)
        return self._expected[group]


def learn(reference: StyleReference, recent: Sequence[Style]) -> Witness:
    """Learn from ``recent`` answers (not empty), all earlier than what the witness will judge."""
    moved = np.mean([style.ranks - style.expected for style in recent], axis=0)
    weights = np.bincount([style.stratum for style in recent], minlength=len(reference.sorted)) / len(recent)
    directions, scores = [], []
    for mine, others in (reference.parts, reference.parts[::-1]):
        usual = sum((w * (rows.mean(axis=0) - 0.5) for w, rows in zip(weights, mine, strict=True) if len(rows)), 0.0)
        direction = reference.precision @ (moved - usual)
        directions.append(direction)
        scores.append([np.sort(rows @ direction) for rows in others])
    return Witness(reference, np.stack(directions), scores)


def start(width: int) -> Doubles:
    """Capitals of a fresh test: (2 width + 1, stakes)."""
    return initial_capitals(2 * width + 1, STAKES)


def judge(
    reference: StyleReference, witness: Witness | None, capitals: Doubles, block: Sequence[Style], effect: float
) -> Doubles:
    """Bet on one block (not empty) and return the capitals after it.

    Args:
        reference: what is normal.
        witness: learned before this block; None: its component is not changed.
        capitals: from ``start`` or an earlier call.
        block: answers.
        effect: how many neighbouring answers count as one.
    """
    config, width = reference.config, reference.positions.shape[1]
    size = float(np.mean([len(reference.sorted[style.stratum]) for style in block]))
    if size < config.least_effective * effect:
        return np.maximum(capitals, 1.0)
    errors = config.errors * math.sqrt(2 * effect / size)
    scale = reference.spread * (errors + config.min_growth / _UNIFORM_SPREAD)
    margin = np.clip(scale, _LEAST_MARGIN + 1.5 / size, 0.4)
    observed = np.mean([style.ranks for style in block], axis=0)
    expected = np.mean([style.expected for style in block], axis=0)
    seen, usual = np.concatenate([observed, 1 - observed]), np.concatenate([expected, 1 - expected])
    allowed = np.clip(usual + np.tile(margin, 2), 0.05, 0.99)
    after = bet(capitals[: 2 * width], seen, allowed, STAKES)
    if witness is None:
        return np.concatenate([after, np.maximum(capitals[2 * width :], 1.0)])
    along = np.array([0.5 + float(np.mean([witness.gain(style) for style in block]))])
    limit = np.array([0.5 + _UNIFORM_SPREAD * errors + config.min_growth])
    return np.concatenate(
        [after, bet(capitals[2 * width :], np.clip(along, 0.0, 1.0), np.minimum(limit, 0.95), STAKES)]
    )


def log10_evidence(capitals: Doubles) -> float:
    """Evidence as a power of ten: half of the weight is the direction's, the rest is shared by the numbers."""
    means = capitals.mean(axis=1)
    return float(np.log10(0.5 * means[:-1].mean() + 0.5 * means[-1]))


def strongest(capitals: Doubles) -> int:
    """Return the component with most of the evidence."""
    weights = np.full(len(capitals), 1 / (len(capitals) - 1))
    weights[-1] = 1.0
    return int((weights * capitals.max(axis=1)).argmax())


def dependence(ranks: Doubles) -> float:
    """How many neighbouring answers count as one: 1 where neighbours are independent.

    From (k, p) ranks in order of arrival. The worse of the lag-1 correlation r, as (1 + r) / (1 - r), and how much more
    the means of stretches of 20 and 40 vary than those of independent answers (Kish's design effect).
    """
    if len(ranks) < 2 * 40:
        return 1.0
    centred = ranks[:, ranks.var(axis=0) > 1e-9]
    centred = centred - centred.mean(axis=0)
    if not centred.shape[1]:
        return 1.0
    variance = (centred**2).mean(axis=0)
    lag = float(((centred[1:] * centred[:-1]).mean(axis=0) / variance).mean())
    r = min(max(lag - 1 / math.sqrt(len(ranks)), 0.0), 0.95)
    worst = (1 + r) / (1 - r)
    for length in (20, 40):
        count = len(centred) // length
        if count < 6:
            continue
        means = centred[-count * length :].reshape(count, length, -1).mean(axis=1)
        ratio = float((means.var(axis=0, ddof=1) * length / variance).mean())
        worst = max(worst, ratio / (1 + 2 * math.sqrt(2 / (count - 1) / 6)))  # the numbers are about six independent
    return worst


def _middle(known: Doubles, values: Doubles) -> Doubles:
    """Rank of each of ``values`` among ``known`` (n,) ascending; of equal ones the middle, and 0.5 among none."""
    places = np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
    out: Doubles = (places / (2 * len(known)) if len(known) else 0.5 + 0.0 * places).astype(np.float64)
    return out


def _ranks(known: Doubles, position: Doubles) -> Doubles:
    """(p,) rank of each number among the ascending columns ``known`` (n, p); of equal ones, the middle."""
    below, upto = (known < position).sum(axis=0), (known <= position).sum(axis=0)
    out: Doubles = (below + upto) / (2 * max(len(known), 1))
    return out
