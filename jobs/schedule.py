"""The timetable: every batch job by name, when it is due, and how long it may take. ``jobs/due.py`` reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One line of the timetable."""

    name: str
    cron: str
    """Five fields, UTC. Days of the week by name: APScheduler 3 counts them from Monday, crontab from Sunday."""
    does: str
    grace_s: int
    """A run that was missed is made up once if it is found within so many seconds."""
    limit_s: int = 2700
    """A run is ended after so many seconds; nobody else takes the job for so long and a minute, unless its owner is
    known dead or handed it back."""
    attempts: int = 3
    """So often a due time is begun at most, where schedulers are killed in the middle of it; an end that they were
    asked for does not count."""


MAINTAIN = Job(
    "maintain",
    "17 * * * *",
    "merge small files, drop old days, expire snapshots, clean up after killed processes",
    3600,
)
COMPACT = Job(
    "compact",
    "2,32,47 * * * *",
    "merge small files and expire snapshots, between two runs of maintain",
    900,
)
DUPLICATES = Job(
    "duplicates",
    "52 * * * *",
    "find events that came again too late, or elsewhere, for land to see; what is found no longer counts",
    3600,
)
PRICES = Job(
    "prices",
    "37 4 * * *",
    "announce the price book where it changed; price what was unpriced, or by a price that is known better by now",
    12 * 3600,
)
GOLDEN = Job(
    "golden",
    "23 5 * * mon",
    "refresh the golden set out of what failed in production",
    3 * 86_400,
)
EVALS = Job(
    "evals",
    "11 3 * * mon",
    "score a sample of the calls of the last week, Monday to Sunday; write and send the report",
    3 * 86_400,
    limit_s=6 * 3600,
)
DATA_QUALITY = Job(
    "data_quality",
    "12 * * * *",
    "judge what landed in the last whole hour with Great Expectations; alert on what fails; write Data Docs",
    3600,
    limit_s=1800,
)
BUDGETS = Job(
    "budgets",
    "*/5 * * * *",
    "compare what was spent with the budgets of the settings; alert at 50, 80 and 100 %",
    600,
    limit_s=600,
)
JOBS = (MAINTAIN, COMPACT, DUPLICATES, PRICES, GOLDEN, EVALS, DATA_QUALITY, BUDGETS)
