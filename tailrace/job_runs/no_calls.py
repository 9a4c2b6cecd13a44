"""From a command's context to the apps that stopped: what has landed until when, and the alerts on llm.alerts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from jobs.no_calls import NoCallsReport, Settings, no_calls
from pipelines.clock import now_us
from schemas.topics import EVENTS
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.job_runs.behind import WAIT_S, behind
from tailrace.job_runs.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake

DELAY = timedelta(minutes=2)
"""An emitter holds events for a moment, and tries again while Kafka is away."""


def judge(here: Context, *, stop: Callable[[], bool] = lambda: False, wait_s: float = WAIT_S) -> NoCallsReport:
    """Judge all apps up to now, and publish their alerts. Judges nothing where land is behind.

    An app whose events wait in Kafka has not stopped, so the run waits until they have landed.
    """
    section = here.settings.no_calls
    settings = Settings(ignore=section.ignore, longest=section.longest, min_gap=section.min_gap_min)
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        until = datetime.fromtimestamp(now_us() / 1e6, UTC) - DELAY
        if late := behind(here, lake, EVENTS, stop, wait_s):
            return NoCallsReport(0, (), (), 0.0, late)
        report = no_calls(lake, until, settings)
    if not stop():
        publish(here, report.alerts)
    return report
