"""The stage ``schedule``: APScheduler triggers the check of a job, the claim in the lake decides which copy runs it.

APScheduler waits on a clock that stops while a laptop is suspended and that does not follow changes of the wall clock.
So the loop of the heartbeat also checks, once a second and without the lake, whether a due time has passed, and then
makes APScheduler fire immediately. An unnecessary check finds nothing to do.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from jobs.due import trigger
from jobs.job_runner import JobRunner, ScheduleConfig
from jobs.schedule import Job
from schemas.errors import FatalError, RetryableError
from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState
from warehouse.errors import LakeMissingError
from warehouse.storage.locks import open_lock_file, try_lock

log = structlog.get_logger()
_HEARTBEAT_S = 1.0
_ASK_AGAIN_S = 5.0
"""Between two looks at a job that led to nothing though they should have: no lake yet, or it does not answer."""


class SchedulerRunsError(RetryableError):
    """Another scheduler of this home runs; this one waits."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another scheduler holds {path}; this one takes over when it ends")


def run(
    config: ScheduleConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int],
    heartbeat: HeartbeatCallback,
) -> None:
    """Run every job when it is due, until ``stop``.

    Raises:
        SchedulerRunsError: another one runs in this home; try again.
        FatalError: the lake is newer, or refuses.
    """
    with owned(config.folder) as owner:
        session = SchedulerSession(config, owner, now)
        try:
            while not stop.is_set():
                session.step()
                heartbeat(session.facts())
                stop.wait(_HEARTBEAT_S)
        finally:
            session.close()


@contextmanager
def owned(folder: Path) -> Iterator[str]:
    """Hold the lock of the only scheduler of ``folder``; yields its name, which is the same for each.

    The kernel releases the lock when its process ends: an open claim under this name then has no owner.

    Raises:
        SchedulerRunsError: another process holds it.
    """
    path = folder / "schedule.lock"
    file = open_lock_file(path)
    try:
        if not try_lock(file):
            raise SchedulerRunsError(path)
        if not (name := os.pread(file, 64, 0).decode()):
            # drawn once for a home: two machines may have the same name and the same paths
            name = f"{socket.gethostname()[:32]}:{uuid.uuid4().hex[:12]}"
            os.pwrite(file, name.encode(), 0)
        yield name
    finally:
        os.close(file)


class SchedulerSession:
    """One session of the stage: APScheduler, its threads, and their errors."""

    def __init__(self, config: ScheduleConfig, owner: str, now: Callable[[], int]) -> None:
        self._jobs = config.jobs
        self._ending = threading.Event()
        self._runner = JobRunner(config, owner=owner, now=now, ending=self._ending.is_set)
        self._busy: set[str] = set()
        self._trouble: dict[str, str] = {}
        self._fatal: list[FatalError] = []
        first = time.monotonic() + config.first_check_s
        self._ask_at = {job.name: first for job in config.jobs}
        self._scheduler = BackgroundScheduler(
            timezone=UTC, executors={"default": ThreadPoolExecutor(len(config.jobs))}, job_defaults={"coalesce": True}
        )
        self._scheduler.add_listener(self._on_job_missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._on_job_error, EVENT_JOB_ERROR)
        for job in config.jobs:
            self._scheduler.add_job(
                self._look, trigger(job), (job,), id=job.name, max_instances=1, misfire_grace_time=job.grace_s
            )
        self._scheduler.start()
        log.info("schedule_started", owner=owner, jobs=[job.name for job in config.jobs])

    def step(self) -> None:
        """Trigger the checks that are overdue. Raises fatal errors of earlier checks."""
        if self._fatal:
            raise self._fatal[0]
        for job in self._jobs:
            if job.name not in self._busy and time.monotonic() >= self._ask_at[job.name] and self._runner.wanted(job):
                self._fire(job.name)
        self._runner.runs.flush()

    def facts(self) -> StageFacts:
        """For status and metrics."""
        known = [job for job in self._jobs if self._runner.has_claim(job)]
        ended = {f"jobs_{state}": count for state, count in self._runner.runs.emitted.items()}
        return StageFacts(
            lag=sum(self._runner.wanted(job) for job in known if job.name not in self._busy),
            state=StageState.WAITING if self._trouble else StageState.RUNNING,
            error=next(iter(self._trouble.values()), None),
            progress=sum(self._runner.runs.emitted.values()),
            numbers={"jobs_known": len(known), "jobs_running": len(self._busy), **ended},
            details={"jobs": self._runner.last(known)},
        )

    def close(self) -> None:
        """End the runs under way, and every thread."""
        self._ending.set()
        self._scheduler.shutdown(wait=True)
        self._runner.runs.flush()

    def _look(self, job: Job) -> None:
        self._busy.add(job.name)
        try:
            self._runner.check(job)
            self._trouble.pop(job.name, None)
        except LakeMissingError:
            self._trouble.pop(job.name, None)  # land makes it; until then there is nothing to do
        except RetryableError as error:
            self._trouble[job.name] = str(error)
            log.warning("job_look_failed", job=job.name, cause=str(error))
        finally:
            self._ask_at[job.name] = time.monotonic() + _ASK_AGAIN_S
            self._busy.discard(job.name)

    def _fire(self, name: str) -> None:
        self._ask_at[name] = time.monotonic() + _ASK_AGAIN_S
        self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def _on_job_missed(self, event: JobExecutionEvent) -> None:
        """APScheduler was later than the grace: check all the same, to record the skipped run."""
        self._fire(event.job_id)

    def _on_job_error(self, event: JobExecutionEvent) -> None:
        """End the stage where a person must act; after other errors the job is checked again: others may be running."""
        if isinstance(event.exception, FatalError):
            self._fatal.append(event.exception)
            return
        cause = f"{type(event.exception).__name__}: {event.exception}"
        self._trouble[event.job_id] = cause
        log.error("job_look_broke", job=event.job_id, cause=cause, exc_info=event.exception)
