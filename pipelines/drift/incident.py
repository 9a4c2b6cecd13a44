"""A drift incident: what moved, and the alert that is open for it."""

from __future__ import annotations

import msgspec

from pipelines.alerts.recovery import Recovery
from pipelines.drift.clusters import CosineBall, HalfSpace
from schemas.alerts import Cause, alert_id

RULES = {"input": "input_drift", "output": "output_drift", "query": "query_drift"}


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
