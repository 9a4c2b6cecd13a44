"""The batch jobs: a file each. To add one: the file, its test, a line in ``JOBS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs import (
    budgets,
    data_quality,
    duplicates,
    evals,
    golden,
    live_quality,
    maintain,
    no_calls,
    novelty,
    prices,
)
from tailrace.batch_jobs.base import BatchJob, Report, Run, Stop

if TYPE_CHECKING:
    from tailrace.settings.model import Settings

JOBS: tuple[BatchJob, ...] = (
    maintain.MAINTAIN,
    maintain.COMPACT,
    duplicates.DUPLICATES,
    prices.PRICES,
    golden.GOLDEN,
    evals.EVALS,
    data_quality.DATA_QUALITY,
    budgets.BUDGETS,
    no_calls.NO_CALLS,
    novelty.NOVELTY,
    live_quality.LIVE_QUALITY,
)


def on_timetable(settings: Settings) -> tuple[Job, ...]:
    """Return the lines of the timetable: one for every job that these settings enable."""
    return tuple(job.line for job in JOBS if job.wanted(settings))


__all__ = ["JOBS", "BatchJob", "Report", "Run", "Stop", "on_timetable"]
