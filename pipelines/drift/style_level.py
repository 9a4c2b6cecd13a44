"""The test of styles for one level, an app or one of its features, with its state between two answers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from pipelines.drift import style_bets
from pipelines.drift.clusters import matrix
from pipelines.drift.points import Point
from pipelines.drift.strata import Stratum, group_id, group_ids
from pipelines.drift.style import LEVELS, WIDTH, positions
from pipelines.drift.style_bets import Style, StyleConfig, StyleReference, Witness
from pipelines.drift.vectors import Floats

_FRESH, _OLDER = 120, 400
"""Answers of which the dependence is learned, and the newest ones, which are left out: a shift looks like it."""
_LEARN_EVERY = 40
_NO_EVIDENCE = 1.0
"""As of ``level``: above it nothing is rebuilt and nothing is admitted to the reference."""


class SavedStyles(msgspec.Struct):
    """A level at rest."""

    strata: list[str]
    capitals: bytes
    since: list[int]
    effect: float
    judged: int
    seen: int
    recent: list[tuple[bytes, int, int]]
    """Per answer: its style as bytes, its stratum, its group."""
    pending: list[tuple[bytes, int, int]]
    pending_at: list[int]
    history: bytes
    learned_from: list[tuple[bytes, int, int]] | None
    """What the direction in force was learned from; None: there is none."""


class StyleLevel:
    """The test of one level. ``strata`` names its strata in the order of the reference's ids."""

    def __init__(self, config: StyleConfig, strata: Sequence[Stratum]) -> None:
        texts = [point for stratum in strata for point in stratum.texts]
        index = np.repeat(np.arange(len(strata)), [len(stratum.texts) for stratum in strata]).astype(np.int64)
        self.config, self.strata = config, [stratum.name for stratum in strata]
        self.reference = StyleReference(config, positions(matrix(texts)), index, group_ids(texts, index))
        self.capitals = style_bets.start(WIDTH)
        self.since = np.zeros(len(self.capitals), np.int64)
        """Per component: ordinal of the first answer of its current run of bets."""
        self.effect = 1.0
        """How many neighbouring answers count as one."""
        self.judged = self.seen = 0
        """Answers so far, and since the direction was renewed."""
        self.recent: list[tuple[bytes, int, int]] = []
        self._recent: list[Style] = []
        self.pending: list[tuple[bytes, int, int]] = []
        self.pending_at: list[int] = []
        self.history: Floats = np.zeros((0, WIDTH), np.float32)
        """(k, p) ranks of the last answers, in order."""
        self._learned_from: list[tuple[bytes, int, int]] | None = None
        self._witness: Witness | None = None

    @property
    def evidence(self) -> float:
        """log10 of the evidence that the style has moved."""
        return style_bets.log10_evidence(self.capitals)

    @property
    def is_undisturbed(self) -> bool:
        """Whether the evidence of a shift is low."""
        return self.evidence < _NO_EVIDENCE

    def onset(self) -> int:
        """Ordinal of the first answer of the shift, as the strongest component sees it."""
        return int(self.since[style_bets.strongest(self.capitals)])

    def take(self, point: Point, stratum: str, ordinal: int) -> bool:
        """Judge one more answer; True when the evidence suffices."""
        index = self.strata.index(stratum)
        self.pending.append((point.vector, index, group_id(point.tenant, index)))
        self.pending_at.append(ordinal)
        if len(self.pending) < self._block_length():
            return False
        block = [self._style(one) for one in self.pending]
        before = self.capitals.max(axis=1)
        self.capitals = style_bets.judge(self.reference, self._witness, self.capitals, block, self.effect)
        self.since = np.where(before <= 1.0, self.pending_at[0], self.since)
        self.recent = [*self.recent, *self.pending][-self.config.recent :]
        self._recent = [*self._recent, *block][-self.config.recent :]
        self.seen += len(self.pending)
        self._learn_effect(block)
        self.pending, self.pending_at = [], []
        if len(self.recent) >= self.config.warm and self.seen >= self.config.every:
            self._learned_from, self.seen = self.recent, 0
            self._witness = style_bets.learn(self.reference, self._recent)
        return self.evidence >= -float(np.log10(self.config.alpha))

    def forget(self) -> None:
        """Start over against the same reference."""
        self.capitals = style_bets.start(WIDTH)
        self.recent, self._recent, self.pending, self.pending_at, self.seen = [], [], [], [], 0
        self._learned_from = self._witness = None

    def _block_length(self) -> int:
        longer = round(4 * self.effect) if self.effect > 1.5 else 0
        return min(max(self.config.block, longer), self.config.longest_block)

    def _style(self, one: tuple[bytes, int, int]) -> Style:
        vector, stratum, group = one
        return self.reference.place(np.frombuffer(vector, np.int8) / LEVELS, stratum, group)

    def _learn_effect(self, block: Sequence[Style]) -> None:
        rows = np.array([style.ranks for style in block], np.float32)
        self.history = np.concatenate([self.history, rows])[-_FRESH - _OLDER :]
        before, self.judged = self.judged, self.judged + len(block)
        if self.judged // _LEARN_EVERY > before // _LEARN_EVERY and self.is_undisturbed:
            self.effect = style_bets.dependence(self.history[:-_FRESH].astype(np.float64))

    def save(self) -> SavedStyles:
        """Return the state that cannot be derived from the reference."""
        return SavedStyles(
            self.strata,
            self.capitals.tobytes(),
            self.since.tolist(),
            self.effect,
            self.judged,
            self.seen,
            self.recent,
            self.pending,
            self.pending_at,
            self.history.tobytes(),
            self._learned_from,
        )

    @staticmethod
    def load(saved: SavedStyles, config: StyleConfig, strata: Sequence[Stratum]) -> StyleLevel:
        """Inverse of ``save``; ``strata`` are the same."""
        level = StyleLevel(config, strata)
        level.capitals = np.frombuffer(saved.capitals).reshape(level.capitals.shape).copy()
        level.since = np.array(saved.since, np.int64)
        level.effect, level.judged, level.seen = saved.effect, saved.judged, saved.seen
        level.recent, level.pending, level.pending_at = saved.recent, saved.pending, saved.pending_at
        level.history = np.frombuffer(saved.history, np.float32).reshape(-1, WIDTH)
        level._recent = [level._style(one) for one in saved.recent]
        if saved.learned_from is not None:
            level._learned_from = saved.learned_from
            level._witness = style_bets.learn(level.reference, [level._style(one) for one in saved.learned_from])
        return level
