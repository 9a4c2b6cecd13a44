"""The weekly report as files under the home, and its way to the channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from jobs.alert_quality import AlertQuality
from jobs.evals import operations
from jobs.evals.judge import JUDGE_APP
from jobs.evals.markdown import to_json, to_markdown
from jobs.evals.message import report_message
from jobs.evals.operations import Operations
from jobs.evals.quality_alerts import DETECTOR, quality_alerts
from jobs.evals.rates import SUCCESS
from jobs.evals.report import EvalReport
from jobs.evals.summary import Summary
from jobs.evals.trend import Week, trend_of
from jobs.landed_alerts import open_alerts
from pipelines.clock import now_us
from pipelines.notify.reports import Delivered
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.cli.lake import open_lake
from tailrace.files import refused
from tailrace.job_runs import evals as runs
from tailrace.job_runs.alert_quality import alert_quality
from tailrace.job_runs.publish_alerts import publish
from tailrace.job_runs.report_channels import to_channels
from warehouse.evals.scores import texts, trend
from warehouse.query.readonly import ReadOnlyLake

WEEKS = 12
"""Of the chart of means over time."""


@dataclass(frozen=True)
class WeeklyResult:
    """One report: its numbers and what the page shows beside them."""

    summary: Summary
    calls: Mapping[str, Mapping[str, Any]]
    """The worst calls by id, with their texts."""
    operations: tuple[Operations, ...]
    success: str
    """Scorer that decides which answers are good; empty: none was run."""
    trend: tuple[Week, ...] = ()
    """Means of earlier runs and of this one."""
    alerts: AlertQuality | None = None
    """The verdicts of people on the alerts of the last weeks; None: there were none."""


@dataclass(frozen=True)
class Weekly:
    """What the weekly job did."""

    run: EvalReport
    page: str
    """Path of the report; empty: none was made."""
    sent: int
    """Channels that have it."""
    alerts: int
    """State changes of quality alerts."""
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the calls were scored, and the report reached every channel."""
        return self.run.ok and not self.problems

    def to_json(self) -> str:
        """Encode for ``tailrace job run evals --json``."""
        facts = {"page": self.page, "sent": self.sent, "alerts": self.alerts, "problems": self.problems}
        return msgspec.json.encode({**asdict(self.run), **facts, "ok": self.ok}).decode()

    def text(self) -> str:
        """Return the report in words."""
        lines = [self.run.text()]
        if self.page:
            lines.append(f"report: {self.page}; sent to {self.sent} channels; {self.alerts} alerts")
        return "\n".join([*lines, *self.problems])


def weekly(here: Context, days: runs.Days, *, stop: Callable[[], bool]) -> Weekly:
    """Score the calls of ``days``, then write and send the report."""
    run = runs.run_evals(here, days, stop=stop)
    if not run.done or not run.sampled:
        return Weekly(run, "", 0, 0, ())
    if not runs.landed(here, stop=stop):
        return Weekly(run, "", 0, 0, ("no report: the scores have not landed yet; run the job again",))
    with open_lake(here) as lake:
        made = make(here, lake, days, backtest=True)
        changes = quality_alerts(made.summary, open_alerts(lake, DETECTOR), now=now_us())
    page = write(here, made)
    publish(here, changes)
    sent = send(here, made, page)
    failed = tuple(f"channel {each.channel}: {each.detail}" for each in sent if not each.ok)
    return Weekly(run, str(page), len(sent) - len(failed), len(changes), failed)


def make(here: Context, lake: ReadOnlyLake, days: runs.Days, *, backtest: bool = False) -> WeeklyResult:
    """Read what a report of ``days`` shows; with ``backtest`` judge proposed thresholds, where that is not too much.

    Raises:
        NoScoresError: no scores of these days have landed.
    """
    summary = runs.summary_of(here, lake, days)
    length = days[1] - days[0] + timedelta(days=1)
    now = lake.query(operations.SQL, [*days, JUDGE_APP]).to_pylist()
    before = lake.query(operations.SQL, [days[0] - length, days[1] - length, JUDGE_APP]).to_pylist()
    good, good_before = _shares(summary)
    success = next((rate.scorer for rate in summary.rates if rate.name == SUCCESS), "")
    calls = texts(lake, [call.call_id for call in summary.worst], *days)
    found = operations.compare(now, before, good, good_before)
    alerts = alert_quality(here, lake, days[1], now=now_us(), backtest=backtest)
    weeks = trend_of(trend(lake, summary.period.run_id), summary, WEEKS)
    return WeeklyResult(summary, calls, found, success, weeks, alerts if alerts.rules else None)


def html(made: WeeklyResult) -> str:
    """Return the report as one page."""
    from jobs.evals.page import to_html

    at = f"{datetime.fromtimestamp(now_us() / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
    return to_html(
        made.summary,
        made.calls,
        made.operations,
        success_scorer=made.success,
        made_at=at,
        trend=made.trend,
        alerts=made.alerts,
    )


def markdown(made: WeeklyResult) -> str:
    """Return the report as Markdown."""
    return to_markdown(made.summary, made.calls, made.operations, made.alerts)


def write(here: Context, made: WeeklyResult) -> Path:
    """Write page, Markdown, JSON and picture under the home; return the page. They hold texts of calls: mode 0600.

    Raises:
        FileRefusedError: the folder cannot be written.
    """
    from jobs.evals import charts

    period = made.summary.period
    folder = here.home.folder(f"reports/quality/{period.since}_{period.until}")
    files = {
        "report.md": markdown(made).encode(),
        "report.json": to_json(made.summary, made.alerts).encode(),
        "scores.png": charts.scores_png(made.summary),
        "report.html": html(made).encode("utf-8", "replace"),
    }
    with refused("write the report", folder):
        for name, content in files.items():
            draft = folder / f".{name}.tmp"
            draft.touch(mode=0o600)
            draft.write_bytes(content)
            draft.replace(folder / name)
    return folder / "report.html"


def send(here: Context, made: WeeklyResult, page: Path) -> Sequence[Delivered]:
    """Send the summary to the channels of ``alert_channels`` without a route."""
    period = made.summary.period
    where = (
        f"The whole report: tailrace eval report --from {period.since} --to {period.until}, or {page.name} in the home."
    )
    image = (page.parent / "scores.png").read_bytes()
    more = [made.alerts.sentence()] if made.alerts else []
    message = report_message(made.summary, where=where, image=image, more=more)
    return to_channels(message, wiring.notify(here.settings))


def _shares(summary: Summary) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Return (dimension, slice) -> share of good answers, now and before."""
    found = [rate for rate in summary.rates if rate.name == SUCCESS]
    now = {(rate.dimension, rate.slice): rate.now.mean for rate in found if rate.now.mean is not None}
    old = [(rate, rate.before.mean) for rate in found if rate.before and rate.before.mean is not None]
    return now, {(rate.dimension, rate.slice): mean for rate, mean in old}
