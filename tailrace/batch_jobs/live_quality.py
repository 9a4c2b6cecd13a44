"""``live_quality``: alert on thumbs, edits, scores and retrieval that became worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.job_runs.live_quality import judge

    report = judge(here, stop=stop)
    return report, report.text()


LIVE_QUALITY = BatchJob(
    Job(
        "live_quality",
        "1-56/5 * * * *",
        "alert on thumbs, edits, scores, retrieval scores and citations that are worse than in the two weeks before",
        600,
        limit_s=600,
    ),
    _run,
    page="how-to/live-quality.md",
)
