"""``golden``: refresh the golden set out of what failed in production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from contextlib import closing

    from jobs.evals.scorers import Embedding
    from jobs.golden import refresh
    from pipelines.clock import now_us
    from tailrace import job_wiring, wiring

    with closing(Embedding(wiring.embed(here.settings))) as embedding:
        report = refresh(
            wiring.lake(here.settings),
            now=now_us,
            settings=job_wiring.golden(here.settings),
            stop=stop,
            vectors=embedding.vectors,
        )
    return report, report.text()


GOLDEN = BatchJob(
    Job(
        "golden",
        "23 5 * * mon",
        "refresh the golden set out of what failed in production",
        3 * 86_400,
    ),
    _run,
    page="operate/golden-set.md",
)
