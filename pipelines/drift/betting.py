"""Evidence that grows as it comes in: bets against "this share of the texts has not grown".

Each component bets that one region of the space of texts holds more of the traffic than its reference allows. If it
does not, the capital of a bet is a supermartingale; taking ``max(capital, 1)`` before every bet turns it into an
e-detector, whose mean over all components crosses ``1 / alpha`` on average not before ``1 / alpha`` blocks, however
often one looks. Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B
2024, arXiv 2010.09686); Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection" (arXiv 2203.03532), theorem 2.4 on average run length, section 4 on mixtures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

STAKES = np.array([0.05, 0.15, 0.4, 0.8])
"""Shares of the greatest stake that cannot ruin; a mixture, as the size of the shift is not known beforehand."""
_CEILING = 1e60


def initial_capitals(components: int, stakes: Doubles = STAKES) -> Doubles:
    """Capitals before the first bet: (components, stakes) of ones."""
    return np.ones((components, len(stakes)))


def bet(capitals: Doubles, observed: Doubles, allowed: Doubles, stakes: Doubles = STAKES) -> Doubles:
    """Stake on ``observed > allowed`` once per component.

    Args:
        capitals: (components, stakes), before this block.
        observed: (components,) share of the block inside each region, in [0, 1]. The texts of a block may depend on
            each other in any way: one bet is on their mean.
        allowed: (components,) greatest expected share under the null, in (0, 1), fixed before the block was seen.
        stakes: (stakes,) shares of the greatest stake that cannot ruin, in (0, 1).
    """
    gains = 1.0 + stakes[None, :] * ((observed - allowed) / allowed)[:, None]
    out: Doubles = np.minimum(np.maximum(capitals, 1.0) * gains, _CEILING)
    return out


def log10_evidence(capitals: Doubles) -> float:
    """Evidence of the whole mixture, as a power of ten: an alarm at ``-log10(alpha)``."""
    return float(np.log10(capitals.mean()))
