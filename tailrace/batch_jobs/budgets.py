"""``budgets``: compare what was spent with the budgets of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.job_runs.budgets import judge

    report = judge(here, stop=stop)
    return report, report.text()


BUDGETS = BatchJob(
    Job(
        "budgets",
        "*/5 * * * *",
        "compare what was spent with the budgets of the settings; alert at 50, 80 and 100 %",
        600,
        limit_s=600,
    ),
    _run,
    wanted=lambda settings: bool(settings.budgets),
    page="how-to/budgets.md",
)
