"""One check of a job: read its claim, decide, claim, run, record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.due import JobAction, decide
from jobs.process import Ended, JobNotStartedError, run_to_end
from jobs.runs import RunLog
from jobs.schedule import Job
from pipelines.kafka import KafkaConfig
from warehouse import claims
from warehouse.claims import Claim
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

_MARGIN_US = 60_000_000
"""A claim outlives its run by this time: 0.2 s until the end is seen, 3 s from SIGTERM to SIGKILL, clocks of two hosts
that differ. What passes before the run starts (a commit is tried for 30 s) is the run's: both count from the claim."""


@dataclass(frozen=True)
class ScheduleConfig:
    """The configuration of the scheduler."""

    kafka: KafkaConfig
    lake: LakeConfig
    folder: Path
    """Has the lock that shows whether another scheduler of this home runs."""
    command: Callable[[str], Sequence[str]]
    """From the name of a job to the process that runs it and prints its report as JSON."""
    jobs: tuple[Job, ...]
    first_check_s: float = 5.0
    """Leave the processor to the stages that people wait for."""


class JobRunner:
    """Runs jobs for one scheduler, and caches their claims. One thread per job."""

    def __init__(
        self, config: ScheduleConfig, *, owner: str, now: Callable[[], int], ending: Callable[[], bool]
    ) -> None:
        self.runs = RunLog(config.kafka)
        self._config, self._owner, self._now, self._ending = config, owner, now, ending
        self._known: dict[str, Claim] = {}
        self._ended: dict[str, Claim] = {}
        """Runs that ended while the lake was away: as the lake still has them."""

    def wanted(self, job: Job) -> bool:
        """Whether a check would lead to an action, judged without reading the lake."""
        known = self._known.get(job.name)
        return (
            known is None or job.name in self._ended or decide(job, known, self._now(), owner=self._owner) is not None
        )

    def last(self, jobs: Sequence[Job]) -> list[tuple[str, int, int | None, str | None]]:
        """Return (name, last due time taken, its end, state of the last run that ended here) of ``jobs``; µs UTC."""
        claims_ = [(job.name, claim) for job in jobs if (claim := self._known.get(job.name)) is not None]
        return [(name, claim.due_at, claim.ended_at, self.runs.last.get(name)) for name, claim in claims_]

    def has_claim(self, job: Job) -> bool:
        """Whether the claim of ``job`` was read from the lake."""
        return job.name in self._known

    def check(self, job: Job) -> None:
        """Do what is due for ``job`` now; return when it is done.

        Raises:
            LakeMissingError: there is no lake yet.
            RetryableError: the lake does not answer, or no process can be made; look again.
        """
        self._write_end(job)
        was = claims.read(self._config.lake, job.name)
        if was:
            self._known[job.name] = was
        action = decide(job, was, self._now(), owner=self._owner)
        if action is None:
            return
        mine = self._claim(job, action)
        if not self._replace_claim(was, mine):
            self._known.pop(job.name, None)  # another scheduler changed it: its state is unknown
            return
        self._known[job.name] = mine
        if action.kind == "run":
            self._run(job, mine)
        elif action.kind == "skip":
            self.runs.emit(
                mine, "skipped", mine.claimed_at, detail=f"found later than {job.grace_s} s after it was due"
            )
        elif action.kind == "give_up":
            self.runs.emit(mine, "failed", mine.claimed_at, detail=f"given up: {_why_given_up(job, mine)}")

    def _claim(self, job: Job, action: JobAction) -> Claim:
        at = self._now()
        if action.kind == "run":
            until = at + job.limit_s * 1_000_000 + _MARGIN_US
            return Claim(job.name, action.due_at, action.attempt, self._owner, at, until, None)
        return Claim(job.name, action.due_at, action.attempt, self._owner, at, at, at)

    def _run(self, job: Job, mine: Claim) -> None:
        try:
            ended = run_to_end(
                self._config.command(job.name),
                limit_s=job.limit_s,
                ending=self._ending,
                overdue=lambda: self._now() >= mine.lease_until - _MARGIN_US,
                started=lambda: self.runs.emit(mine, "started", mine.claimed_at),
            )
        except JobNotStartedError:
            self._release_claim(mine)
            raise
        at = self._now()
        if ended.why == "stopped":
            self._emit_end(mine, ended, at)  # first: what stops us may not wait for the lake
            self._release_claim(mine)
            return
        self._ended[job.name] = mine
        self._known[job.name] = replace(mine, ended_at=at)
        try:
            self._write_end(job)
        finally:
            self._emit_end(mine, ended, at)

    def _release_claim(self, mine: Claim) -> None:
        """Release the due time to the next scheduler, of any home, as if this attempt had not begun."""
        open_again = replace(mine, attempt=mine.attempt - 1, lease_until=self._now())
        if self._replace_claim(mine, open_again):
            self._known[mine.job] = open_again
        else:
            self._known.pop(mine.job, None)

    def _emit_end(self, mine: Claim, ended: Ended, at: int) -> None:
        self.runs.emit(mine, "done" if ended.ok else "failed", at, detail=ended.detail, report=ended.report)

    def _write_end(self, job: Job) -> None:
        if open_claim := self._ended.get(job.name):
            self._replace_claim(open_claim, self._known[job.name])
            del self._ended[job.name]

    def _replace_claim(self, was: Claim | None, new: Claim) -> bool:
        with Lake.open(self._config.lake, now=self._now, lander=False, create=False) as lake:
            return claims.move(lake, was, new)


def _why_given_up(job: Job, claim: Claim) -> str:
    if claim.attempt >= job.attempts:
        return f"killed in attempt {claim.attempt}"
    return f"not done {job.grace_s} s after it was due"
