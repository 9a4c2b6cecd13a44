"""One level under test, an app or one of its features, with its state between two texts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from pipelines.drift.betting import log10_evidence
from pipelines.drift.regions import Ints, Reference, Regions, build
from pipelines.drift.topic_bets import (
    Batch,
    TestConfig,
    alarmed,
    block_length,
    clip,
    design_effect,
    empty,
    judge,
    start,
)
from pipelines.drift.vectors import Floats

_MOST_LABELS = 400
_FRESH = 120
"""The newest texts are not used for the dependence between texts: a shift would look like dependence."""
_NO_EVIDENCE = 1.0
"""Evidence (power of ten) above which no test is rebuilt and no text is admitted to the reference: a shift may have
begun."""


class Saved(msgspec.Struct):
    """A level at rest."""

    capitals: bytes
    components: int
    since: list[int]
    labels: list[list[int]]
    settled: list[list[int]]
    recent: bytes
    recent_strata: list[int]
    recent_groups: list[int]
    pending: bytes
    pending_strata: list[int]
    pending_groups: list[int]
    pending_at: list[int]
    centres: bytes
    novel_below: bytes
    inside: bytes
    strata: list[str]
    effects: list[float]


@dataclass
class Level:
    """The test of one level. ``strata`` names its strata in the order of the reference's ids."""

    config: TestConfig
    reference: Reference
    regions: Regions
    strata: list[str]

    def __post_init__(self) -> None:
        width = self.reference.vectors.shape[1]
        self.capitals = start(self.regions)
        self.since = np.zeros(len(self.capitals), dtype=np.int64)
        """Per component: ordinal of the first text of its current run of bets."""
        self.recent, self.pending = empty(width), empty(width)
        self.pending_at: list[int] = []
        self.labels: list[list[int]] = [[] for _ in self.strata]
        """Per stratum the clusters of its last texts, in order of arrival: too new to learn the dependence from."""
        clusters = self._clusters(self.reference.vectors)
        self.settled = [clusters[self.reference.strata == s].tolist() for s in range(len(self.strata))]
        self.effects = [design_effect(np.array(labels, dtype=np.int64)) for labels in self.settled]

    @staticmethod
    def of(config: TestConfig, reference: Reference, strata: list[str]) -> Level:
        """A fresh test against ``reference``."""
        return Level(config, reference, build(reference, config.clusters), strata)

    @property
    def evidence(self) -> float:
        """log10 of the evidence that the texts have moved."""
        return log10_evidence(self.capitals)

    @property
    def effect(self) -> float:
        """How many neighbouring texts count as one independent text: the mean of the strata, by their size."""
        return float(np.average(self.effects, weights=np.bincount(self.reference.strata)))

    @property
    def is_undisturbed(self) -> bool:
        """Whether the evidence of a shift is low."""
        return self.evidence < _NO_EVIDENCE

    def onset(self) -> int:
        """Ordinal of the first text of the shift, as the strongest component sees it."""
        return int(self.since[int(self.capitals.max(axis=1).argmax())])

    def take(self, vector: Floats, stratum: str, tenant_group: int, ordinal: int) -> bool:
        """Judge one more text; True when the evidence suffices. Bets are placed a block at a time."""
        index = np.array([self.strata.index(stratum)], dtype=np.int64)
        group = np.array([tenant_group], dtype=np.int64)
        self.pending = clip(self.pending, Batch(vector[None, :], index, group), self.config.longest_block)
        self.pending_at.append(ordinal)
        if len(self.pending.vectors) < block_length(self.config, self.effect):
            return False
        before = self.capitals.max(axis=1)
        self.capitals = judge(
            self.config, self.reference, self.regions, self.capitals, self.recent, self.pending, self.effect
        )
        self.since = np.where(before <= 1.0, self.pending_at[0], self.since)
        self.recent = clip(self.recent, self.pending, self.config.recent)
        self._learn_effect(self.pending.vectors, self.pending.strata)
        self.pending, self.pending_at = empty(vector.shape[0]), []
        return alarmed(self.config, self.capitals)

    def forget(self) -> None:
        """Start over against the same reference."""
        width = self.reference.vectors.shape[1]
        self.capitals = start(self.regions)
        self.recent, self.pending, self.pending_at = empty(width), empty(width), []

    def _clusters(self, vectors: Floats) -> Ints:
        out: Ints = (vectors @ self.regions.centres.T).argmax(axis=1).astype(np.int64)
        return out

    def _learn_effect(self, vectors: Floats, strata: Ints) -> None:
        clusters = self._clusters(vectors)
        for s in np.unique(strata):
            labels = [*self.labels[s], *clusters[strata == s].tolist()]
            self.labels[s], settling = labels[-_FRESH:], labels[:-_FRESH]
            if settling and self.is_undisturbed:
                self.settled[s] = [*self.settled[s], *settling][-_MOST_LABELS:]
                self.effects[s] = design_effect(np.array(self.settled[s], dtype=np.int64))

    def save(self) -> Saved:
        """Return the state that cannot be derived from the reference."""
        return Saved(
            self.capitals.tobytes(),
            len(self.capitals),
            self.since.tolist(),
            self.labels,
            self.settled,
            self.recent.vectors.tobytes(),
            self.recent.strata.tolist(),
            self.recent.groups.tolist(),
            self.pending.vectors.tobytes(),
            self.pending.strata.tolist(),
            self.pending.groups.tolist(),
            self.pending_at,
            self.regions.centres.tobytes(),
            self.regions.novel_below.tobytes(),
            np.packbits(self.regions.inside).tobytes(),
            self.strata,
            self.effects,
        )

    @staticmethod
    def load(saved: Saved, config: TestConfig, reference: Reference) -> Level:
        """Inverse of ``save``; ``reference`` is that of the same strata."""
        width = reference.vectors.shape[1]
        centres = np.frombuffer(saved.centres, dtype=np.float32).reshape(-1, width)
        shape = (len(reference.vectors), len(centres) + 1)
        bits = np.unpackbits(np.frombuffer(saved.inside, dtype=np.uint8), count=shape[0] * shape[1])
        below = np.frombuffer(saved.novel_below, dtype=np.float32)
        regions = Regions(centres, below, bits.reshape(shape).astype(np.bool_))
        level = Level(config, reference, regions, saved.strata)
        level.capitals = np.frombuffer(saved.capitals).reshape(saved.components, -1).copy()
        level.since = np.array(saved.since, dtype=np.int64)
        level.labels, level.settled, level.effects = saved.labels, saved.settled, saved.effects
        level.pending_at = saved.pending_at
        level.recent = _batch(saved.recent, saved.recent_strata, saved.recent_groups, width)
        level.pending = _batch(saved.pending, saved.pending_strata, saved.pending_groups, width)
        return level


def _batch(vectors: bytes, strata: list[int], groups: list[int], width: int) -> Batch:
    return Batch(
        np.frombuffer(vectors, dtype=np.float32).reshape(-1, width),
        np.array(strata, dtype=np.int64),
        np.array(groups, dtype=np.int64),
    )
