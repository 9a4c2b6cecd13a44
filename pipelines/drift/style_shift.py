"""What changed in the style of answers: in which slice, which numbers moved, and the SQL that counts it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.drift.betting import Doubles
from pipelines.drift.clusters import HalfSpace, matrix, mix_weights
from pipelines.drift.incident import Shift
from pipelines.drift.points import Point
from pipelines.drift.region_sql import region_sql
from pipelines.drift.regions import Ints
from pipelines.drift.style import FEATURES, positions
from pipelines.drift.topic_shift import confined_to
from schemas.alerts import Cause

_NAMED, _CALLS = 3, 5
_LEAST_EFFECT = 0.25
"""Standard deviations from which a number is named; the one that moved most always is."""
_GREW = 0.6
"""Share of the growth from which a tenant or user is named."""


def describe(
    window: Sequence[Point],
    strata: Ints,
    normal: Sequence[Point],
    old: Ints,
    *,
    named: Sequence[str | None],
    confined: float,
    within: str | None = None,
) -> Shift:
    """Find what moved between ``normal`` and ``window`` (both not empty).

    Args:
        window: answers since the onset, in order; ``strata`` has the stratum of each.
        strata: (m,), ids as in ``old``.
        normal: the answers of the reference.
        old: (n,) stratum of each of ``normal``.
        named: the feature of each stratum; None where it is not a single feature.
        confined: a feature with at least this share of the growth gives the alert its series.
        within: the feature all of ``window`` is from, where the alarm is its own.
    """
    before, after, weights = matrix(normal), matrix(window), mix_weights(old, strata)
    space = _half_space(positions(before), positions(after), weights)
    inside, was = space.holds(after), space.holds(before)
    feature = confined_to(inside, was, strata, old, named, confined) if within is None else None
    if feature is not None:
        number = named.index(feature)
        kept = [p for p, s in zip(window, strata.tolist(), strict=True) if s == number]
        usual = [p for p, s in zip(normal, old.tolist(), strict=True) if s == number]
        none = np.zeros(len(kept), np.int64), np.zeros(len(usual), np.int64)
        return describe(kept, none[0], usual, none[1], named=[feature], confined=confined, within=feature)
    hits = [p for p, i in zip(window, inside, strict=True) if i]
    far = np.argsort(-(after.astype(np.int64) @ np.array(space.weights)), kind="stable")[:_CALLS]
    users = {p.user for p in hits if p.user is not None}
    causes = [
        cause
        for dimension in ("feature", "tenant", "user")
        if (cause := _who(dimension, window, inside, normal, was)) is not None
        and not (dimension == "feature" and within is not None)
    ]
    return Shift(
        within,
        space.weights,
        space.least,
        len(hits) / len(window),
        float(weights[was].sum()),
        (*causes, *_moved(positions(before), positions(after), weights)),
        tuple(window[i].call_id for i in far),
        region_sql(space, window, within),
        min(p.ts for p in window),
        max(p.ts for p in window) + 1,
        round(sum(1 / p.rate if p.rate > 0 else 1 for p in hits)),
        len(users) if users else None,
        linear=True,
    )


def _half_space(before: Doubles, after: Doubles, weights: Doubles) -> HalfSpace:
    """Return the half-space whose share in ``after`` exceeds that in ``before`` the most, by Fisher's direction."""
    mean = weights @ before
    centred = before - mean
    covariance = (centred * weights[:, None]).T @ centred
    covariance += np.diag(0.2 * np.diag(covariance) + 1e-4)
    direction = np.linalg.solve(covariance, after.mean(axis=0) - mean)
    direction = np.rint(direction / max(float(np.abs(direction).max()), 1e-12) * 127).astype(np.int64)
    old, new = (np.rint(127 * rows).astype(np.int64) @ direction for rows in (before, after))
    limits = np.unique(np.concatenate([old, new]))
    gain = [float((new >= limit).mean() - weights[old >= limit].sum()) for limit in limits]
    return HalfSpace(tuple(direction.tolist()), float(limits[int(np.argmax(gain))]))


def _moved(before: Doubles, after: Doubles, weights: Doubles) -> list[Cause]:
    """Name the numbers that moved most, with their typical values."""
    mean = weights @ before
    spread = np.sqrt(weights @ (before - mean) ** 2) + 0.01
    effect = (after.mean(axis=0) - mean) / spread
    found = list[Cause]()
    for i in np.argsort(-np.abs(effect), kind="stable")[:_NAMED].tolist():
        if found and abs(effect[i]) < _LEAST_EFFECT:
            break
        name, feature = list(FEATURES.items())[i]
        was, now = feature.restore(float(mean[i])), feature.restore(float(after[:, i].mean()))
        text = f"{feature.words}: typically {was:.3g} -> {now:.3g} ({effect[i]:+.1f} standard deviations)"
        found.append(Cause("style", name, 0.0, text))
    return found


def _who(
    dimension: str, window: Sequence[Point], inside: np.ndarray, normal: Sequence[Point], was: np.ndarray
) -> Cause | None:
    """Name the value that has most of the growth, where it is not most of the answers anyway."""
    now, before = ([getattr(p, dimension) for p in points] for points in (window, normal))
    usual = float(was.mean())
    growth = {}
    for value in sorted({v for v in now if v is not None}):
        mine = np.array([v == value for v in now])
        old = np.array([v == value for v in before])
        share = (float(was[old].sum()) + 10 * usual) / (old.sum() + 10)
        growth[value] = float(inside[mine].sum()) - share * mine.sum()
    total = sum(max(gain, 0.0) for gain in growth.values())
    if not growth or total <= 0:
        return None
    value = max(growth, key=lambda v: growth[v])
    share, calls = growth[value] / total, now.count(value) / len(now)
    if share < _GREW or share < calls + 0.1:
        return None
    return Cause(
        dimension, value, round(share, 3), f"{dimension} {value}: {share:.0%} of the change, {calls:.0%} calls"
    )
