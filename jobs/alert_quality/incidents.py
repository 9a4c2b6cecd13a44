"""The incidents of a time as they landed, each with the newest verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from pipelines.notify.times import parsed
from schemas.alerts import Alert, Verdict

Query = Callable[[str, Sequence[object]], pa.Table]
"""Runs SQL on the lake."""
_SQL = """
WITH states AS (
    SELECT id, seq, alert, min(detected_at) OVER (PARTITION BY id) AS fired_at FROM alerts
    QUALIFY row_number() OVER (PARTITION BY id, seq ORDER BY _offset) = 1
)
SELECT s.id, s.alert, v.verdict FROM states AS s LEFT JOIN alert_verdicts AS v ON v.alert_id = s.id
WHERE epoch_us(s.fired_at) >= $1 AND epoch_us(s.fired_at) < $2
ORDER BY s.fired_at, s.id, s.seq
"""


@dataclass(frozen=True)
class Incident:
    """One alert with all its states, in order, and the verdict of a person."""

    states: tuple[Alert, ...]
    verdict: Verdict | None = None

    @property
    def first(self) -> Alert:
        """The state that fired."""
        return self.states[0]

    @property
    def newest(self) -> Alert:
        """The last state that landed."""
        return self.states[-1]

    def span(self) -> tuple[float, float] | None:
        """Return its event time from the first start to the last end, seconds since 1970; None: it cannot be read."""
        starts = [t.timestamp() for a in self.states if (t := parsed(a.window.start))]
        ends = [t.timestamp() for a in self.states if (t := parsed(a.window.end))]
        return (min(starts), max(ends)) if starts and ends else None


def incidents_between(query: Query, since: int, until: int) -> tuple[Incident, ...]:
    """Return the incidents that were first detected in [since, until), µs UTC, the earliest first."""
    rows = query(_SQL, [since, until]).to_pylist()
    found = []
    for _, group in groupby(rows, key=lambda row: row["id"]):
        states = list(group)
        found.append(Incident(tuple(Alert.from_json(s["alert"].encode()) for s in states), states[0]["verdict"]))
    return tuple(found)


def of_alerts(alerts: Sequence[Alert]) -> tuple[Incident, ...]:
    """Return the incidents that ``alerts``, in any order, are the states of."""
    ordered = sorted(alerts, key=lambda a: (a.id, a.seq))
    return tuple(Incident(tuple(group)) for _, group in groupby(ordered, key=lambda a: a.id))
