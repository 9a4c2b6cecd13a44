"""``tailrace up``: all stages and, unless Kafka is given, the embedded broker; restarts what dies or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from schemas.errors import TailraceError
from tailrace.broker import Broker
from tailrace.home import Home
from tailrace.settings import Settings
from tailrace.stages import STAGES, Stage, wall
from tailrace.supervise import Action, Awake, Child, Heard, Seen, decide, hear, silence, start

log = structlog.get_logger()
LOOK_EVERY_S = 0.2
STOP_WITHIN_S = 8.0
BROKER_AGAIN_S = 5.0
LOG_KEEP_BYTES = 16 * 1024 * 1024


@dataclass
class _Slot:
    stage: Stage
    child: Child = field(default_factory=Child)
    process: subprocess.Popen[bytes] | None = None
    heard: Heard | None = None


class Supervisor:
    """Keeps one process a stage alive. All of them end when this process ends, however it ends."""

    def __init__(
        self,
        settings: Settings,
        bootstrap_servers: str,
        *,
        stages: Sequence[Stage] = STAGES,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.home = Home(settings.home)
        self.bootstrap_servers = bootstrap_servers
        self.web: str | None = None
        """Where metrics are served."""
        self._awake = Awake(time.monotonic(), time.monotonic())
        self._slots = [_Slot(stage) for stage in stages]
        self._environment = {
            "OPENBLAS_NUM_THREADS": "1",  # numpy's threads of six processes fight over the cores
            **os.environ,
            "TAILRACE_HOME": str(settings.home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            **(environment or {}),
        }

    def look(self) -> None:
        """One round: see every child, decide, act, write what is the case."""
        now = time.monotonic()
        self._awake = self._awake.look(now)
        for slot in self._slots:
            slot.child, action = decide(slot.child, self._see(slot, now), now, slot.stage.stall_after_s)
            if action is Action.START:
                self._start(slot, now)
            elif action is Action.KILL and slot.process:
                log.error("stage_stalled", stage_name=slot.stage.name, pid=slot.process.pid)
                slot.process.kill()
        self.home.write_run("up", self.facts())

    def facts(self) -> dict[str, Any]:
        """What ``status`` reads."""
        stages = {
            s.stage.name: {
                "pid": s.process.pid if s.process and s.process.poll() is None else None,
                "restarts": s.child.restarts,
                "stalls": s.child.stalls,
                "last_exit": s.child.last_exit,
            }
            for s in self._slots
        }
        return {
            "pid": os.getpid(),
            "at": wall(),
            "bootstrap_servers": self.bootstrap_servers,
            "web": self.web,
            "stages": stages,
        }

    def pid(self, name: str) -> int | None:
        """Return the process of a stage, None where it is not running."""
        process = next(s.process for s in self._slots if s.stage.name == name)
        return process.pid if process and process.poll() is None else None

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to who is left after ``STOP_WITHIN_S``."""
        running = [s.process for s in self._slots if s.process and s.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.home.run_file("up").unlink(missing_ok=True)

    def _see(self, slot: _Slot, now: float) -> Seen:
        if slot.process is None:
            return Seen(alive=False, exit_code=None, silent_s=0.0)
        code = slot.process.poll()
        said = self.home.read_run(slot.stage.name)
        beat = self.home.beaten(slot.stage.name) if said and said["pid"] == slot.process.pid else None
        slot.heard = hear(slot.heard, slot.process.pid, beat, now)
        silent = silence(slot.heard, self._awake, now)
        return Seen(alive=code is None, exit_code=code, silent_s=silent, spoke=slot.heard.beat is not None)

    def _start(self, slot: _Slot, now: float) -> None:
        command = [sys.executable, "-m", "tailrace", slot.stage.name, "--supervised"]
        with _log_file(self.home.log_file(slot.stage.name)) as out:
            slot.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._environment
            )
        slot.child = start(slot.child, now)
        log.info("stage_started", stage_name=slot.stage.name, pid=slot.process.pid, restarts=slot.child.restarts)


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and path.stat().st_size > LOG_KEEP_BYTES:
        path.replace(path.with_suffix(".log.1"))
    with path.open("ab") as out:
        yield out


@contextlib.contextmanager
def kafka(settings: Settings) -> Iterator[tuple[str, Broker | None]]:
    """Yield the brokers' address: the given one, or that of an embedded broker that lives as long as the block."""
    if settings.kafka.bootstrap_servers:
        yield settings.kafka.bootstrap_servers, None
        return
    broker = Broker(settings.home, heap_mb=settings.kafka.heap_mb)
    broker.start()
    try:
        yield broker.bootstrap, broker
    finally:
        broker.stop()


@contextlib.contextmanager
def running(
    settings: Settings, *, stages: Sequence[Stage] = STAGES, environment: dict[str, str] | None = None
) -> Iterator[tuple[Supervisor, Broker | None]]:
    """Broker, topics and stages, all stopped at the end of the block; ``environment`` is added to the stages' own."""
    from tailrace import wiring

    with kafka(settings) as (bootstrap, broker):
        wiring.make_topics(settings, bootstrap)
        wiring.announce_prices(settings, bootstrap)
        write_env(Home(settings.home), bootstrap, settings.kafka.prefix)
        supervisor = Supervisor(settings, bootstrap, stages=stages, environment=environment)
        try:
            yield supervisor, broker
        finally:
            supervisor.stop()


def up(
    settings: Settings,
    *,
    stages: Sequence[Stage] = STAGES,
    announce: Callable[[str], None] = lambda _: None,
    web: bool = True,
) -> None:
    """Run until SIGTERM or SIGINT. All has ended 10 s after it.

    Raises:
        SettingsError: metrics would stand open on an address that is not loopback, or the dead-man's URL is refused.
    """
    from tailrace.watch import Watch

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch = Watch(settings, stages=stages, web=web)  # before anything starts: what it refuses is a setting
    with running(settings, stages=stages) as (supervisor, broker), watch.over(supervisor.bootstrap_servers) as url:
        supervisor.web = url
        announce(f"export $(cat {Home(settings.home).path / 'env'})")
        while not stop.wait(LOOK_EVERY_S):
            supervisor.look()
            if broker is not None and not broker.alive:
                log.error("broker_died")
                _start_again(broker, stop)


def _start_again(broker: Broker, stop: threading.Event) -> None:
    """Bring the broker back; where it does not come (a full disk, a slow machine) the next look tries anew."""
    try:
        broker.stop()
        broker.start()
    except (TailraceError, OSError) as error:
        log.error("broker_not_back", cause=str(error), retry_in_s=BROKER_AGAIN_S)
        stop.wait(BROKER_AGAIN_S)


def write_env(home: Home, bootstrap: str, prefix: str) -> None:
    """Write ``HOME/env``: what an app needs to reach us, one VARIABLE=value a line."""
    lines = [f"TAILRACE_BOOTSTRAP_SERVERS={bootstrap}", f"TAILRACE_HOME={home.path}"]
    if prefix:
        lines.append(f"TAILRACE_TOPIC_PREFIX={prefix}")
    (home.folder("") / "env").write_text("\n".join(lines) + "\n")
