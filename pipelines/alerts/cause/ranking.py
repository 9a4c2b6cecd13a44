"""Which dimension values explain how much of a change, from the series of the app.

After Bhagwan et al., Adtributor (NSDI 2014): an explanation needs explanatory power (its share of the change) and
surprise (that share is far from its share of what was normal). A value that always made up three quarters of the
traffic and makes up three quarters of the rise explains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.alerts.cause.words import series_words
from schemas.alerts import Cause
from schemas.rollups import OTHER, series_pairs

POWER = 0.67
"""Least share of the change that a single value must explain to name the incident."""
SURPRISE = 0.5
"""Least power x (1 - normal share)."""
TIE = 0.05
EXPLAINED = 0.8
"""Least share of the change that the named values explain together."""
MOST_NAMED = 3
"""Values that are named at most: (dimension = value) parts, so one pair of dimensions is two of them."""
CLEARER = 0.1
"""Surprise by which later causes must exceed the emitted ones before they are emitted in an update."""
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
    places: tuple[int, ...] = ()
    """Place of each cause."""
    named: tuple[int, ...] = ()
    """Places of the smallest set that explains EXPLAINED of the change; empty = broad."""


def explain(
    names: Sequence[str],
    excess: NDArray[np.float64],
    normal: NDArray[np.float64],
    *,
    app: int,
    trigger: int,
    limit: int = 5,
    enough: NDArray[np.bool_] | None = None,
) -> Explained:
    """Find the smallest series that explains the change.

    Args:
        names: series as JSON, by place.
        excess: (places,) what each has beyond its expectation.
        normal: (places,) share of the app's normal volume, 0..1.
        app: place of the app's own series.
        trigger: place that breached; the change is at least its excess.
        limit: how many causes to return.
        enough: (places,) which have calls enough to be named; None = all.
    """
    change = max(float(excess[app]), float(excess[trigger]), 1e-12)
    power = np.clip(excess / change, 0.0, 1.0)
    if enough is not None:
        power = np.where(enough, power, 0.0)
    power[[p for p in map(int, np.flatnonzero(power >= 0.1)) if OTHER in list(series_pairs(names[p]).values())[1:]]] = 0
    surprise = power * (1.0 - np.clip(normal, 0.0, 1.0))
    surprise[app] = 0.0
    strong = [int(p) for p in np.flatnonzero((power >= POWER) & (surprise >= SURPRISE))]
    best = app
    if strong:
        top = max(surprise[p] for p in strong)
        best = min((p for p in strong if surprise[p] >= top - TIE), key=lambda p: _order(names[p]))
    named = smallest(names, power, normal, app=app)
    shown = set(map(int, np.flatnonzero(surprise >= 0.2))) | set(named)
    ranked = sorted(shown, key=lambda p: (p not in named, p != best, -surprise[p], _order(names[p])))[:limit]
    causes = tuple(_cause(names[p], float(power[p]), float(normal[p]), named=p in named) for p in ranked)
    return Explained(best, causes, tuple(ranked), named)


def smallest(
    names: Sequence[str], power: NDArray[np.float64], normal: NDArray[np.float64], *, app: int
) -> tuple[int, ...]:
    """Return the places of the smallest set of values of one dimension that explains EXPLAINED of the change.

    Of sets of one size the most surprising is taken; within TIE of it the one with the fewest dimensions, then the
    first in ORDER. A pair of dimensions is named where it explains the change better than either of them.

    Args:
        names: series as JSON, by place.
        power: (places,) share of the change, 0 where a value may not be named.
        normal: (places,) share of the app's normal volume.
        app: place of the app's own series, which is never named.
    """
    # of values that explain less than a third of what is missing, three do not explain it
    able = [p for p in map(int, np.flatnonzero(power > 0)) if p != app]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place in sorted(able, key=lambda p: -power[p])[:_MOST_LOOKED_AT]:
        groups.setdefault(tuple(series_pairs(names[place]))[1:], []).append(place)
    found: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
    for dimensions, places in groups.items():
        shares = np.cumsum(power[places])
        for size in range(1, MOST_NAMED // len(dimensions) + 1 if dimensions else 0):
            if size <= len(places) and shares[size - 1] >= EXPLAINED:
                chosen = tuple(places[:size])
                surprise = min(float(shares[size - 1]), 1.0) * (1.0 - min(float(normal[list(chosen)].sum()), 1.0))
                if surprise >= SURPRISE:
                    found.setdefault(size, []).append((surprise, chosen))
                break
    if not found:
        return ()
    sets = found[min(found)]
    top = max(surprise for surprise, _ in sets)
    return min((s for surprise, s in sets if surprise >= top - TIE), key=lambda s: _order(names[s[0]]))


_MOST_LOOKED_AT = 64
"""Series with the largest shares among which a set is looked for."""


def surprise_of(causes: Iterable[Cause]) -> float:
    """How well the named causes explain the change; 0 where nothing is named."""
    causes = tuple(causes)
    named = [c for c in causes if c.named]
    if not named and causes and causes[0].normal is None:  # emitted by a version that did not mark them
        named = list(causes[:1])
    return min(sum(c.share for c in named), 1.0) * (1.0 - min(sum(c.normal or 0.0 for c in named), 1.0))


def is_clearer(later: Sequence[Cause], emitted: Sequence[Cause]) -> bool:
    """Whether ``later`` names a cause that the ``emitted`` ones did not, or another one that explains much more."""
    return any(c.named for c in later) and surprise_of(later) > surprise_of(emitted) + CLEARER


def _order(name: str) -> tuple[int, list[int], str]:
    dims = list(series_pairs(name))[1:]
    return len(dims), [ORDER.index(d) if d in ORDER else len(ORDER) for d in dims], name


def _cause(name: str, power: float, normal: float, *, named: bool) -> Cause:
    pairs = dict(list(series_pairs(name).items())[1:])
    dimension, value = ",".join(pairs), ",".join(pairs.values())
    text = series_words(dimension, value, power, normal)
    return Cause(dimension, value, round(power, 4), text, named=named, normal=round(normal, 4))
