"""Which dimension value explains how much of a change, from the app's own series.

After Bhagwan et al., Adtributor (NSDI 2014): an explanation needs explanatory power (its share of the change) and
surprise (that share is far from its share of what was normal). A value that always made up three quarters of the
traffic and makes up three quarters of the rise explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.alerts import Cause
from schemas.rollups import OTHER, series_pairs

POWER = 0.67
"""Least share of the change that a single value must explain to name the incident."""
SURPRISE = 0.5
"""Least power x (1 - normal share)."""
TIE = 0.05
ORDER = (
    "user",
    "feature",
    "prompt_version",
    "release",
    "variant",
    "model",
    "response_model",
    "provider",
    "tenant",
    "team",
)
"""Of two values that explain a change equally well the first is named."""


@dataclass(frozen=True)
class Explained:
    """The place that names the incident, and the ranked causes."""

    place: int
    causes: tuple[Cause, ...]


def explain(
    names: Sequence[str],
    excess: NDArray[np.float64],
    normal: NDArray[np.float64],
    *,
    app: int,
    trigger: int,
    limit: int = 5,
) -> Explained:
    """Find the smallest series that explains the change.

    Args:
        names: series as JSON, by place.
        excess: (places,) what each has beyond its expectation.
        normal: (places,) share of the app's normal volume, 0..1.
        app: place of the app's own series.
        trigger: place that rang; the change is at least its excess.
        limit: how many causes to return.
    """
    change = max(float(excess[app]), float(excess[trigger]), 1e-12)
    power = np.clip(excess / change, 0.0, 1.0)
    surprise = power * (1.0 - np.clip(normal, 0.0, 1.0))
    surprise[app] = 0.0
    for place in map(int, np.flatnonzero(power >= 0.1)):
        if OTHER in list(series_pairs(names[place]).values())[1:]:
            surprise[place] = 0.0
    strong = [int(p) for p in np.flatnonzero((power >= POWER) & (surprise >= SURPRISE))]
    best = app
    if strong:
        top = max(surprise[p] for p in strong)
        best = min((p for p in strong if surprise[p] >= top - TIE), key=lambda p: _order(names[p]))
    told = map(int, np.flatnonzero(surprise >= 0.2))
    ranked = sorted(told, key=lambda p: (p != best, -surprise[p], _order(names[p])))
    return Explained(best, tuple(_cause(names[p], float(power[p]), float(normal[p])) for p in ranked[:limit]))


def _order(name: str) -> tuple[int, list[int], str]:
    dims = list(series_pairs(name))[1:]
    return len(dims), [ORDER.index(d) if d in ORDER else len(ORDER) for d in dims], name


def _cause(name: str, power: float, normal: float) -> Cause:
    pairs = dict(list(series_pairs(name).items())[1:])
    dimension, value = ",".join(pairs), ",".join(pairs.values())
    before = f"{normal:.0%} of the normal volume" if normal >= 0.005 else "next to nothing before"
    return Cause(dimension, value, round(power, 4), f"{dimension} {value}: {power:.0%} of the rise, {before}")
