"""The content of a drift alert: the topic that grew, in which series, its sources, and the SQL that counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np

from pipelines.alerts.evidence import literal
from pipelines.alerts.recovery import Recovery
from pipelines.alerts.runbook import filled
from pipelines.drift.clusters import CosineBall, HalfSpace, Topic, ball, matrix, mix_weights, short, topics
from pipelines.drift.features import FEATURES, moved
from pipelines.drift.points import Point
from pipelines.drift.regions import Ints, Reference
from pipelines.drift.vectors import restore
from schemas.alerts import Alert, Cause, Evidence, Impact, Window, alert_id, fingerprint

RULES = {"input": "input_drift", "output": "output_drift", "query": "query_drift"}
_STEPS = (
    "Read the texts (`tailrace alerts show ALERT_ID`): a new use, a campaign, an attack, or a bug that repeats?",
    "A new client or feature: check that prompt, retrieval and guardrails fit it; sample answers for quality.",
    "A release just before: compare the prompts that the app builds before and after; roll back if they are not meant.",
    "Meant to stay: do nothing; after a while the new mix becomes the reference and the alert closes.",
)
_STYLE_STEPS = (
    "Did the provider change the model behind its name? Compare `response_model` and `fingerprint` of the calls.",
    "A release just before: compare system prompt and temperature before and after; roll back if it is not meant.",
    "Read a few of the answers (`tailrace call ID`), and ask the same questions again: `tailrace gate` compares both.",
    "Meant to stay: do nothing; after a while the new style becomes the reference and the alert closes.",
)
_NAMED = 3


class Shift(msgspec.Struct, frozen=True):
    """What moved, as found when the alarm rang; kept while the incident is open."""

    feature: str | None
    """The feature it is confined to; None = the app."""
    centre: tuple[int, ...]
    least: float
    observed: float
    expected: float
    causes: tuple[Cause, ...]
    call_ids: tuple[str, ...]
    sql: str
    start: int
    end: int
    calls: int
    users: int | None
    linear: bool = False
    """Whether ``centre`` holds the weights of a half-space, of styles, and not the centre of a topic."""
    are_prompts_steady: bool = False
    """Of answers: whether the prompts are judged, too, and have not moved."""

    @property
    def region(self) -> CosineBall | HalfSpace:
        """The topic that grew most, or the half-space of styles."""
        return HalfSpace(self.centre, self.least) if self.linear else CosineBall(self.centre, self.least)


class Incident(msgspec.Struct):
    """One open alert, or one that was resolved and may be reopened."""

    id: str
    series: dict[str, str]
    shift: Shift
    score: float
    seq: int = 0
    start: int = 0
    """Where it was reopened, the start of the first shift (us UTC); 0 = that of ``shift``."""
    recovery: Recovery = msgspec.field(default_factory=Recovery)
    wall: int = 0
    """Wall time of the last text it was judged by, us UTC."""
    emitted_wall: int = 0
    """Wall time of the last message, us UTC."""
    emitted_excess: float = 0.0
    """``recovery.excess`` at the last message: texts beyond what is normal."""

    @property
    def began(self) -> int:
        """Event time of its start, us UTC."""
        return self.start or self.shift.start


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
    expected = float(share[was].sum())
    observed = len(hits) / len(kept)
    causes = _topics(found, window, normal)
    if feature is None:
        causes += _who("feature", [p.feature for p in hits], [p.feature for p in kept])
    causes += _who("tenant", [p.tenant for p in hits], [p.tenant for p in kept])
    causes += _who("user", [p.user for p in hits], [p.user for p in kept])
    causes += _style([p.text for p in normal], [p.text for p in kept])
    nearest = [window[i].call_id for i in found[0].nearest if scope[i]]
    users = {p.user for p in hits if p.user is not None}
    return Shift(
        feature,
        grown.centre,
        grown.least,
        observed,
        expected,
        tuple(causes),
        tuple(nearest),
        region_sql(grown, kept, feature),
        min(p.ts for p in kept),
        max(p.ts for p in kept) + 1,
        round(sum(1 / p.rate if p.rate > 0 else 1 for p in hits)),
        len(users) if users else None,
    )


def compose_alert(
    incident: Incident,
    state: Literal["firing", "update", "resolved"],
    *,
    side: str,
    observed: float,
    window: tuple[int, int],
    wall: int,
    note: str = "",
) -> Alert:
    """Compose the alert of one state change."""
    shift = incident.shift
    rule = RULES[side]
    where = "/".join(v for k, v in incident.series.items() if k != "side")
    again = "again: " if state == "firing" and incident.seq else ""
    title = {
        "firing": f"{again}{where}: {_drifted(shift, side, observed)}",
        "update": f"{where}: still, {_drifted(shift, side, observed)}",
        "resolved": f"{where}: {side}s {note}",
    }
    return Alert(
        id=incident.id,
        seq=incident.seq,
        fingerprint=fingerprint(rule, incident.series),
        detector="drift",
        rule=rule,
        severity="warning",
        state=state,
        series=incident.series,
        window=Window(iso(window[0]), iso(window[1])),
        observed=observed,
        expected=shift.expected,
        score=incident.score,
        unit="share of texts",
        impact=Impact(calls=shift.calls, users=shift.users),
        cause=shift.causes,
        evidence=Evidence(shift.sql if state == "firing" else "", shift.call_ids),
        runbook=filled(_STYLE_STEPS if shift.linear else _STEPS, alert_id=incident.id, call_ids=shift.call_ids),
        detected_at=iso(wall),
        title=title[state],
    )


def _drifted(shift: Shift, side: str, observed: float) -> str:
    """Return what drifted, without an excerpt of a text: a title is shown in every list of alerts."""
    if not shift.linear:
        return f"{side}s drifted, {observed:.0%} are like the texts of one topic, expected {shift.expected:.0%}"
    moved = ", ".join(cause.value for cause in shift.causes if cause.dimension == "style")
    prompts = ", no change of prompts" if shift.are_prompts_steady else ""
    return f"answers changed style ({moved}){prompts}: {observed:.0%} are like this, expected {shift.expected:.0%}"


def open_incident(app: str, side: str, shift: Shift, score: float) -> Incident:
    """Give ``shift`` its series and its id."""
    series = {"app": app, "side": side}
    if shift.feature:
        series = {"app": app, "feature": shift.feature, "side": side}
    return Incident(alert_id(RULES[side], series, shift.start), series, shift, score)


def reopen(closed: Incident, found: Incident) -> Incident:
    """Go on with ``closed`` as what was ``found`` in the same series: same id and start, next seq."""
    return Incident(
        closed.id,
        closed.series,
        found.shift,
        found.score,
        seq=closed.seq + 1,
        start=closed.began,
        recovery=Recovery(reopened=True),
    )


def iso(microseconds: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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


def region_sql(grown: CosineBall | HalfSpace, window: Sequence[Point], feature: str | None) -> str:
    """SQL over the append-only table that counts the share again: by source positions, each call once."""
    spans: dict[int, tuple[int, int]] = {}
    for p in window:
        low, high = spans.get(p.partition, (p.offset, p.offset))
        spans[p.partition] = (min(low, p.offset), max(high, p.offset))
    return share_sql(grown, spans, app=window[0].app, side=window[0].side, feature=feature)


def share_sql(
    grown: CosineBall | HalfSpace, spans: Mapping[int, tuple[int, int]], *, app: str, side: str, feature: str | None
) -> str:
    """SELECT the share of texts inside ``grown`` as ``observed``; ``spans``: source partition -> first, last offset."""
    is_ball = isinstance(grown, CosineBall)
    numbers = ",".join(map(str, grown.centre if isinstance(grown, CosineBall) else grown.weights))
    seen = " OR ".join(
        f"(source_partition = {p} AND source_offset BETWEEN {low} AND {high})"
        for p, (low, high) in sorted(spans.items())
    )
    function = "list_cosine_similarity" if is_ball else "list_dot_product"
    near = f"{function}(vector::DOUBLE[], [{numbers}]::DOUBLE[]) >= {grown.least!r}"
    mine = f" AND feature = {literal(feature)}" if feature is not None else ""
    return (
        f"SELECT count(DISTINCT call_id) FILTER ({near})::DOUBLE / count(DISTINCT call_id) AS observed FROM embeddings "
        f"WHERE app = {literal(app)} AND side = {literal(side)}{mine} AND ({seen})"
    )
