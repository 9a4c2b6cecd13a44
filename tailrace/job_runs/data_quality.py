"""From a command's context to a run of data quality: its results on llm.log, its alerts, its pages in the home."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobs.data_quality import DataQualityReport, Outcome, Window, data_quality
from jobs.data_quality.alerts import DETECTOR, data_quality_alerts
from jobs.data_quality.user_suites import FOLDER
from jobs.landed_alerts import open_alerts
from pipelines.clock import now_us
from schemas.alerts import Alert, LogRecord
from tailrace import job_wiring, wiring
from tailrace.cli.context import Context
from tailrace.files import refused
from tailrace.job_runs.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake

SITE = "reports/data_quality"


@dataclass(frozen=True)
class Judged:
    """A run, and what it led to."""

    run: DataQualityReport
    alerts: int
    """State changes of alerts."""

    @property
    def ok(self) -> bool:
        """Whether everything could be judged."""
        return self.run.ok

    def to_json(self) -> str:
        """Encode for ``--json``."""
        return msgspec.json.encode({**msgspec.json.decode(self.run.to_json()), "alerts": self.alerts}).decode()

    def text(self) -> str:
        """Return the run in words."""
        run = self.run
        head = (
            f"{run.since[:16]} to {run.until[11:16]}: {run.failed} failed, {run.passed} passed, {run.unknown} without "
            f"data, in {run.took_s:.1f} s; {self.alerts} alerts; pages: {run.docs}"
        )
        failed = [f"  {each.severity} {each.key}: {found(each)}" for each in run.outcomes if each.state == "failed"]
        return "\n".join([head, *failed, *(f"  not judged: {problem}" for problem in run.problems)])


def judge(here: Context, hour: int | None, *, stop: Callable[[], bool] = lambda: False, publish: bool = True) -> Judged:
    """Judge one hour of the lake.

    Args:
        here: the settings.
        hour: its beginning, µs UTC; None: the last whole one.
        stop: ends the run early.
        publish: whether results go to llm.log and alerts to llm.alerts.
    """
    now = now_us()
    window = Window.before(now) if hour is None else Window.at(hour, now)
    site = here.home.folder("reports") / Path(SITE).name
    with refused("write the pages of data quality", site):
        run = data_quality(
            wiring.lake(here.settings),
            window,
            site=site,
            own=here.home.path / FOLDER,
            settings=job_wiring.data_quality(here.settings),
            stop=stop,
        )
    if not publish or stop():
        return Judged(run, 0)
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        changes = data_quality_alerts(run.outcomes, open_alerts(lake, DETECTOR), window, docs=f"{SITE}/index.html")
    publish_results(here, run, changes, window)
    return Judged(run, len(changes))


def found(outcome: Outcome) -> str:
    """Return what was found, in words."""
    count = outcome.observed if outcome.observed is not None else outcome.failing
    where = f" in {', '.join(outcome.scopes[:5])}" if outcome.scopes else ""
    what = "" if count is None else f"{count:,.6g} {outcome.unit}{where}. "
    return f"{what}Expected: {outcome.description} {outcome.detail}".strip()


def publish_results(here: Context, run: DataQualityReport, alerts: Sequence[Alert], window: Window) -> None:
    """Write results to llm.log and ``alerts`` to llm.alerts; land and notify carry them on."""
    rows = (LogRecord(table="data_quality", at=window.now, row=row) for row in records(run))
    publish(here, alerts, records=rows)


def records(run: DataQualityReport) -> Iterator[dict[str, Any]]:
    """Yield the rows of the view ``data_quality``."""
    for each in run.outcomes:
        yield {
            "id": f"{run.run_id}/{each.key}",
            "run_id": run.run_id,
            "hour": run.since,
            "suite": each.suite,
            "expectation": each.check,
            "state": each.state,
            "severity": each.severity,
            "failing": each.failing,
            "judged": each.judged,
            "observed": each.observed,
            "sql": each.sql if each.state == "failed" else "",
            "detail": each.detail,
        }
