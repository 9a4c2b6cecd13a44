"""The stages, and how each is built from the settings. A stage is imported only in the process that runs it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from schemas.errors import RetryableError
from tailrace.home import Beat, Heartbeat, Home
from tailrace.settings import Settings

log = structlog.get_logger()
BACK_OFF_FIRST_S, BACK_OFF_LONGEST_S = 0.5, 15.0
_PR_SET_PDEATHSIG = 1


def wall() -> int:
    """Wall time, µs UTC. The shells' clock; cores get it handed in."""
    return time.time_ns() // 1000


Run = Callable[[Settings, threading.Event, Beat], None]


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

    name: str
    run: Run
    doc: str
    stall_after_s: float = 60.0
    """Silent for so long means hung: the supervisor restarts it. Loading a model or a changelog beats, too."""


def _land(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from pipelines import land
    from tailrace import wiring

    land.run(wiring.land(settings), stop=stop, now=wall, beat=beat)


def _meter(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from pipelines.meter import stage
    from tailrace import wiring

    stage.run(wiring.meter(settings), stop=stop, now=wall, beat=beat)


def _detect(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from pipelines.detect import app
    from tailrace import wiring

    app.run(wiring.detect(settings), stop=stop, now=wall, beat=beat)


def _drift(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from pipelines.drift.embed import ModelProcess
    from pipelines.kafka import Admin
    from schemas.topics import SAMPLES
    from tailrace import wiring

    Admin(wiring.kafka(settings)).partitions(SAMPLES)  # with the brokers away no model is loaded in vain
    with contextlib.closing(ModelProcess(wiring.embed(settings))) as model:
        from pipelines.drift import app  # Faust: seconds in which the model, the slowest of all to start, loads already

        app.run(wiring.drift(settings), stop=stop, now=wall, beat=beat, embedder=model)


def _notify(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from pipelines.notify import stage
    from tailrace import wiring

    stage.run(wiring.notify(settings), stop=stop, now=wall, beat=beat)


def _schedule(settings: Settings, stop: threading.Event, beat: Beat) -> None:
    from jobs import scheduler
    from tailrace import wiring

    scheduler.run(wiring.schedule(settings), stop=stop, now=wall, beat=beat)


STAGES = (
    Stage("land", _land, "events, rollups, embeddings, alerts -> the lake, exactly once"),
    Stage("meter", _meter, "events -> rollups, samples, ticks"),
    Stage("detect", _detect, "rollups -> alerts"),
    Stage("drift", _drift, "samples -> embeddings, alerts", stall_after_s=120.0),
    Stage("notify", _notify, "alerts -> Slack, webhooks, anything Apprise reaches"),
    Stage("schedule", _schedule, "batch jobs, each when it is due, once"),
)


def die_with_parent(parent: int = 0) -> None:
    """Ask the kernel to kill this process when the one that started it ends, however it ends.

    Args:
        parent: its process id, where it is known; a container's first process is 1, and so is an orphan's parent.
    """
    expected = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected or (expected == 1 and not parent):  # it ended before the call took hold
        os._exit(1)


class _WithoutPandas:
    """Hides pandas, which another dependency brings, from a stage.

    pyarrow imports it at its first array where it is installed: a second and 60 MB for each stage, for frames that
    none of them ever sees.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse it, and leave every other module to the finders behind."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden from the stages", name=name)


def run_stage(stage: Stage, settings: Settings) -> None:
    """Run one stage until SIGTERM or SIGINT; back off and start over on what may pass.

    Raises:
        FatalError: nothing but a person can mend it; ``__main__`` prints it and exits with 2.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    heartbeat = Heartbeat(Home(settings.home), stage.name, wall)
    heartbeat.write("starting")
    threading.Thread(target=heartbeat.while_starting, args=(stop,), name="starting", daemon=True).start()
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            stage.run(settings, stop, heartbeat)
        except RetryableError as error:
            failures = 0 if time.monotonic() - began > 60 else failures + 1
            pause = min(BACK_OFF_LONGEST_S, BACK_OFF_FIRST_S * 2**failures) * random.uniform(0.5, 1.0)
            log.warning("stage_failed", error=str(error), kind=type(error).__name__, retry_in_s=round(pause, 2))
            heartbeat.write("retrying", str(error))
            stop.wait(pause)
    heartbeat.write("stopped")
