"""The drift test of one level (an app, or one feature of it): has the distribution of its texts moved?

Texts come in blocks of five. Before a block is judged, the regions and what each may hold are fixed from the reference
and from earlier blocks; then every region bets that it holds more than that (``betting``). What a region may hold is
its share in the reference, plus the error of that share, plus ``min_growth``: a shift too small to matter, and the
finite reference itself, win nothing. So the alarm holds under continuous looking, needs no permutations, and costs one
small matrix product a block. Measured by ``bench/drift_cost.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.drift.betting import Doubles, bet, initial_capitals, log10_evidence
from pipelines.drift.regions import (
    WITNESS_QUANTILES,
    Ints,
    Reference,
    Regions,
    expected,
    learn_witness,
    locate,
    margin,
)
from pipelines.drift.vectors import Floats

_EQUAL = 0.9999
"""Similarity from which two texts are the same text."""


@dataclass(frozen=True)
class TestConfig:
    """Thresholds of the drift test; the defaults need no tuning."""

    __test__ = False

    alpha: float = 1e-5
    """On average at least 1 / alpha blocks of texts pass before a false alarm (average run length)."""
    min_growth: float = 0.035
    """Smallest growth of a region's share that matters, beyond the error of the reference."""
    errors: float = 1.0
    """Standard errors that the reference's shares are given."""
    block: int = 5
    """Texts a bet, where neighbours are independent; ``block_length`` makes it longer where they are not."""
    longest_block: int = 80
    least_effective: float = 16.0
    """With a reference of fewer independent texts than this nothing is judged."""
    clusters: int = 16
    recent: int = 120
    """Texts before the block from which the direction of a spread shift is learned."""
    warm: int = 20
    """Texts needed before that direction is used."""


@dataclass(frozen=True)
class Batch:
    """Texts to judge, in order."""

    vectors: Floats
    """(m, d), unit norm."""
    strata: Ints
    groups: Ints


def judge(
    config: TestConfig,
    reference: Reference,
    regions: Regions,
    capitals: Doubles,
    recent: Batch,
    block: Batch,
    effect: float = 1.0,
) -> Doubles:
    """Bet on one block and return the capitals after it.

    Args:
        config: thresholds.
        reference: what is normal; the witness's shares are counted in it.
        regions: made from this reference or a slightly earlier one.
        capitals: (regions + witness quantiles, stakes), from ``start`` or an earlier call.
        recent: texts judged before this block since the capitals were fresh; the witness learns from them alone.
        block: the texts to judge now.
        effect: how many neighbouring texts count as one (``design_effect``).
    """
    if np.bincount(reference.strata)[block.strata].mean() < config.least_effective * effect:
        return np.maximum(capitals, 1.0)
    observed, allowed = _shares(config, reference, regions, recent, block, effect)
    padded = len(capitals) - len(observed)
    if padded:  # the witness is not ready: its components are not changed
        after = bet(capitals[: len(observed)], observed, allowed)
        return np.concatenate([after, np.maximum(capitals[len(observed) :], 1.0)])
    return bet(capitals, observed, allowed)


def start(regions: Regions) -> Doubles:
    """Capitals of a fresh test over ``regions``."""
    return initial_capitals(regions.inside.shape[1] + len(WITNESS_QUANTILES))


def alarmed(config: TestConfig, capitals: Doubles) -> bool:
    """Whether the evidence suffices."""
    return log10_evidence(capitals) >= -math.log10(config.alpha)


def clip(recent: Batch, block: Batch, keep: int) -> Batch:
    """Append ``block`` to ``recent`` and keep the last ``keep`` texts."""
    return Batch(
        np.concatenate([recent.vectors, block.vectors])[-keep:],
        np.concatenate([recent.strata, block.strata])[-keep:],
        np.concatenate([recent.groups, block.groups])[-keep:],
    )


def empty(width: int) -> Batch:
    """No texts."""
    none = np.empty(0, dtype=np.int64)
    return Batch(np.empty((0, width), dtype=np.float32), none, none)


def design_effect(labels: Ints) -> float:
    """How many neighbouring texts count as one independent text: 1 where neighbours are independent.

    From ``labels``, the cluster of each of the last texts in order of arrival. The worse of two estimates: how much
    more often neighbours share a cluster than chance has it, as the lag-1 correlation of a Markov chain,
    (1 + r) / (1 - r), for conversations that follow each other; and how much more the clusters' shares vary between
    stretches of 20 and 40 texts than among independent texts (Kish's design effect), for those that are interleaved.
    """
    if len(labels) < 40:
        return 1.0
    clusters = np.flatnonzero(np.bincount(labels))
    chance = float(((np.bincount(labels) / len(labels)) ** 2).sum())
    forgiven = 2 * math.sqrt(chance * (1 - chance) / len(labels))
    together = float((labels[1:] == labels[:-1]).mean())
    r = min(max((together - chance - forgiven) / max(1 - chance, 1e-9), 0.0), 0.95)
    worst = (1 + r) / (1 - r)
    for length in (20, 40):
        stretches = len(labels) // length
        if stretches < 6 or len(clusters) < 2:
            continue
        cut = labels[len(labels) - stretches * length :].reshape(stretches, length)
        shares = np.stack([(cut == c).mean(axis=1) for c in clusters], axis=1)
        mean = shares.mean(axis=0)
        ratio = shares.var(axis=0, ddof=1).sum() * length / max(float((mean * (1 - mean)).sum()), 1e-9)
        # chance alone makes it 1 +- this; twice that is forgiven, so that chance does not slow the test down
        noise = np.sqrt(2.0 / ((stretches - 1) * (len(clusters) - 1)))
        worst = max(worst, float(ratio) / (1 + 2 * noise))
    return float(worst)


def block_length(config: TestConfig, effect: float) -> int:
    """Texts in the next bet: long enough that two bets in a row are nearly independent."""
    return int(min(max(config.block, round(4 * effect) if effect > 1.5 else 0), config.longest_block))


def _without(recent: Batch, block: Batch) -> Batch:
    """Return the texts that are none of the block's: a direction is not judged by what it was learned from.

    All of ``recent`` where none is left.
    """
    known = ~((recent.vectors @ block.vectors.T) > _EQUAL).any(axis=1)
    if not known.any():
        return recent
    return Batch(recent.vectors[known], recent.strata[known], recent.groups[known])


def _shares(
    config: TestConfig, reference: Reference, regions: Regions, recent: Batch, block: Batch, effect: float
) -> tuple[Doubles, Doubles]:
    """Observed share of every region in the block, and the greatest expected one."""
    inside = [regions.inside.astype(np.float64)]
    seen = [locate(regions, reference, block.vectors, block.strata).astype(np.float64)]
    if len(recent.vectors) >= config.warm:
        others = _without(recent, block)
        witness = learn_witness(reference, others.vectors, others.strata)
        inside.append(witness.inside)
        seen.append(witness.locate(block.vectors, block.strata))
    each = expected(np.concatenate(inside, axis=1), reference, block.strata, block.groups)
    share = each.mean(axis=0)
    sizes = np.bincount(reference.strata)[block.strata].mean()
    allowed = (
        share
        + margin(share, np.full(len(share), sizes), errors=config.errors, design_effect=2.0 * effect)
        + config.min_growth
    )
    return np.concatenate(seen, axis=1).mean(axis=0), np.clip(allowed, 1e-3, 0.99)
