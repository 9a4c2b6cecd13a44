"""``evals``: score a sample of the last week; write and send the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from jobs.evals.settings import week_before
    from pipelines.clock import now_us
    from tailrace.job_runs.weekly_report import weekly

    report = weekly(here, week_before(now_us()), stop=stop)
    return report, report.text()


EVALS = BatchJob(
    Job(
        "evals",
        "11 3 * * mon",
        "score a sample of the calls of the last week, Monday to Sunday; write and send the report",
        3 * 86_400,
        limit_s=6 * 3600,
    ),
    _run,
    page="how-to/evals.md",
)
