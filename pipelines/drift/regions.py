"""Regions of the space of texts, and which share of the traffic each may hold if nothing has changed.

Three kinds: fixed clusters of the reference (a known topic grew), "unlike anything in the reference" (a new topic),
and half-spaces along the direction in which the last texts differ from the reference (a shift that is spread over
many topics: the witness function of the kernel two-sample test with a linear kernel, Gretton et al., JMLR 13, 2012,
learned on earlier texts and judged on later ones as in Podkopaev and Ramdas, arXiv 2305.00143).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipelines.drift.betting import Doubles
from pipelines.drift.vectors import Floats

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NOVEL_SIMILARITY = 0.8
"""A text nearer than this to three of the reference is never new, however tight the reference."""
NEIGHBOURS = 3
WITNESS_QUANTILES = (0.5, 0.8, 0.95)
_SEED = 11


@dataclass(frozen=True)
class Reference:
    """What is normal: texts of the past, in strata that must not be mixed up.

    A stratum is a feature of the app: its texts are compared with its own. Groups (a tenant within a feature) are
    finer; a group with few texts borrows from its stratum.
    """

    vectors: Floats
    """(n, d), unit norm."""
    strata: Ints
    """(n,), 0 .. s-1."""
    groups: Ints
    """(n,), an id per (stratum, tenant)."""
    owners: Ints
    """(n,), an id per user; -1 = unknown. One's own earlier texts do not make a text familiar."""

    @cached_property
    def same(self) -> Ints:
        """(n,), place of the first text that is equal: a text that comes again is no second witness."""
        _, first, inverse = np.unique(self.vectors, axis=0, return_index=True, return_inverse=True)
        out: Ints = first[inverse.reshape(-1)].astype(np.int64)
        return out

    @cached_property
    def half(self) -> Ints:
        """(n,) 0 or 1: neighbours in time (one conversation) stay in one half, and equal texts do."""
        out: Ints = (self.same // 10) % 2
        return out


@dataclass(frozen=True)
class Regions:
    """The fixed regions, made from one reference; stays as it is until the reference has moved on."""

    centres: Floats
    """(k, d), unit norm."""
    novel_below: Floats
    """(s,), similarity to the nearest texts of the stratum below which a text is new."""
    inside: Flags
    """(n, k + 1), the region of each text of the reference: its cluster, and whether it is new to the others."""


def build(reference: Reference, clusters: int) -> Regions:
    """Cluster the reference, and find how far its own texts lie from each other (leave one user out)."""
    k = int(max(1, min(clusters, len(reference.vectors) // 15)))
    centres = kmeans(reference.vectors, k)
    nearest = (reference.vectors @ centres.T).argmax(axis=1)
    familiar = _familiarity(reference)
    strata = int(reference.strata.max(initial=-1)) + 1
    below = np.array([np.quantile(familiar[reference.strata == s], 0.05) for s in range(strata)], dtype=np.float32)
    below = np.minimum(below, np.float32(NOVEL_SIMILARITY))
    novel = familiar < below[reference.strata]
    inside = np.concatenate([nearest[:, None] == np.arange(len(centres))[None, :], novel[:, None]], axis=1)
    return Regions(centres, below, inside)


def locate(regions: Regions, reference: Reference, vectors: Floats, strata: Ints) -> Flags:
    """Return the regions of each of ``vectors`` (m, d): (m, k + 1)."""
    nearest = (vectors @ regions.centres.T).argmax(axis=1)
    similar = vectors @ reference.vectors.T
    similar[strata[:, None] != reference.strata[None, :]] = -1.0
    novel = _top_mean(similar) < regions.novel_below[strata]
    clusters = nearest[:, None] == np.arange(len(regions.centres))[None, :]
    return np.concatenate([clusters, novel[:, None]], axis=1)


@dataclass(frozen=True)
class Witness:
    """Half-spaces along the direction in which recent texts differ from the reference of their strata.

    Two directions: each half of the reference is judged by the one that was learned without it, so that a text of
    the reference and a new one are treated equally (learned on all of them, it would separate nothing).
    """

    directions: Floats
    """(2, d)."""
    above: Doubles
    """(2, s, quantiles): the other half's own quantiles of the projection, per stratum."""
    inside: Doubles
    """(n, quantiles): 1 where a text of the reference is inside, else 0."""

    def locate(self, vectors: Floats, strata: Ints) -> Doubles:
        """(m, quantiles): 0, 0.5 or 1."""
        scores = vectors @ self.directions.T
        return sum((scores[:, h, None] > self.above[h][strata] for h in (0, 1)), np.zeros((len(vectors), 1))) / 2


def learn_witness(reference: Reference, vectors: Floats, strata: Ints) -> Witness:
    """Learn from ``vectors`` (m, d), m > 0, all earlier than what the witness will judge."""
    count = int(reference.strata.max()) + 1
    weights = np.bincount(strata, minlength=count) / len(strata)
    half = reference.half
    mean = vectors.mean(axis=0)
    directions, above = [], []
    inside = np.zeros((len(half), len(WITNESS_QUANTILES)))
    for h in (0, 1):
        member = ((reference.strata[:, None] == np.arange(count)[None, :]) & (half == h)[:, None]).astype(np.float32)
        means = (member.T @ reference.vectors) / np.maximum(member.sum(axis=0), 1)[:, None]
        directions.append((mean - weights @ means).astype(np.float32))
        scores = reference.vectors @ directions[h]
        others = [scores[(reference.strata == s) & (half != h)] for s in range(count)]
        # slightly above the quantile: equal texts are on one side, for any order of summation
        limits = np.array([np.quantile(o if len(o) else scores, WITNESS_QUANTILES) for o in others]) + 1e-5
        above.append(limits)
        rows = half != h
        inside[rows] = scores[rows, None] > limits[reference.strata[rows]]
    return Witness(np.stack(directions), np.stack(above), inside)


def expected(inside: Doubles, reference: Reference, strata: Ints, groups: Ints, *, pull: float = 30.0) -> Doubles:
    """Return the share of each region that the reference expects for texts of ``groups``: (m, regions).

    A group's own share, drawn towards its stratum's by ``pull`` texts: so a tenant that calls more often brings its
    own topics with it, and no share grew that did not grow within someone.
    """
    out = np.empty((len(strata), inside.shape[1]))
    for key in {(int(s), int(g)) for s, g in zip(strata, groups, strict=True)}:
        stratum, group = key
        rows = inside[reference.strata == stratum]
        base = (rows.sum(axis=0) + 0.5) / (len(rows) + 1.0)
        own = inside[reference.groups == group]
        out[(strata == stratum) & (groups == group)] = (own.sum(axis=0) + pull * base) / (len(own) + pull)
    return out


def margin(share: Doubles, sizes: Doubles, *, errors: float, design_effect: float = 2.0) -> Doubles:
    """How far ``share``, counted in ``sizes`` texts of the reference, may lie below the truth.

    ``errors`` standard errors, with half as many independent texts as there are texts (``design_effect``).
    """
    effective = np.maximum(sizes, 1.0) / design_effect
    out: Doubles = errors * np.sqrt(share * (1 - share) / effective + 0.25 / effective**2)
    return out


def _familiarity(reference: Reference) -> Floats:
    """Mean similarity of each text of the reference to its nearest others, by other people in its stratum: (n,)."""
    similar = reference.vectors @ reference.vectors.T
    similar[reference.strata[:, None] != reference.strata[None, :]] = -1.0
    same = (reference.owners[:, None] == reference.owners[None, :]) & (reference.owners[:, None] >= 0)
    # the reference has texts of one user only: then there is no other user to compare with
    alone = (same | (reference.strata[:, None] != reference.strata[None, :])).all(axis=1)
    similar[same & ~alone[:, None]] = -1.0
    # of a stock of texts that come again and again each is familiar to itself, and every new one would be unlike all
    again = reference.same[:, None] == reference.same[None, :]
    enough = ((similar > -1.0) & ~again).sum(axis=1) >= NEIGHBOURS
    similar[again & enough[:, None]] = -1.0
    np.fill_diagonal(similar, -1.0)
    return _top_mean(similar)


def _top_mean(similar: Floats) -> Floats:
    count = min(NEIGHBOURS, similar.shape[1])
    top = np.partition(similar, similar.shape[1] - count, axis=1)[:, -count:]
    out: Floats = top.mean(axis=1)
    return out


def kmeans(vectors: Floats, k: int, rounds: int = 8) -> Floats:
    """Spherical k-means from a fixed seed: the same reference gives the same clusters."""
    rng = np.random.default_rng(_SEED)
    chosen = [int(rng.integers(len(vectors)))]
    nearest = vectors @ vectors[chosen[0]]
    # a few texts over and over: as many clusters as texts, or equal centres would share one text by chance
    while len(chosen) < k and float(nearest.min()) < 0.98:
        weights = np.maximum(0.98 - nearest, 0.0).astype(np.float64)
        chosen.append(int(rng.choice(len(vectors), p=weights / weights.sum())))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    centres = vectors[chosen].copy()
    for _ in range(rounds):
        label = (vectors @ centres.T).argmax(axis=1)
        sums = (label[None, :] == np.arange(len(centres))[:, None]).astype(np.float32) @ vectors
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = (sums[norms[:, 0] > 0] / norms[norms[:, 0] > 0]).astype(np.float32)
    return centres
