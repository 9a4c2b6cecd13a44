"""The test of ``per_call``: are the calls of a minute more like the usual, or like the usual times a lift? Pure.

The tokens of a call have heavy tails, so a mean of ten calls is weak evidence, and a likelihood ratio of their
logarithms is strong evidence. The density under "nothing has changed" is that of the calls learned, on a scale of
logarithms, with every call spread over the bins around it (a kernel estimate, Silverman 1986). The density under
"risen" is the same, moved by a lift, for most calls or for a fifth of them. One call counts at most ``CAP``: a single
one proves nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.per_call_state import BINS, LOG_GAMMA, SHARES, SHIFTS, TESTS, K
from pipelines.detect.side import Matrix
from pipelines.detect.windows import Floats

CAP = 3.0
"""Most evidence of one call."""
NEAR, FAR = 1.5, 6.0
"""Bins over which a call learned is spread, as a normal and, for a part of it, as a Laplace distribution."""
IN_TAIL = 0.1
PRIOR_CALLS = 10.0
"""Calls that the density of the whole app counts in that of a series."""
FLOOR = 1e-5
"""Least density of a bin."""
_REACH = 24
_AT = np.arange(-_REACH, _REACH + 1)


def _kernel() -> Floats:
    near, far = np.exp(-0.5 * (_AT / NEAR) ** 2), np.exp(-np.abs(_AT) / FAR)
    found: Floats = (1 - IN_TAIL) * near / near.sum() + IN_TAIL * far / far.sum()
    return found


_KERNEL = _kernel().tolist()


def densities(learned: NDArray[np.float32], app: int) -> Floats:
    """(series, K, BINS) calls learned -> their density; ``app`` is the row of the whole app."""
    padded = np.zeros((*learned.shape[:-1], BINS + 2 * _REACH))
    padded[..., _REACH : _REACH + BINS] = learned
    out = np.zeros(learned.shape)
    for at, weight in enumerate(_KERNEL):
        out += weight * padded[..., at : at + BINS]
    total = learned.sum(axis=-1, dtype=float)[..., None]
    out += PRIOR_CALLS * out[app] / np.maximum(total[app], 1.0)
    found: Floats = np.maximum(out / (total + PRIOR_CALLS), FLOOR)
    return found


def gains(density: Floats, parts: tuple[Matrix, Matrix, Matrix, Floats], known: Matrix, minutes: int = 1) -> Floats:
    """(minutes, series, K, TESTS): the log of each likelihood ratio of the calls of each minute.

    Args:
        density: of ``densities``.
        parts: of ``binned``; the series of each minute are numbered apart.
        known: (series, K) bins by which calls were higher at times; calls that are usual after this are no evidence.
        minutes: how many there are.
    """
    numbers, measure, bins, calls = parts
    series, rows = numbers % max(len(density), 1), minutes * len(density)
    out = np.zeros((rows * K, TESTS))
    usual, most = density[series, measure, bins], known[series, measure]
    for part in (0.25, 0.5, 0.75, 1.0):
        moved = np.round(part * most).astype(np.int64)
        usual = np.maximum(usual, density[series, measure, np.maximum(bins - moved, 0)])
    test = 0
    for shift in SHIFTS.tolist():
        risen = np.where(bins >= shift, density[series, measure, np.maximum(bins - shift, 0)], FLOOR)
        for share in SHARES:
            gain = calls * np.minimum(np.log(1 - share + share * risen / usual), CAP)
            out[:, test] = np.bincount(numbers * K + measure, weights=gain, minlength=rows * K)[: rows * K]
            test += 1
    return out.reshape(minutes, len(density), K, TESTS)


def dispersions(density: Floats) -> Floats:
    """(series, K): variance over squared mean of the value of a call, plus 1: what one call adds to a sum."""
    value = np.exp(np.arange(BINS) * LOG_GAMMA)
    value = np.minimum(value, 1e12)
    mean = (density * value).sum(axis=-1)
    found: Floats = (density * value**2).sum(axis=-1) / np.maximum(mean**2, 1e-12)
    return found
