"""Wilson's confidence interval of a proportion."""

from __future__ import annotations

import math

Z95 = 1.96


def wilson(hits: float, total: int, z: float = Z95, spread: float = 1.0) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); (0, 1) where nothing was counted.

    Args:
        hits: of ``total``.
        total: what was counted.
        z: standard deviations; 1.96 is a level of 95 %.
        spread: overdispersion of the counts, 1 where they are independent of each other.
    """
    n = total / spread
    if n <= 0:
        return 0.0, 1.0
    p, z2 = hits / total, z * z
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
