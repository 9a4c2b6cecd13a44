"""``maintain`` and ``compact``: merge small files, drop old days, expire snapshots."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop, *, clean: bool = True) -> tuple[Report, str]:
    from jobs.maintain import maintain
    from pipelines.clock import now_us
    from tailrace import job_wiring, wiring

    settings = replace(job_wiring.maintain(here.settings), clean=clean)
    report = maintain(wiring.lake(here.settings), now=now_us, settings=settings, stop=stop)
    merged = sum(m.files_before - m.files_after for m in report.merged)
    first = (
        f"{'ok' if report.ok else 'FAILED'} in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: "
        f"{merged} files merged away, {report.files} left; {sum(report.rows_dropped.values())} old rows dropped; "
        f"{report.snapshots_expired} snapshots expired; {report.old_files_removed} old files and "
        f"{report.orphans_removed} of {report.orphans_found} orphans deleted"
    )
    return report, "\n  ".join([first, *report.problems])


MAINTAIN = BatchJob(
    Job(
        "maintain",
        "17 * * * *",
        "merge small files, drop old days, expire snapshots, clean up after killed processes",
        3600,
    ),
    _run,
    page="operate/maintain.md",
)
COMPACT = BatchJob(
    Job(
        "compact",
        "2,32,47 * * * *",
        "merge small files and expire snapshots, between two runs of maintain",
        900,
    ),
    partial(_run, clean=False),
    page="operate/maintain.md",
)
