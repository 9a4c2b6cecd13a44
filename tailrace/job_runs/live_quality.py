"""From a command's context to the alerts on labels that are worse: earlier alerts land first, new ones go out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from jobs.live_quality import LiveQualityReport, Settings, live_quality
from pipelines.clock import now_us
from schemas import faults
from schemas.topics import ALERTS
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.job_runs.behind import KNOWN_BEFORE, WAIT_S, behind
from tailrace.job_runs.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake


def judge(here: Context, *, stop: Callable[[], bool] = lambda: False, wait_s: float = WAIT_S) -> LiveQualityReport:
    """Judge the labels of all apps now, and publish the alerts; nothing where earlier alerts have not landed."""
    settings = Settings(**here.settings.live_quality.model_dump())
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        if late := behind(here, lake, ALERTS, stop, wait_s):
            return LiveQualityReport(0, (), 0.0, late)
        report = live_quality(lake, datetime.fromtimestamp(now_us() / 1e6, UTC) - KNOWN_BEFORE, settings)
    if not stop():
        publish(here, report.alerts)
        faults.point("live_quality.after_publish")
    return report
