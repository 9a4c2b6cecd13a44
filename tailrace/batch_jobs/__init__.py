"""The batch jobs: a file each. To add one: the file, its test, a line in ``JOBS``."""

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

__all__ = ["JOBS", "BatchJob", "Report", "Run", "Stop"]
