"""One run over all apps of the lake. The same lake at the same moment gives the same alerts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog
from msgspec.structs import replace

from jobs.alert_report import AlertReport
from jobs.landed_alerts import open_alerts
from jobs.no_calls.decide import Settings, StoppedApp, judge_app
from jobs.no_calls.profile import Minutes
from pipelines.alerts.evidence import literal
from schemas.alerts import Alert, Evidence, Window, alert_id, fingerprint, rfc3339
from warehouse.query.readonly import ReadOnlyLake

log = structlog.get_logger(__name__)
DETECTOR, RULE = "silence", "no_calls"
HISTORY_DAYS = 14
_MINUTE_US = 60_000_000
_CALLS = """
SELECT series->>'app' AS app, second // 60 AS minute, sum(calls) AS calls
FROM rollups WHERE dims = 'app' AND day >= $1 AND second >= $2 AND second < $3 GROUP BY ALL HAVING sum(calls) > 0
UNION ALL
SELECT app, epoch(time_bucket(INTERVAL 1 MINUTE, ts))::BIGINT // 60 AS minute, count(*) AS calls
FROM calls WHERE day >= $4 AND ts >= to_timestamp($3) AND ts < to_timestamp($5)
GROUP BY ALL
ORDER BY app, minute
"""
"""The last day comes from the calls, since meter may be behind; the days before from the rollups, which are fewer."""


@dataclass(frozen=True)
class NoCallsReport(AlertReport):
    """What one run found."""

    apps: int
    silent: tuple[str, ...]
    alerts: tuple[Alert, ...]
    """State changes, to be published."""
    took_s: float
    problem: str = ""
    """Why nothing was judged."""

    @property
    def counts(self) -> str:
        """What was judged, in words."""
        return f"{self.apps} apps, {len(self.silent)} silent"


def no_calls(lake: ReadOnlyLake, until: datetime, settings: Settings) -> NoCallsReport:
    """Return the alerts on apps that stopped calling; nothing is sent.

    Args:
        lake: what has landed.
        until: event time up to which everything has landed.
        settings: when an app counts as stopped.

    Raises:
        LakeUnavailableError: the catalog or a file does not answer.
    """
    began = time.monotonic()
    end = int(until.timestamp()) // 60
    start = end - HISTORY_DAYS * 1440
    first, cut = datetime.fromtimestamp(start * 60, UTC), (end - 1440) // 60 * 3600
    recent = datetime.fromtimestamp(cut, UTC) - timedelta(days=1)
    rows = lake.query(_CALLS, [first.date(), start * 60, cut, recent.date(), end * 60])
    history = _by_app(rows)
    judged = (judge_app(app, *counts, start=start, until=end, settings=settings) for app, counts in history.items())
    found = [silent for silent in judged if silent is not None]
    last = {app: int(minutes[-1]) for app, (minutes, _) in history.items()}
    changes = tuple(_changes(found, open_alerts(lake, DETECTOR), last, end))
    took_s = round(time.monotonic() - began, 3)
    log.info("apps_judged", apps=len(history), silent=len(found), alerts=len(changes), took_s=took_s)
    return NoCallsReport(len(history), tuple(each.app for each in found), changes, took_s)


def _by_app(rows: pa.Table) -> dict[str, tuple[Minutes, npt.NDArray[np.float64]]]:
    """Split rows of app, minute and calls, ordered by app and minute, by app."""
    names = rows.column("app").to_numpy(zero_copy_only=False)
    minutes = rows.column("minute").to_numpy(zero_copy_only=False).astype(np.int64)
    calls = rows.column("calls").to_numpy(zero_copy_only=False).astype(float)
    apps, firsts = np.unique(names.astype(str), return_index=True)
    spans = zip(apps, firsts, np.append(firsts[1:], len(names)), strict=True) if len(apps) else ()
    return {str(app): (minutes[first:end], calls[first:end]) for app, first, end in spans}


def _changes(found: Sequence[StoppedApp], known: Iterable[Alert], last: dict[str, int], end: int) -> list[Alert]:
    before = {alert.series["app"]: alert for alert in known}
    changes = [_firing(each) for each in found if each.app not in before]
    silent = {each.app for each in found}
    for app, alert in before.items():
        called = last.get(app)
        if called is None:
            changes.append(
                _over(alert, end, f"over: app {app} has had no call for {HISTORY_DAYS} days; it is forgotten")
            )
        elif app not in silent and rfc3339(called * _MINUTE_US) >= alert.window.start:
            changes.append(_over(alert, called, f"over: app {app} calls again"))
    return changes


def _firing(each: StoppedApp) -> Alert:
    series = {"app": each.app}
    since, until = each.since * _MINUTE_US, each.until * _MINUTE_US
    minutes = each.until - each.since
    lasted = f"{minutes} min" if minutes < 180 else f"{minutes / 60:.0f} h"
    return Alert(
        id=alert_id(RULE, series, since),
        seq=0,
        fingerprint=fingerprint(RULE, series),
        detector=DETECTOR,
        rule=RULE,
        severity="warning",
        state="firing",
        series=series,
        window=Window(rfc3339(since), rfc3339(until)),
        observed=0.0,
        expected=each.missing,
        score=each.missing / each.needed,
        unit="calls",
        evidence=Evidence(_sql(each)),
        runbook=(
            "Ask the owner of the app whether it is meant to be off; then add it to no_calls.ignore.",
            "Run `tailrace status`: a stage that hangs or is behind is named there. This alert was judged after "
            "everything that had reached Kafka was in the lake.",
            "Look at the app's side: did a release change its emitter, the address of Kafka or its network?",
            'See when each app called: `tailrace sql "SELECT app, max(ts) AS last FROM calls GROUP BY app"`.',
        ),
        detected_at=rfc3339(until),
        title=(
            f"app {each.app} stopped: no call for {lasted}, where its last {HISTORY_DAYS} days make one expect "
            f"{each.missing:,.0f} ({each.per_day:,.0f} a day)"
        ),
    )


def _over(alert: Alert, at: int, title: str) -> Alert:
    end = max(rfc3339(at * _MINUTE_US), alert.window.start)
    return replace(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Window(alert.window.start, end),
        evidence=Evidence(),
        runbook=(),
        detected_at=end,
        title=title,
    )


def _sql(each: StoppedApp) -> str:
    times = (datetime.fromtimestamp(at * 60, UTC) for at in (each.since, each.until))
    first, last = (f"TIMESTAMPTZ '{at:%Y-%m-%d %H:%M:%S}+00'" for at in times)
    return (
        f"SELECT count(*)::DOUBLE AS observed FROM calls WHERE app = {literal(each.app)} "
        f"AND ts >= {first} AND ts < {last} AND day >= DATE '{datetime.fromtimestamp(each.since * 60, UTC):%Y-%m-%d}'"
    )
