"""What happens when somebody looks at a job: read its claim, decide, claim, run, record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.due import Turn, decide
from jobs.process import Ended, run_to_end
from jobs.runs import RunLog
from jobs.schedule import JOBS, Job
from pipelines.kafka import KafkaConfig
from warehouse import claims
from warehouse.claims import Claim
from warehouse.connect import LakeConfig
from warehouse.lake import Lake


@dataclass(frozen=True)
class ScheduleConfig:
    """What the scheduler must be told."""

    kafka: KafkaConfig
    lake: LakeConfig
    folder: Path
    """Holds the lock that says whether another scheduler of this home lives."""
    command: Callable[[str], Sequence[str]]
    """From the name of a job to the process that runs it and prints its report as JSON."""
    jobs: tuple[Job, ...] = JOBS
    first_look_s: float = 5.0
    """Leave the processor to the stages that people wait for."""


class Desk:
    """One scheduler's knowledge of the claims. One thread a job."""

    def __init__(
        self, config: ScheduleConfig, *, owner: str, now: Callable[[], int], ending: Callable[[], bool]
    ) -> None:
        self.runs = RunLog(config.kafka)
        self._config, self._owner, self._now, self._ending = config, owner, now, ending
        self._known: dict[str, Claim] = {}
        self._ended: dict[str, Claim] = {}
        """Runs that ended while the lake was away: as the lake still has them."""

    def wanted(self, job: Job) -> bool:
        """Whether a look would lead to something, as far as is known without asking the lake."""
        known = self._known.get(job.name)
        return (
            known is None or job.name in self._ended or decide(job, known, self._now(), owner=self._owner) is not None
        )

    def knows(self, job: Job) -> bool:
        """Whether the lake has been asked about ``job``."""
        return job.name in self._known

    def look(self, job: Job) -> None:
        """Do what is to be done about ``job`` now; returns when it is done.

        Raises:
            LakeMissingError: there is no lake yet.
            RetryableError: the lake does not answer; look again.
        """
        self._write_end(job)
        was = claims.read(self._config.lake, job.name)
        if was:
            self._known[job.name] = was
        turn = decide(job, was, self._now(), owner=self._owner)
        if turn is None:
            return
        mine = self._claim(job, turn)
        if not self._move(was, mine):
            self._known.pop(job.name, None)  # by another: who knows what
            return
        self._known[job.name] = mine
        if turn.kind == "run":
            self._run(job, mine)
        elif turn.kind == "skip":
            self.runs.say(mine, "skipped", mine.claimed_at, detail=f"found later than {job.grace_s} s after it was due")
        elif turn.kind == "give_up":
            self.runs.say(mine, "failed", mine.claimed_at, detail=f"given up: killed in attempt {mine.attempt}")

    def _claim(self, job: Job, turn: Turn) -> Claim:
        at = self._now()
        if turn.kind == "run":
            return Claim(job.name, turn.due_at, turn.attempt, self._owner, at, at + job.limit_s * 1_000_000, None)
        return Claim(job.name, turn.due_at, turn.attempt, self._owner, at, at, at)

    def _run(self, job: Job, mine: Claim) -> None:
        self.runs.say(mine, "started", mine.claimed_at)
        ended = run_to_end(self._config.command(job.name), limit_s=job.limit_s, ending=self._ending)
        at = self._now()
        try:
            if ended.why != "stopped":  # else it stays open, and whoever starts here next takes it up
                self._ended[job.name] = mine
                self._known[job.name] = replace(mine, ended_at=at)
                self._write_end(job)
        finally:
            self._say_end(mine, ended, at)

    def _say_end(self, mine: Claim, ended: Ended, at: int) -> None:
        self.runs.say(mine, "done" if ended.ok else "failed", at, detail=ended.detail, report=ended.report)

    def _write_end(self, job: Job) -> None:
        if open_claim := self._ended.get(job.name):
            self._move(open_claim, self._known[job.name])
            del self._ended[job.name]

    def _move(self, was: Claim | None, new: Claim) -> bool:
        with Lake.open(self._config.lake, now=self._now, lander=False) as lake:
            return claims.move(lake, was, new)
