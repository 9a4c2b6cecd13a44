"""How well a score, or a verdict, tells positives from negatives."""

from __future__ import annotations

import numpy as np


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive has the higher score; ties count half (Mann-Whitney)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ones = positive.sum()
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones)))


def accuracy(positive: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """Precision and recall of what is ``called``."""
    hits = int((positive & called).sum())
    return {
        "precision": round(hits / max(int(called.sum()), 1), 3),
        "recall": round(hits / max(int(positive.sum()), 1), 3),
    }
