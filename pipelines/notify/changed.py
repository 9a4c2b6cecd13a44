"""What changed, for messages: releases as they come on llm.log, notes on what is new as they come on llm.alerts. Pure.

notify reads both topics anyway, so a message names what changed without a query of the lake. It has the changes that
are on the topics, 30 days; `tailrace alerts show` queries the lake.
"""

from __future__ import annotations

import msgspec

from pipelines.alerts.changes import Past, changes, enriched
from schemas.alerts import Alert, LogRecord
from schemas.errors import UNREADABLE
from schemas.releases import of_row

_MOST_APPS = 10_000
"""Apps that are kept in memory; beyond that the one that was added first is evicted."""


class ChangeBook:
    """What is known of the changes of every app. Taking in the same record again changes nothing."""

    def __init__(self) -> None:
        self._past: dict[str, Past] = {}

    def apply(self, value: bytes) -> bool:
        """Apply one record of llm.log; return whether it was the mark of a release."""
        if b'"releases"' not in value:
            return False
        try:
            record = msgspec.json.decode(value, type=LogRecord)
            if record.table != "releases":
                return False
            release = of_row(record.row, record.at)
        except UNREADABLE:
            return False
        self._of(release.app).add_release(release)
        return True

    def admit(self, alert: Alert) -> None:
        """Apply one state of llm.alerts."""
        if app := alert.series.get("app"):
            self._of(app).add_alert(alert)

    def named(self, alert: Alert) -> Alert:
        """Return ``alert`` with what changed before it."""
        past = self._past.get(alert.series.get("app", ""))
        return alert if past is None else enriched(alert, changes(past, alert))

    def _of(self, app: str) -> Past:
        if app not in self._past and len(self._past) >= _MOST_APPS:
            del self._past[next(iter(self._past))]
        return self._past.setdefault(app, Past())
