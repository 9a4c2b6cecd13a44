"""From a command's context to the apps that stopped: what has landed until when, and the alerts on llm.alerts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from jobs.no_calls import NoCallsReport, Settings, no_calls
from pipelines.clock import now_us
from pipelines.kafka import Admin
from schemas.topics import EVENTS
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake

PATIENCE_S = 60.0
"""For land to land what had reached Kafka when the run began."""
DELAY = timedelta(minutes=2)
"""An emitter holds events for a moment, and tries again while Kafka is away."""
_LEDGER = "SELECT partition, max(next_offset) AS next FROM ledger WHERE topic = $1 GROUP BY partition"


def judge(here: Context, *, stop: Callable[[], bool] = lambda: False, patience_s: float = PATIENCE_S) -> NoCallsReport:
    """Judge all apps up to now, and publish what there is to tell. Judges nothing where land is behind.

    An app whose events wait in Kafka is not silent, so the run waits until they have landed.
    """
    section = here.settings.no_calls
    settings = Settings(ignore=section.ignore, longest=section.longest, min_gap=section.min_gap_min)
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        until = datetime.fromtimestamp(now_us() / 1e6, UTC) - DELAY
        if behind := _behind(here, lake, stop, patience_s):
            return NoCallsReport(0, (), (), 0.0, behind)
        report = no_calls(lake, until, settings)
    if not stop():
        publish(here, report.alerts)
    return report


def _behind(here: Context, lake: ReadOnlyLake, stop: Callable[[], bool], patience_s: float) -> str:
    """Wait until what is in Kafka has landed; return what is missing, in words."""
    ends = Admin(wiring.kafka(here.settings, here.bootstrap_servers)).end_offsets(EVENTS)
    deadline = time.monotonic() + patience_s
    while True:
        landed = {row["partition"]: row["next"] for row in lake.query(_LEDGER, [EVENTS]).to_pylist()}
        missing = {p: end - landed.get(p, 0) for p, end in ends.items() if landed.get(p, 0) < end}
        if not missing:
            return ""
        if stop() or time.monotonic() > deadline:
            return f"{sum(missing.values()):,} records of {EVENTS} have not landed yet; `tailrace status` says why"
        time.sleep(1.0)
