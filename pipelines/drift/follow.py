"""An open drift incident, text by text: is it over, has it grown, has the series stopped?

The test is that of ``pipelines.alerts.recovery``: is the share of texts inside the topic that grew back near what the
reference expects, or still near what it was during the incident? A text is a bucket. The dependence between texts of a
conversation is the level's design effect or what the incident itself shows: the greater of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.alerts.lifecycle import Timing, update_due
from pipelines.alerts.recovery import Bucket, RecoveryConfig, Terms, absorb, silence_us, step
from pipelines.drift.incident import Incident, Shift
from pipelines.drift.points import Point

_BELOW = 0.3
"""Part of the growth that raises no alarm any more."""


def concerns(shift: Shift, point: Point) -> bool:
    """Whether ``point`` is of the feature that moved."""
    return shift.feature is None or point.feature == shift.feature


def begin(incident: Incident, window: Sequence[Point], effect: float, least: float) -> None:
    """Count the texts of ``window``, in order, that came since the shift began: they are the incident."""
    texts = [p for p in window if p.ts >= incident.shift.start and concerns(incident.shift, p)]
    terms = _terms(incident.shift, effect, least)
    for point, inside in zip(texts, _inside(incident.shift, texts), strict=True):
        absorb(incident.recovery, terms, _bucket(inside), point.ts + 1)


def apply(incident: Incident, point: Point, *, effect: float, least: float, config: RecoveryConfig) -> int:
    """Test one text of the series; return when the incident ended (event time, µs UTC), or 0 while it goes on.

    Args:
        incident: it is moved along.
        point: the next text.
        effect: design effect; this many neighbouring texts count as one.
        least: smallest growth of a share that matters.
        config: settings of the test.
    """
    incident.wall = max(incident.wall, point.wall)
    [inside] = _inside(incident.shift, [point])
    terms = _terms(incident.shift, effect, least)
    return step(incident.recovery, terms, _bucket(inside), point.ts, point.ts + 1, config)


def stopped(incident: Incident, wall: int, config: RecoveryConfig) -> bool:
    """Whether no text came for so long that the series has stopped; by the brokers' time, as clocks of apps differ."""
    seen = incident.recovery.before or incident.recovery.seen
    span = max(incident.recovery.until - incident.shift.start, 0)
    return bool(incident.wall) and wall - incident.wall >= silence_us(seen.calls, span, config)


def grown(incident: Incident, wall: int, timing: Timing) -> bool:
    """Whether an update is due."""
    return update_due(incident.recovery.excess, incident.emitted_excess, wall - incident.emitted_wall, timing)


def emitted(incident: Incident, wall: int) -> None:
    """Store the size at which the incident was emitted."""
    incident.emitted_wall, incident.emitted_excess = wall, incident.recovery.excess


def share(incident: Incident) -> float:
    """Share of the texts of the whole incident, without what came after its end, that are inside the topic."""
    seen = incident.recovery.before or incident.recovery.seen
    return seen.value / seen.exposure if seen.exposure else incident.shift.observed


def _inside(shift: Shift, points: Sequence[Point]) -> list[bool]:
    if not points:
        return []
    vectors = np.stack([np.frombuffer(p.vector, dtype=np.int8) for p in points])
    return [bool(inside) for inside in shift.region.holds(vectors)]


def _bucket(inside: bool) -> Bucket:
    return Bucket(float(inside), 1.0, 1.0)


def _terms(shift: Shift, effect: float, least: float) -> Terms:
    growth = shift.observed - shift.expected
    limit = min(shift.expected + max(2 * least, _BELOW * growth), 0.97)
    return Terms(shift.expected, limit, dispersion=max(effect, 1.0), share=True)
