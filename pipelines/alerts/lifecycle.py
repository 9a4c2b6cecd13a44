"""Firing, update, resolved: a state machine of values, one per app.

A finding is held back for a few seconds, so that findings of the same cause are grouped with it and a short breach does
not fire; then it fires, once. Later findings of the same cause are attached to it. Once its recovery is proven it is
resolved, and a breach of the same series within the cooldown reopens it: ``firing`` again under the same id, with the
next ``seq``. All times are event times or the wall times that ticks carry, so a replay emits the same alerts under the
same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from pipelines.alerts.finding import Finding
from pipelines.alerts.grouping import child, group, leads
from pipelines.alerts.incident import Closed, Incident, Lifecycle, State, Transition
from pipelines.alerts.recovery import RecoveryConfig, resume
from pipelines.alerts.whole_app import is_below
from schemas.alerts import alert_id, fingerprint

SECOND = 1_000_000
UNANNOUNCED = ("per_call",)
"""Families that attach to an open incident without a message: most rises of the spend are rises per call as well."""


@dataclass(frozen=True)
class Timing:
    """Settings of the life cycle."""

    hold_s: float = 3.0
    """How long a finding must last before it fires."""
    hold_follower_s: float = 6.0
    """The same for families that often follow another (rank above 0): their leader may not have evidence enough yet."""
    cooldown_s: float = 600.0
    """A breach of the same series, or of the app it is a part of, within this time after its recovery was
    proven reopens the incident. Where the proof took longer than this, the time of the proof: a series with rare calls
    also breaches again late."""
    cooldown_family_s: float = 60.0
    """After an incident has ended, other series of the app and the same family of measures fire no sooner than this."""
    update_every_s: float = 1800.0
    """Time of the ticks after which an open incident is emitted again as an update."""
    update_growth_ratio: float = 10.0
    """An update is emitted sooner when the excess of the incident (USD, tokens or calls beyond what is normal, summed
    since its start) has grown by this factor since the last message."""
    update_least_s: float = 300.0
    """But no sooner than this: an excess at a constant rate is ten times as large after ten times as long."""
    accept_s: float = 86_400.0
    """An alert that is open for this long is the new normal: it is resolved, and its values are learned from then
    on."""
    accept_learning_s: float = 7200.0
    """The same for the spend of an app of which nothing was learned: an expensive app that is new is no incident of a
    day, and nothing is learned of it meanwhile."""
    accept_quiet_s: float = 21_600.0
    """How long the same series does not fire after that: until the new normal is learned."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """When an incident is over."""


def advance(
    life: Lifecycle,
    findings: Sequence[Finding],
    *,
    wall: int,
    at: int,
    recovered: Mapping[str, int],
    timing: Timing,
) -> list[Transition]:
    """Apply what is found at one moment; return the messages to emit, in order. ``life`` is changed in place.

    Args:
        life: the app's alerts.
        findings: at most one a family.
        wall: wall time of the last tick, µs UTC.
        at: event time up to which was judged, µs UTC.
        recovered: families whose incident is proven to be over -> its end, event time.
        timing: settings.
    """
    life.closed = {key: closed for key, closed in life.closed.items() if at < closed.until}
    emitted = [_resolve(life, family, end, at, timing) for family, end in recovered.items()]
    accepted = [f for f, i in life.open.items() if at - i.finding.start > _accept_after(i.finding, timing) * SECOND]
    emitted += [_accept(life, family, at, timing) for family in accepted]
    leaders, following, attached = group(findings, {family: i.finding for family, i in life.open.items()})
    for family, followers in attached.items():
        emitted += _attach(life.open[family], [f for f in followers if not f.weak], wall)
    eligible = [f for f in leaders if not f.weak and not _began_in_resolved(life, f) and _may_fire(life, f, at)]
    life.held = {f.family: life.held.get(f.family, (wall, at)) for f in eligible}
    for finding in eligible:
        since_wall, since = life.held[finding.family]
        hold = (timing.hold_follower_s if finding.rank else timing.hold_s) * SECOND
        if wall - since_wall >= hold or at - since >= hold:
            emitted.append(_fire(life, finding, wall, following.get(finding.family, ())))
            del life.held[finding.family]
    due = [
        incident
        for incident in life.open.values()
        if update_due(incident.recovery.excess, incident.emitted_excess, wall - incident.emitted_at, timing)
    ]
    return emitted + [_update(incident, wall) for incident in due]


def may_change(life: Lifecycle, *, wall: int, at: int, timing: Timing) -> bool:
    """Whether ``advance`` may do anything at ``wall`` and ``at`` where nothing is found and nothing has recovered.

    Time alone ends a cooldown, accepts an incident, and makes an update due. A held finding that is not found again
    is dropped.
    """
    if life.held or any(at >= closed.until for closed in life.closed.values()):
        return True
    return any(
        at - incident.finding.start > _accept_after(incident.finding, timing) * SECOND
        or update_due(incident.recovery.excess, incident.emitted_excess, wall - incident.emitted_at, timing)
        for incident in life.open.values()
    )


def update_due(excess: float, emitted_excess: float, passed_us: int, timing: Timing) -> bool:
    """Whether an open incident is emitted again.

    Args:
        excess: value beyond what is normal since its start.
        emitted_excess: the same at the last message; 0 or less = not known.
        passed_us: wall time since the last message.
        timing: settings.
    """
    grown = excess >= timing.update_growth_ratio * emitted_excess > 0
    return passed_us >= (timing.update_least_s if grown else timing.update_every_s) * SECOND


def _may_fire(life: Lifecycle, finding: Finding, at: int) -> bool:
    if _reopens(life, finding) is not None:
        return True
    return at >= max(life.cooling.get(key, 0) for key in (finding.family, _key(finding)))


def _began_in_resolved(life: Lifecycle, finding: Finding) -> bool:
    """Whether it began in a resolved incident of its cause: a detector that judges once a minute finds it late."""
    over = (closed.incident.finding for closed in life.closed.values())
    return any(f.detector != finding.detector and finding.start < f.end and leads(f, finding) for f in over)


def _reopens(life: Lifecycle, finding: Finding) -> str | None:
    """Key of the resolved incident that a breach reopens: of the same series, or of the latest one below it."""
    if (key := _key(finding)) in life.closed:
        return key
    below = [k for k, c in life.closed.items() if c.incident.whole.total and is_below(c.incident.finding, finding)]
    return max(below, key=lambda k: (life.closed[k].incident.finding.end, k), default=None)


def _key(finding: Finding) -> str:
    return f"{finding.family} {finding.target}"


def _fire(life: Lifecycle, finding: Finding, wall: int, followers: Sequence[str]) -> Transition:
    if (key := _reopens(life, finding)) is not None:
        return _reopen(life, life.closed.pop(key).incident, finding, wall, followers)
    incident = Incident(
        followers=list(followers),
        id=alert_id(finding.rule, finding.series, finding.start),
        fingerprint=fingerprint(finding.rule, finding.series),
        finding=finding,
        emitted_at=wall,
    )
    life.open[finding.family] = incident
    return Transition("firing", replace(incident), finding)


def _reopen(life: Lifecycle, incident: Incident, finding: Finding, wall: int, followers: Sequence[str]) -> Transition:
    """Go on with a resolved incident: same id and rule, next seq. The pause becomes part of it.

    A breach of the app reopens the incident of a series below it: both are one cause until the cooldown has passed.
    """
    if is_below(incident.finding, finding):
        incident.widen(finding, incident.recovery.until, reopened=True)
    known = incident.finding
    new = tuple(c for c in finding.children if c not in known.children)
    severity = "critical" if "critical" in (known.severity, finding.severity) else known.severity
    incident.finding = replace(
        known, severity=severity, end=finding.end, score=finding.score, children=(*known.children, *new)
    )
    incident.followers = list(dict.fromkeys([*incident.followers, *followers]))
    incident.after = {}
    resume(incident.recovery)
    life.open[finding.family] = incident
    return _emit("firing", incident, wall)


def _attach(incident: Incident, followers: list[Finding], wall: int) -> list[Transition]:
    known = incident.finding.children
    incident.followers = [*incident.followers, *(f.family for f in followers if f.family not in incident.followers)]
    new = tuple(c for c in map(child, followers) if c not in known)
    if not new:
        return []
    incident.finding = replace(incident.finding, children=(*known, *new))
    return [] if all(f.family in UNANNOUNCED for f in followers) else [_update(incident, wall)]


def _update(incident: Incident, wall: int) -> Transition:
    return _emit("update", incident, wall)


def _emit(state: State, incident: Incident, wall: int) -> Transition:
    incident.seq += 1
    incident.emitted_at = wall
    incident.emitted_excess = incident.recovery.excess
    return Transition(state, replace(incident), incident.finding)


def _resolve(life: Lifecycle, family: str, end: int, at: int, timing: Timing) -> Transition:
    transition = _close(life, family, end, timing)
    incident = transition.incident
    until = at + max(int(timing.cooldown_s * SECOND), at - end)
    life.closed[_key(incident.finding)] = Closed(replace(incident), until)
    return transition


def _accept_after(finding: Finding, timing: Timing) -> float:
    return timing.accept_learning_s if finding.learning and finding.unit == "USD" else timing.accept_s


def _accept(life: Lifecycle, family: str, at: int, timing: Timing) -> Transition:
    life.open[family].after = {}
    transition = replace(_close(life, family, at, timing), accepted=True)
    life.cooling[_key(transition.finding)] = at + int(timing.accept_quiet_s * SECOND)
    return transition


def _close(life: Lifecycle, family: str, end: int, timing: Timing) -> Transition:
    incident = life.open.pop(family)
    incident.seq += 1
    life.cooling = {key: until for key, until in life.cooling.items() if until > end}
    life.cooling[family] = end + int(timing.cooldown_family_s * SECOND)
    incident.finding = replace(incident.finding, end=end)
    return Transition("resolved", incident, incident.finding)
