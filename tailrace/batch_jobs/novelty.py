"""``novelty``: a note on what an app never did before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.job_runs.novelty import judge

    report = judge(here, stop=stop)
    return report, report.text()


NOVELTY = BatchJob(
    Job(
        "novelty",
        "4-59/10 * * * *",
        "note what an app never did before: a model, an answering model, a provider, a prompt version, a tool",
        600,
        limit_s=600,
    ),
    _run,
    page="how-to/what-changed.md",
)
