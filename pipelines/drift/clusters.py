"""Which topics grew or shrank, with real texts that show them.

The texts before and after are clustered together; the cluster that gained most becomes a cosine ball around one vector,
whose share can be counted again in SQL over ``embeddings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.drift.betting import Doubles
from pipelines.drift.points import Point
from pipelines.drift.regions import Ints, kmeans
from pipelines.drift.vectors import Bytes, Floats

EXEMPLARS = 5
_CLUSTERS = 10


@dataclass(frozen=True)
class Topic:
    """One cluster of the pooled texts."""

    before: float
    after: float
    """Shares of the reference and of the window."""
    nearest: tuple[int, ...]
    """Indices of the texts nearest its centre: in the window where it grew, in the reference where it shrank."""
    centre: Floats


@dataclass(frozen=True)
class CosineBall:
    """The texts around one vector: cosine to ``centre`` at least ``least``."""

    centre: tuple[int, ...]
    """int8 values; only the direction counts."""
    least: float

    def holds(self, vectors: Bytes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of ``vectors`` (n, d) int8 lie inside; scales cancel out."""
        return cosines(vectors, np.array(self.centre, dtype=np.int8)) >= self.least


@dataclass(frozen=True)
class HalfSpace:
    """The texts on one side of a plane: the sum of ``weights`` times their bytes is at least ``least``."""

    weights: tuple[int, ...]
    least: float

    def holds(self, vectors: Bytes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of ``vectors`` (n, d) int8 lie on that side; whole numbers, so that rounding cannot change it."""
        return vectors.astype(np.int64) @ np.array(self.weights, dtype=np.int64) >= self.least


def cosines(vectors: Bytes, centre: Bytes) -> Doubles:
    """Cosine of each row to ``centre``, in doubles: as DuckDB's list_cosine_similarity does it."""
    rows = vectors.astype(np.float64)
    one = centre.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    out: Doubles = rows @ one / np.where(norms > 0, norms, 1.0)
    return out


def topics(before: Floats, after: Floats, weights: Doubles) -> list[Topic]:
    """Cluster both together and return the topics, the most grown first.

    Args:
        before: (n, d) reference.
        after: (m, d) window.
        weights: (n,) of the reference, so that a mere change of mix is no growth; sum 1.
    """
    all_texts = np.concatenate([before, after])
    centres = kmeans(all_texts, min(_CLUSTERS, max(2, len(all_texts) // 12)))
    old, new = (before @ centres.T).argmax(axis=1), (after @ centres.T).argmax(axis=1)
    out = []
    for c, centre in enumerate(centres):
        share = float(weights[old == c].sum()), float((new == c).mean())
        source, label = (after, new) if share[1] >= share[0] else (before, old)
        rows = np.flatnonzero(label == c)
        order = rows[np.argsort(-(source[rows] @ centre), kind="stable")]
        out.append(Topic(*share, tuple(int(i) for i in order[:EXEMPLARS]), centre))
    return sorted(out, key=lambda t: t.before - t.after)


def ball(grown: Topic, before: Bytes, after: Bytes, weights: Doubles) -> CosineBall:
    """Return the cosine ball around ``grown`` whose share in ``after`` exceeds that in ``before`` the most.

    The limit is in the middle of a gap between two texts, so that rounding cannot change the result.
    """
    centre = np.rint(grown.centre / max(float(np.abs(grown.centre).max()), 1e-9) * 127).astype(np.int8)
    old, new = cosines(before, centre), cosines(after, centre)
    values = np.unique(np.concatenate([old, new, [1.0]]).round(9))
    limits = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    limits = limits[np.diff(values, prepend=values[0])[1:] > 1e-6] if len(values) > 1 else limits
    if not len(limits):
        limits = values - 1e-3
    gain = [float((new >= t).mean() - weights[old >= t].sum()) for t in limits]
    return CosineBall(tuple(int(v) for v in centre), round(float(limits[int(np.argmax(gain))]), 9))


def short(text: str, limit: int = 80) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def matrix(points: Sequence[Point]) -> Bytes:
    """int8 vectors of ``points``: (n, d)."""
    return np.stack([np.frombuffer(p.vector, dtype=np.int8) for p in points])


def mix_weights(before: Ints, after: Ints) -> Doubles:
    """Weights of the reference that give its strata the shares they have in the window: (n,), sum 1."""
    sizes = np.bincount(before)
    now = np.bincount(after, minlength=len(sizes))[: len(sizes)]
    weights = (now / np.maximum(sizes, 1))[before].astype(np.float64)
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(before), 1.0 / max(len(before), 1))
