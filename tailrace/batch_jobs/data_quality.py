"""``data_quality``: judge the rows of the last whole hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.job_runs.data_quality import judge

    report = judge(here, None, stop=stop)
    return report, report.text()


DATA_QUALITY = BatchJob(
    Job(
        "data_quality",
        "12 * * * *",
        "judge what landed in the last whole hour with Great Expectations; alert on what fails; write Data Docs",
        3600,
        limit_s=1800,
    ),
    _run,
    page="how-to/data-quality.md",
)
