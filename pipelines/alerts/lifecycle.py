"""Firing, update, resolved: a state machine of values, one per app.

A finding is held back a few seconds, so that its siblings can be seen with it and a flicker does not ring; then it
fires, once. What follows from it attaches. When its detector has called it calm, it resolves, once. All times are
event times or the wall times that ticks carry, so a replay says the same again under the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec.structs import replace

from pipelines.alerts.finding import Finding
from pipelines.alerts.grouping import child, group
from schemas.alerts import Alert, alert_id, fingerprint

SECOND = 1_000_000
State = Literal["firing", "update", "resolved"]


@dataclass(frozen=True)
class Timing:
    """Settings of the life cycle, in seconds."""

    hold_s: float = 3.0
    """How long a finding must last before it fires."""
    hold_follower_s: float = 6.0
    """The same for families that often follow another (rank above 0): their leader may still be gathering proof."""
    cooldown_s: float = 600.0
    """After an alert is resolved the same series does not fire for this long: what pauses is not over."""
    cooldown_family_s: float = 60.0
    """The same for other series of the app and the same family of measures."""
    renotify_s: float = 14_400.0
    """An alert that stays open is told again as an update."""
    accept_s: float = 86_400.0
    """An alert open for so long is the new normal: it is resolved, and learning goes on."""


class Incident(msgspec.Struct, kw_only=True):
    """One open alert."""

    id: str
    fingerprint: str
    finding: Finding
    """As it was when fired; ``peak`` and ``end`` follow."""
    seq: int = 0
    told: int = 0
    """Wall time of the last message, µs UTC."""
    followers: list[str] = []
    """Families that were recognised as faces of this one: open and over with it."""
    total: dict[int, int] = {}
    """Column -> sum of the target series since the start, whatever comes late included."""


@dataclass
class Lifecycle:
    """All that is remembered of one app's alerts."""

    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Family -> (wall, event time) when it was first found."""
    open: dict[str, Incident] = field(default_factory=dict)
    cooling: dict[str, int] = field(default_factory=dict)
    """Family, or family and target -> event time until which they stay quiet, whatever the measure."""


class Transition(msgspec.Struct, frozen=True):
    """One state change, to become one alert message."""

    state: State
    incident: Incident
    finding: Finding


def advance(
    life: Lifecycle,
    findings: Sequence[Finding],
    *,
    wall: int,
    at: int,
    calm: Mapping[str, int],
    timing: Timing,
) -> list[Transition]:
    """Take in what is found at one moment; return what is to be told, in order. ``life`` is moved along.

    Args:
        life: the app's alerts.
        findings: at most one a family.
        wall: wall time of the last tick, µs UTC.
        at: event time up to which was judged, µs UTC.
        calm: families whose incident is over -> its end, event time.
        timing: settings.
    """
    told = [_resolve(life, family, end, timing) for family, end in calm.items()]
    over = [f for f, i in life.open.items() if at - i.finding.start > timing.accept_s * SECOND]
    told += [_resolve(life, family, at, timing) for family in over]
    leaders, following, attached = group(findings, {family: i.finding for family, i in life.open.items()})
    for family, followers in attached.items():
        told += _attach(life.open[family], [f for f in followers if not f.weak], wall)
    ripe = [f for f in leaders if not f.weak and at >= max(life.cooling.get(k, 0) for k in (f.family, _cooling(f)))]
    life.held = {f.family: life.held.get(f.family, (wall, at)) for f in ripe}
    for finding in ripe:
        since_wall, since = life.held[finding.family]
        hold = (timing.hold_follower_s if finding.rank else timing.hold_s) * SECOND
        if wall - since_wall >= hold or at - since >= hold:
            told.append(_fire(life, finding, wall, following.get(finding.family, ())))
            del life.held[finding.family]
    for incident in life.open.values():
        if wall - incident.told >= timing.renotify_s * SECOND:
            told.append(_update(incident, wall))
    return told


def _cooling(finding: Finding) -> str:
    return f"{finding.family} {finding.target}"


def _fingerprint(finding: Finding) -> str:
    return fingerprint(finding.rule, finding.series)


def _fire(life: Lifecycle, finding: Finding, wall: int, followers: Sequence[str]) -> Transition:
    incident = Incident(
        followers=list(followers),
        id=alert_id(finding.rule, finding.series, finding.start),
        fingerprint=_fingerprint(finding),
        finding=finding,
        told=wall,
    )
    life.open[finding.family] = incident
    return Transition("firing", replace(incident), finding)


def _attach(incident: Incident, followers: list[Finding], wall: int) -> list[Transition]:
    known = incident.finding.children
    incident.followers = [*incident.followers, *(f.family for f in followers if f.family not in incident.followers)]
    new = tuple(c for c in map(child, followers) if c not in known)
    if not new:
        return []
    incident.finding = replace(incident.finding, children=(*known, *new))
    return [_update(incident, wall)]


def _update(incident: Incident, wall: int) -> Transition:
    incident.seq += 1
    incident.told = wall
    return Transition("update", replace(incident), incident.finding)


def _resolve(life: Lifecycle, family: str, end: int, timing: Timing) -> Transition:
    incident = life.open.pop(family)
    incident.seq += 1
    life.cooling = {f: until for f, until in life.cooling.items() if until > end}
    life.cooling[_cooling(incident.finding)] = end + int(timing.cooldown_s * SECOND)
    life.cooling[family] = end + int(timing.cooldown_family_s * SECOND)
    incident.finding = replace(incident.finding, end=end)
    return Transition("resolved", incident, incident.finding)


class Silence(msgspec.Struct, frozen=True):
    """Alerts whose series hold all ``pairs`` and whose rule is ``rule`` (any, where empty) are not sent meanwhile."""

    start: int
    end: int
    pairs: dict[str, str] = {}
    rule: str = ""


def silenced(alert: Alert, silences: Sequence[Silence], at: int) -> bool:
    """Whether nobody wants to hear of ``alert`` at ``at`` (µs UTC); it is landed and shown all the same."""
    return any(
        s.start <= at < s.end
        and s.rule in ("", alert.rule)
        and all(alert.series.get(name) == value for name, value in s.pairs.items())
        for s in silences
    )
