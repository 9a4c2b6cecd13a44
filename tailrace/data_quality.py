"""From a command's context to a run of data quality: its results on llm.log, its alerts, its pages in the home."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobs.data_quality import DataQualityReport, Outcome, Window, data_quality
from jobs.data_quality.alerts import DETECTOR, data_quality_alerts
from jobs.data_quality.own import FOLDER
from pipelines.kafka import Producer
from schemas.alerts import Alert, LogRecord
from schemas.topics import ALERTS, LOG
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.files import refused
from tailrace.stages import wall
from warehouse.readonly import ReadOnlyLake

SITE = "reports/data_quality"
_OPEN = """
SELECT alert FROM alerts WHERE detector = $1 QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC, _offset) = 1
"""
_FLUSH_S = 30.0


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
    now = wall()
    window = Window.before(now) if hour is None else Window.at(hour, now)
    site = here.home.folder("reports") / Path(SITE).name
    with refused("write the pages of data quality", site):
        run = data_quality(
            wiring.lake(here.settings),
            window,
            site=site,
            own=here.home.path / FOLDER,
            settings=wiring.data_quality(here.settings),
            stop=stop,
        )
    if not publish or stop():
        return Judged(run, 0)
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        changes = data_quality_alerts(run.outcomes, open_alerts(lake), window, docs=f"{SITE}/index.html")
    publish_results(here, run, changes, window)
    return Judged(run, len(changes))


def open_alerts(lake: ReadOnlyLake) -> list[Alert]:
    """Return the newest state of each alert of data quality that is not resolved."""
    found_ = [Alert.from_json(row["alert"].encode()) for row in lake.query(_OPEN, [DETECTOR]).to_pylist()]
    return [alert for alert in found_ if alert.state != "resolved"]


def found(outcome: Outcome) -> str:
    """Return what was found, in words."""
    count = outcome.observed if outcome.observed is not None else outcome.failing
    where = f" in {', '.join(outcome.scopes[:5])}" if outcome.scopes else ""
    what = "" if count is None else f"{count:,.6g} {outcome.unit}{where}. "
    return f"{what}Expected: {outcome.says} {outcome.detail}".strip()


def publish_results(here: Context, run: DataQualityReport, alerts: Sequence[Alert], window: Window) -> None:
    """Write results to llm.log and ``alerts`` to llm.alerts; land and notify carry them on."""
    with closing(Producer(wiring.kafka(here.settings, here.bootstrap_servers))) as producer:
        for row in records(run):
            producer.send(LOG, msgspec.json.encode(LogRecord(table="data_quality", at=window.now, row=row)))
        for alert in alerts:
            producer.send(ALERTS, alert.to_json(), alert.fingerprint.encode())
        producer.flush(_FLUSH_S)


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
