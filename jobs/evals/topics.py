"""Topics of an app's calls as strata: clusters of the vectors that drift made of the prompts. Pure.

The clusters are those of drift (``pipelines.drift.regions.kmeans``), of the same week's vectors. A rare topic is a
stratum with a floor then, so that its failures are seen. Calls without a vector are strata by themselves, as before.
"""

from __future__ import annotations

import numpy as np

from pipelines.drift.regions import Ints, kmeans
from pipelines.drift.vectors import Bytes

MOST = 8
"""Topics of an app: each group of calls is split by them, and strata should hold 30 calls."""
_LEAST = 50
"""Calls with vectors for each topic; an app with fewer than twice as many is not split."""


def topics(vectors: Bytes) -> Ints:
    """Return (n,) the number of the topic of each of ``vectors`` (n, d) int8; all 0 where there are too few."""
    k = min(MOST, len(vectors) // _LEAST)
    if k < 2:
        return np.zeros(len(vectors), np.int64)
    rows = vectors.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    return np.asarray((unit @ kmeans(unit, k).T).argmax(axis=1), np.int64)
