"""A line of the timetable: when a batch job is due, and how long it may take. ``jobs/due.py`` reads it."""

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
    """A missed run is made up once if it is found within this number of seconds."""
    limit_s: int = 2700
    """A run is ended after this number of seconds; no other scheduler takes the job for that and a minute, unless its
    owner is known dead or handed it back."""
    attempts: int = 3
    """So often a due time is begun at most, where schedulers are killed in the middle of it; an end that they were
    asked for does not count."""
