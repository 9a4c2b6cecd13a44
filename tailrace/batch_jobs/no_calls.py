"""``no_calls``: alert on apps that stopped calling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.job_runs.no_calls import judge

    report = judge(here, stop=stop)
    return report, report.text()


NO_CALLS = BatchJob(
    Job(
        "no_calls",
        "3-58/5 * * * *",
        "alert on apps that stopped: no call where their last 14 days make one expect many",
        600,
        limit_s=600,
    ),
    _run,
    page="how-to/silent-apps.md",
)
