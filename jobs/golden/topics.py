"""Topics of live traffic: regions of the embeddings of a random sample of calls, and the share that each has. Pure.

A golden set covers the topics in proportion to their traffic, with a case each for the rare ones (stratified sampling,
W. Cochran, "Sampling Techniques", 1977, ch. 5). Topics have no names, and no ids that survive a refresh: the next
refresh computes them from its own sample of the traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.drift.regions import kmeans
from pipelines.drift.vectors import Floats

FEWEST = 100
"""Texts of the sample below which no topics are made."""
SAME = 0.95
"""Cosine from which two texts are the same question in other words (bench/golden)."""
NEAR = 0.55
"""Cosine from which two texts are about the same subject.

On real questions (bench/golden) three quarters of the cases of
topics that ended have no such neighbour among 3,000 calls, and one in twenty of the others."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Vectors = Callable[[Sequence[str]], Floats]
"""Texts to (n, d) float32 of unit norm; raises EmbedderUnavailableError."""


@dataclass(frozen=True)
class Topics:
    """What calls are about."""

    traffic: Floats
    """(n, d) of the sample."""
    distinct: Floats
    """(m, d) of the sample, each text once: paraphrases count once."""
    centres: Floats
    """(k, d)."""
    shares: npt.NDArray[np.float64]
    """(k,) of the sample; sum 1."""
    vectors: Vectors

    def of(self, vectors: Floats) -> Ints:
        """Return the topic of each of ``vectors`` (n, d)."""
        found: Ints = (vectors @ self.centres.T).argmax(axis=1).astype(np.int64)
        return found

    def live(self, vectors: Floats) -> Flags:
        """Return which of ``vectors`` (n, d) a call of the sample asks about.

        Where it is false for one of 3,000 drawn calls, at most one call in a thousand is about it, with 95 % confidence
        (the rule of three).
        """
        found: Flags = (vectors @ self.traffic.T).max(axis=1, initial=-1.0) >= NEAR
        return found

    def covered(self, vectors: Floats) -> float:
        """Return the share of the traffic whose topic has one of ``vectors`` (n, d)."""
        return float(self.shares[np.unique(self.of(vectors))].sum()) if len(vectors) else 0.0


def topics(texts: Sequence[str], vectors: Vectors, *, size: int) -> Topics | None:
    """Return the topics of a sample of calls; None where the sample is too small.

    Args:
        texts: what was asked in each call of the sample.
        vectors: embeds texts.
        size: of the golden set: there are at most a quarter as many topics, so that each gets some cases.

    Raises:
        EmbedderUnavailableError: the model does not answer.
    """
    if len(texts) < FEWEST:
        return None
    traffic = vectors(texts)
    centres = kmeans(traffic, max(1, min(size // 4, len(texts) // 10)))
    shares = np.bincount((traffic @ centres.T).argmax(axis=1), minlength=len(centres)) / len(texts)
    return Topics(traffic, _distinct(traffic), centres, shares, vectors)


def _distinct(vectors: Floats) -> Floats:
    """Return ``vectors`` (n, d) without those that ask the same as an earlier one: (m, d)."""
    left = np.ones(len(vectors), dtype=np.bool_)
    kept = []
    for i, vector in enumerate(vectors):
        if left[i]:
            kept.append(i)
            left[i:] &= vectors[i:] @ vector < SAME
    return vectors[kept]
