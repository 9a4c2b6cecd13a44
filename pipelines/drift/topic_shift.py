"""What changed in the topics of texts: the topic that grew, in which slice, and who brings its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.drift.clusters import Topic, ball, matrix, mix_weights, short, topics
from pipelines.drift.features import FEATURES, moved
from pipelines.drift.incident import Shift
from pipelines.drift.points import Point
from pipelines.drift.region_sql import region_sql
from pipelines.drift.regions import Ints, Reference
from pipelines.drift.vectors import restore
from schemas.alerts import Cause

_NAMED = 3


def describe(
    window: Sequence[Point],
    strata: Ints,
    reference: Reference,
    normal: Sequence[Point],
    *,
    named: Sequence[str | None],
    confined: float,
    within: str | None = None,
) -> Shift:
    """Find what moved between ``normal`` and ``window`` (both not empty).

    Args:
        window: texts since the onset, in order; ``strata`` has the stratum of each.
        strata: (m,), ids as in ``reference``.
        reference: the vectors of ``normal``.
        normal: the texts of the reference.
        named: the feature of each stratum; None where it is not a single feature.
        confined: a feature with at least this share of the growth gives the alert its series.
        within: the feature all of ``window`` is from, where the alarm is its own.
    """
    before, after = matrix(normal), matrix(window)
    weights = mix_weights(reference.strata, strata)
    unit = restore(after, np.array([p.scale for p in window], dtype=np.float32))
    found = topics(reference.vectors, unit, weights)
    grown = ball(found[0], before, after, weights)
    inside, was = grown.holds(after), grown.holds(before)
    feature = within or confined_to(inside, was, strata, reference.strata, named, confined)
    scope = np.ones(len(window), dtype=bool) if feature is None else strata == named.index(feature)
    kept = [p for p, s in zip(window, scope, strict=True) if s]
    hits = [p for p, s, i in zip(window, scope, inside, strict=True) if s and i]
    mask = np.ones(len(normal)) if feature is None else (reference.strata == named.index(feature)).astype(float)
    share = weights * mask
    share = share / share.sum() if share.sum() > 0 else weights
    causes = _causes(found, window, normal, (kept, hits), whole_app=feature is None)
    nearest = [window[i].call_id for i in found[0].nearest if scope[i]]
    users = {p.user for p in hits if p.user is not None}
    return Shift(
        feature,
        grown.centre,
        grown.least,
        len(hits) / len(kept),
        float(share[was].sum()),
        causes,
        tuple(nearest),
        region_sql(grown, kept, feature),
        min(p.ts for p in kept),
        max(p.ts for p in kept) + 1,
        round(sum(1 / p.rate if p.rate > 0 else 1 for p in hits)),
        len(users) if users else None,
    )


def confined_to(
    inside: np.ndarray[tuple[int], np.dtype[np.bool_]],
    was: np.ndarray[tuple[int], np.dtype[np.bool_]],
    strata: Ints,
    old: Ints,
    named: Sequence[str | None],
    confined: float,
) -> str | None:
    """The feature that holds ``confined`` of the growth, where there is more than one to choose from."""
    if len(named) < 2:
        return None
    growth = np.array(
        [float(inside[strata == s].sum()) - (strata == s).sum() * was[old == s].mean() for s in range(len(named))]
    )
    gains = np.maximum(growth, 0.0)
    best = int(gains.argmax())
    return named[best] if gains.sum() > 0 and gains[best] / gains.sum() >= confined else None


def _causes(
    found: Sequence[Topic],
    window: Sequence[Point],
    normal: Sequence[Point],
    texts: tuple[Sequence[Point], Sequence[Point]],
    *,
    whole_app: bool,
) -> tuple[Cause, ...]:
    """Topics that grew, who brings their texts, and what changed in the style; ``texts``: in scope, in the topic."""
    kept, hits = texts
    causes = _topics(found, window, normal)
    if whole_app:
        causes += _who("feature", [p.feature for p in hits], [p.feature for p in kept])
    causes += _who("tenant", [p.tenant for p in hits], [p.tenant for p in kept])
    causes += _who("user", [p.user for p in hits], [p.user for p in kept])
    return tuple(causes + _style([p.text for p in normal], [p.text for p in kept]))


def _topics(found: Sequence[Topic], window: Sequence[Point], normal: Sequence[Point]) -> list[Cause]:
    total = sum(max(t.after - t.before, 0.0) for t in found) or 1.0
    grew = [t for t in found if t.after - t.before > 0.02 and t.nearest][:_NAMED]
    shrank = [t for t in found[::-1] if t.before - t.after > 0.02 and t.nearest][:1]
    out = []
    for verb, chosen, texts in (("grew", grew, window), ("shrank", shrank, normal)):
        for topic in chosen:
            example = short(texts[topic.nearest[0]].text)
            words = f"{verb} from {topic.before:.0%} to {topic.after:.0%}: e.g. “{example}”"
            out.append(Cause("topic", example, round(abs(topic.after - topic.before) / total, 3), words))
    return out


def _who(dimension: str, inside: Sequence[str | None], everybody: Sequence[str | None]) -> list[Cause]:
    """Name who brings the new texts, if it is one who does not bring most texts anyway."""
    named = Counter(v for v in inside if v is not None)
    if not named:
        return []
    value, hits = min(named.items(), key=lambda item: (-item[1], item[0]))
    share, usual = hits / len(inside), everybody.count(value) / len(everybody)
    if share < 0.5 or share < usual + 0.1:
        return []
    return [Cause(dimension, value, round(share, 3), f"{dimension} {value}: {share:.0%} of these texts")]


def _style(before: Sequence[str], after: Sequence[str]) -> list[Cause]:
    return [
        Cause("style", name, 0.0, f"{FEATURES[name]}: {old:.3g} -> {new:.3g} ({effect:+.1f} standard deviations)")
        for name, effect, old, new in moved(before, after)[:2]
    ]
