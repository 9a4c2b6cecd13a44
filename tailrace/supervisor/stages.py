"""The stages, and how each is built from the settings. A stage is imported only in the process that runs it."""

from __future__ import annotations

import contextlib
import faulthandler
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pipelines.backoff import exponential_s
from pipelines.clock import now_us
from schemas.errors import RetryableError, TailraceError
from schemas.stage_facts import HeartbeatCallback, StageState
from tailrace.home.layout import Heartbeat, Home, reported
from tailrace.imports import hide_pandas
from tailrace.settings.model import Settings
from tailrace.supervisor.ownership import owned_stage
from tailrace.supervisor.signals import on_stop_signals

log = structlog.get_logger()
BACK_OFF_FIRST_S, BACK_OFF_LONGEST_S = 0.5, 15.0


Run = Callable[[Settings, threading.Event, HeartbeatCallback], None]


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

    name: str
    run: Run
    doc: str
    stall_after_s: float = 60.0
    """Without a heartbeat for this time it counts as hung and is restarted. Loading a model or a changelog sends
    heartbeats."""
    single: str = ""
    """What a second copy on the same home would do; it is refused. Empty: the stage itself decides."""


def _land(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from pipelines import land
    from tailrace import wiring

    before = reported(Home(settings.home).read_run("land")).details.get("usage")
    land.run(wiring.land(settings), stop=stop, now=now_us, heartbeat=heartbeat, usage=land.Usage(before))


def _meter(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from pipelines.meter import stage
    from tailrace import wiring

    stage.run(wiring.meter(settings), stop=stop, now=now_us, heartbeat=heartbeat)


def _detect(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from pipelines.detect import app
    from tailrace import wiring

    app.run(wiring.detect(settings), stop=stop, now=now_us, heartbeat=heartbeat)


def _drift(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from pipelines.drift.embed import ModelProcess
    from pipelines.kafka import Admin
    from schemas.topics import SAMPLES
    from tailrace import wiring

    Admin(wiring.kafka(settings)).partitions(SAMPLES)  # without brokers no model is loaded
    with contextlib.closing(ModelProcess(wiring.embed(settings))) as model:
        from pipelines.drift import app  # Faust: seconds in which the model, the slowest of all to start, loads already

        app.run(wiring.drift(settings), stop=stop, now=now_us, heartbeat=heartbeat, embedder=model)


def _notify(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from pipelines.notify import stage
    from tailrace import wiring

    stage.run(wiring.notify(settings), stop=stop, now=now_us, heartbeat=heartbeat)


def _schedule(settings: Settings, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    from jobs import scheduler
    from tailrace import wiring
    from tailrace.batch_jobs import on_timetable

    scheduler.run(wiring.schedule(settings, on_timetable(settings)), stop=stop, now=now_us, heartbeat=heartbeat)


STAGES = (
    Stage("land", _land, "events, rollups, embeddings, alerts -> the lake, exactly once"),
    Stage("meter", _meter, "events -> rollups, samples, ticks", single="the two would fence each other"),
    Stage("detect", _detect, "rollups -> alerts", single="the two would fence each other"),
    Stage(
        "drift",
        _drift,
        "samples -> embeddings, alerts",
        stall_after_s=120.0,
        single="the two would fence each other",
    ),
    Stage(
        "notify",
        _notify,
        "alerts -> Slack, webhooks, anything Apprise reaches",
        single="every alert would be sent twice",
    ),
    Stage("schedule", _schedule, "batch jobs, each when it is due, once"),
)


def run_stage(stage: Stage, settings: Settings) -> None:
    """Run one stage until SIGTERM or SIGINT; back off and start again on temporary errors.

    Raises:
        StageRunsError: another process runs this stage on this home, and two would double its work.
        FatalError: a person has to repair it; ``__main__`` prints it and exits with 2.
    """
    hide_pandas()
    stop = on_stop_signals()
    faulthandler.enable()  # a crash in a library writes its stack to the log
    faulthandler.register(signal.SIGUSR1)  # sent by the supervisor before it kills what makes no progress
    home = Home(settings.home)
    heartbeat = Heartbeat(home, stage.name, now_us)
    with owned_stage(home, stage.name, stage.single):
        try:
            _run_again(stage, settings, stop, heartbeat)
        except BaseException as error:
            heartbeat.has_reported.set()
            known = isinstance(error, TailraceError)
            heartbeat.write(StageState.FAILED, str(error) if known else f"{type(error).__name__}: {error}")
            raise
        heartbeat.has_reported.set()
        heartbeat.write(StageState.STOPPED)
        log.info("stage_stopped", signal=stop.name)


def _run_again(stage: Stage, settings: Settings, stop: threading.Event, heartbeat: Heartbeat) -> None:
    heartbeat.write(StageState.STARTING)
    threading.Thread(target=heartbeat.while_starting, args=(stop,), name="starting", daemon=True).start()
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            stage.run(settings, stop, heartbeat)
        except RetryableError as error:
            failures = 0 if time.monotonic() - began > 60 else failures + 1
            pause = exponential_s(failures + 1, first_s=BACK_OFF_FIRST_S, longest_s=BACK_OFF_LONGEST_S)
            pause *= random.uniform(0.5, 1.0)
            log.warning("stage_failed", error=str(error), kind=type(error).__name__, retry_in_s=round(pause, 2))
            heartbeat.write(StageState.RETRYING, str(error))
            stop.wait(pause)
