"""State of ``cache`` for one app: learned shares, and the evidence against them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.minute import MinuteState, no_rows
from pipelines.detect.side import CODE, Matrix
from pipelines.detect.windows import Floats

FAMILY = "cache"
READ = ("calls", "input_tokens", "cache_read_tokens", "cache_saved_nanousd", "saved_known_calls")
CODES = [CODE[name] for name in READ]
CALLS, INPUT, CACHED, SAVED, KNOWN = range(len(READ))
LIFTS = (2.0, 4.0, 10.0, 30.0)
"""Of the odds that a token is not served from the cache."""
SUMS = len(READ)
ARRAYS: dict[str, tuple[int, ...]] = {
    "learned": (SUMS,),
    "held": (SUMS,),
    "spread": (2,),
    "held_spread": (2,),
    "held_minutes": (),
    "log": (len(LIFTS),),
    "onset": (len(LIFTS),),
    "run": (len(LIFTS), SUMS),
    "found": (),
}


@dataclass
class CacheState(MinuteState):
    """Learned shares and the evidence against them; arrays are (series of ``Windows.side``, ...)."""

    learned: Floats = field(default_factory=lambda: no_rows(SUMS))
    held: Floats = field(default_factory=lambda: no_rows(SUMS))
    """Minutes that are not learned yet."""
    spread: Floats = field(default_factory=lambda: no_rows(2))
    """Sum of the squared distances of minutes from the learned share, in variances; minutes in it."""
    held_spread: Floats = field(default_factory=lambda: no_rows(2))
    held_minutes: Floats = field(default_factory=lambda: no_rows())
    log: Floats = field(default_factory=lambda: no_rows(len(LIFTS)))
    onset: Matrix = field(default_factory=lambda: np.zeros((0, len(LIFTS)), np.int64))
    run: Floats = field(default_factory=lambda: no_rows(len(LIFTS), SUMS))
    found: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Whether the last minute left evidence enough."""
    muted: list[tuple[str, int, int]] = field(default_factory=list)
    """Family, start and end of incidents, which are not learned."""


def usable(sums: Floats) -> Floats:
    """Calls of rows with input tokens."""
    calls: Floats = np.where(sums[..., INPUT] > 0, sums[..., CALLS], 0.0)
    return calls


def missed(sums: Floats) -> Floats:
    """Calls times the share of their input tokens that was not served."""
    found: Floats = usable(sums) * (1 - np.clip(sums[..., CACHED] / np.maximum(sums[..., INPUT], 1.0), 0.0, 1.0))
    return found


def usd_lost(learned: Floats, run: Floats) -> Floats:
    """USD that the cache would have saved at the learned rate and did not; NaN where a price is not known."""
    usual = learned[:, SAVED] / np.maximum(learned[:, INPUT], 1.0)
    lost = (usual * run[:, INPUT] - run[:, SAVED]) / 1e9
    known = (run[:, KNOWN] >= run[:, CALLS]) & (learned[:, KNOWN] >= 0.5 * learned[:, CALLS]) & (usual > 0)
    out: Floats = np.where(known, lost, np.nan)
    return out
