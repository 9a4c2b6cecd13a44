"""From a command's context to the notes on what is new: the alerts of earlier runs land first, new ones go out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from jobs.novelty import NoveltyReport, Settings, novelty, read_pairs
from pipelines.clock import now_us
from schemas import faults
from schemas.topics import ALERTS
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.job_runs.behind import KNOWN_BEFORE, WAIT_S, behind
from tailrace.job_runs.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake


def judge(here: Context, *, stop: Callable[[], bool] = lambda: False, wait_s: float = WAIT_S) -> NoveltyReport:
    """Judge all apps now, and publish the alerts.

    Judges nothing where alerts have not landed: a run that ended between publishing and landing would be repeated.

    Raises:
        SettingsError: the file of allowed pairs is wrong.
    """
    section = here.settings.novelty
    pairs = read_pairs(section.allowed_pairs)
    fields = {name: getattr(section, name) for name in type(section).model_fields if name != "allowed_pairs"}
    settings = Settings(**fields)
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        if late := behind(here, lake, ALERTS, stop, wait_s):
            return NoveltyReport((), (), 0.0, late)
        now = datetime.fromtimestamp(now_us() / 1e6, UTC) - KNOWN_BEFORE
        report = novelty(lake, now, settings, pairs, stop=stop)
    if not stop():
        publish(here, report.alerts)
        faults.point("novelty.after_publish")
    return report
