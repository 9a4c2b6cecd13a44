"""When a job is due, and what a scheduler that checks it should do. Pure; times are µs UTC.

The arithmetic of cron is APScheduler's. Its own record of past runs is not used. The claim in the lake is used instead:
it survives the process and is the same for all schedulers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from apscheduler.triggers.cron import CronTrigger

from jobs.schedule import Job

if TYPE_CHECKING:  # only for a type: the import would load the libraries of the lake
    from warehouse.claims import Claim

_MINUTE = timedelta(minutes=1)
_RAREST = timedelta(days=6000)
"""29 February is eight years apart where a century between is no leap year; the windows double, to sixteen."""


@dataclass(frozen=True)
class Due:
    """A due time that was not claimed."""

    at: int
    late: bool
    """Found after the job's grace: to be skipped."""


@dataclass(frozen=True)
class JobAction:
    """The action that a scheduler should take for a job now."""

    kind: Literal["begin", "run", "skip", "give_up"]
    """begin: a job seen for the first time, whose earlier due times are ignored. give_up: killed too often, or
    abandoned too long ago.
    """
    due_at: int
    attempt: int


def trigger(job: Job) -> CronTrigger:
    """Return APScheduler's reading of the job's cron line.

    Raises:
        ValueError: it cannot be read.
    """
    return CronTrigger.from_crontab(job.cron, timezone=UTC)


def latest(job: Job, now: int) -> int:
    """Return the last time up to ``now`` at which ``job`` was due.

    APScheduler only looks forward: windows back from now double until one holds a due time, then they are halved.

    Raises:
        ValueError: it never is, such as on 30 February.
    """
    cron, end = trigger(job), _moment(now)
    span = _MINUTE
    while (found := cron.get_next_fire_time(None, end - span)) is None or found > end:
        span *= 2
        if span > _RAREST:
            raise ValueError(f"{job.name} is never due: {job.cron}")
    low, high = found, end
    while high - low > _MINUTE:
        middle = low + (high - low) / 2
        later = cron.get_next_fire_time(None, middle)
        low, high = (later, high) if later is not None and later <= end else (low, middle)
    while (later := cron.get_next_fire_time(None, low + _MINUTE)) is not None and later <= end:
        low = later
    return _micros(low)


def due(job: Job, last_due: int, now: int) -> Due | None:
    """Return the due time to run now: the latest one, where several were missed. None where there is none.

    Args:
        job: the job.
        last_due: the last due time that was claimed, with any outcome.
        now: wall clock. Where it was set back before ``last_due``, nothing is due until it has passed ``last_due``.
    """
    at = latest(job, now)
    return Due(at, late=now - at > job.grace_s * 1_000_000) if at > last_due else None


def decide(job: Job, claim: Claim | None, now: int, *, owner: str) -> JobAction | None:
    """Return what ``owner`` should do about ``job``, given its claim in the lake; None: nothing now.

    ``owner`` holds the lock of its home, so an unfinished claim under its own name is that of a scheduler that has
    ended. A claim of another owner holds until it expires.
    """
    if claim is None:
        return JobAction("begin", latest(job, now), 0)
    unfinished = claim.ended_at is None
    if unfinished and claim.owner != owner and now < claim.lease_until:
        return None
    if found := due(job, claim.due_at, now):
        return JobAction("skip" if found.late else "run", found.at, 1)
    if not unfinished:
        return None
    late = now - claim.due_at > job.grace_s * 1_000_000
    if late or claim.attempt >= job.attempts:
        return JobAction("give_up", claim.due_at, claim.attempt)
    return JobAction("run", claim.due_at, claim.attempt + 1)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1e6, UTC)


def _micros(at: datetime) -> int:
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
