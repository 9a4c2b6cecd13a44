"""Running sums of each open incident: of its series, and of the whole app where the series is a narrower one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.alerts.incident import Incident, Lifecycle
    from pipelines.detect.windows import Matrix, Windows


def begin(windows: Windows, incident: Incident) -> None:
    """Sum the buckets that had closed when the incident fired."""
    finding = incident.finding
    incident.total = _sums(windows, finding.target, finding.start)
    if finding.target != windows.own:
        incident.whole.total = _sums(windows, windows.own, finding.start)


def watched(windows: Windows, life: Lifecycle) -> set[str]:
    """Series whose late rows are counted."""
    incidents = life.counted()
    return {i.finding.target for i in incidents} | ({windows.own} if any(i.whole.total for i in incidents) else set())


def add(windows: Windows, life: Lifecycle, rows: Sequence[tuple[str, int, Matrix]]) -> None:
    """Count late rows (series, start, sums) of watched series: their bucket had closed."""
    for incident in life.counted():
        for name, start, sums in rows:
            if name == incident.finding.target:
                incident.add(start, sums, windows.closed)
            elif name == windows.own:
                incident.add_whole(start, sums, windows.closed)


def count(windows: Windows, life: Lifecycle, since: int, until: int) -> None:
    """Count buckets in [since, until) that close."""
    for incident in life.counted():
        first = max(since, incident.finding.start)
        place = windows.index.get(incident.finding.target)
        if place is not None:
            incident.count(windows.row(place, first, until))
        if incident.whole.total:
            incident.count_whole(windows.row(windows.index[windows.own], first, until))


def take_back(windows: Windows, life: Lifecycle) -> None:
    """Subtract what is in the ring: those buckets will be read again."""
    closed = windows.closed
    for incident in life.counted():
        start = incident.finding.start
        place = windows.index.get(incident.finding.target)
        if place is not None:
            since = incident.recovery.since or closed
            incident.take_back(windows.row(place, start, closed), windows.row(place, since, closed))
        if incident.whole.total:
            incident.count_whole(-windows.row(windows.index[windows.own], start, closed))


def _sums(windows: Windows, target: str, start: int) -> dict[int, int]:
    return dict(enumerate(windows.row(windows.index[target], start, windows.closed).tolist()))
