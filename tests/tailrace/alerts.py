"""An alert for tests of what shows or carries alerts."""

from typing import Any

from schemas.alerts import Alert, Window, alert_id, fingerprint


def alert(series: dict[str, str], **said: Any) -> Alert:
    """Return a firing cost spike on ``series``; ``said`` are fields that shall be otherwise."""
    rule = said.get("rule", "spike_cost")
    usual: dict[str, Any] = {
        "id": alert_id(rule, series, 1),
        "seq": 0,
        "fingerprint": fingerprint(rule, series),
        "detector": "spike",
        "rule": rule,
        "severity": "critical",
        "state": "firing",
        "series": series,
        "window": Window("2026-07-01T10:00:00Z", "2026-07-01T10:01:00Z"),
        "observed": 2.0,
        "expected": 1.0,
        "score": 9.0,
        "unit": "usd",
        "detected_at": "2026-07-01T10:01:02Z",
    }
    return Alert(**(usual | said))
