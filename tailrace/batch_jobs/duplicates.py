"""``duplicates``: find events that came again too late, or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from jobs.duplicates import duplicates
    from pipelines.clock import now_us
    from tailrace import wiring

    report = duplicates(wiring.lake(here.settings), now=now_us, stop=stop)
    text = (
        f"ok in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: {report.positions} positions "
        f"compared; {report.late} late duplicates, {report.conflicts} that contradict the event that counts"
    )
    return report, text


DUPLICATES = BatchJob(
    Job(
        "duplicates",
        "52 * * * *",
        "find events that came again too late, or elsewhere, for land to see; what is found no longer counts",
        3600,
    ),
    _run,
    page="operate/duplicates.md",
)
