"""The alerts that a batch job raised before, read from the lake: a job keeps no own state."""

from __future__ import annotations

from datetime import date

from schemas.alerts import Alert
from warehouse.query.readonly import ReadOnlyLake

_NEWEST = """
SELECT alert FROM alerts WHERE detector = $1 AND ($2::DATE IS NULL OR day >= $2)
QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC, _offset) = 1
"""


def newest_alerts(lake: ReadOnlyLake, detector: str, *, since: date | None = None) -> list[Alert]:
    """Return the newest state of each alert of ``detector``; with ``since``, of those that landed from that day on."""
    return [Alert.from_json(row["alert"].encode()) for row in lake.query(_NEWEST, [detector, since]).to_pylist()]


def open_alerts(lake: ReadOnlyLake, detector: str) -> list[Alert]:
    """Return the newest state of each alert of ``detector`` that is not resolved."""
    return [alert for alert in newest_alerts(lake, detector) if alert.state != "resolved"]
