"""What the lake has of the changes of an app: its releases, the notes on what is new, and when its alerts began."""

from __future__ import annotations

from pipelines.alerts.changes import Past, changes
from schemas.alerts import Alert, Change
from tailrace.records.release import marks
from warehouse.query.readonly import ReadOnlyLake

_ALERTS = """
SELECT alert FROM alerts
WHERE json_extract_string(series, '$.app') = $1 AND state = 'firing'
    AND (detector = 'novelty' OR (seq = 0 AND severity <> 'info'))
QUALIFY row_number() OVER (PARTITION BY id, seq ORDER BY _offset) = 1
ORDER BY window_start
"""


def past(lake: ReadOnlyLake, app: str) -> Past:
    """Return what is known of the changes of ``app``."""
    found = Past()
    for release in marks(lake, app):
        found.add_release(release)
    for row in lake.query(_ALERTS, [app]).to_pylist():
        found.add_alert(Alert.from_json(row["alert"].encode()))
    return found


def changes_of(lake: ReadOnlyLake, alert: Alert) -> tuple[Change, ...]:
    """Return what changed before ``alert``, as it is known now; nothing for one that is of no single app."""
    app = alert.series.get("app")
    return changes(past(lake, app), alert, all_known=True) if app else ()
