"""The timetable: every batch job by name, when it is due, and what runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One line of the timetable."""

    name: str
    cron: str
    """Five fields, UTC."""
    does: str
    grace_s: int
    """A run that was missed is made up once if it is found within so many seconds."""


MAINTAIN = Job(
    "maintain",
    "17 * * * *",
    "merge small files, drop old days, expire snapshots, clean up after killed processes",
    3600,
)
JOBS = (MAINTAIN,)
