"""The supervisor: one process for each stage, restarted when it ends or hangs, and the state of each for ``status``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from pipelines.clock import now_us
from schemas.stage_facts import ENDED, StageFacts
from tailrace.home import log_files
from tailrace.home.layout import Home, reported
from tailrace.settings.model import Settings
from tailrace.supervisor import pace
from tailrace.supervisor.exits import Exit, last_error
from tailrace.supervisor.failing import Track
from tailrace.supervisor.pace import Sample
from tailrace.supervisor.processes import reap
from tailrace.supervisor.restarts import (
    HEALTHY_AFTER_S,
    Action,
    Child,
    LastHeartbeat,
    Observation,
    Suspension,
    decide,
    last_heartbeat,
    silent_for_s,
    start,
)
from tailrace.supervisor.stages import STAGES, Stage
from warehouse.storage.locks import is_running, pid_namespace, process_start_time

log = structlog.get_logger()
STOP_WITHIN_S = 7.0
"""A job has 3 s to end, and its scheduler the rest to record it; the broker ends after all of them."""


@dataclass
class _Slot:
    stage: Stage
    child: Child = field(default_factory=Child)
    process: subprocess.Popen[bytes] | None = None
    heartbeat: LastHeartbeat | None = None
    log_start: int = 0
    """Size of the stage's log when its process began."""
    stalled_s: float | None = None
    """For how long the process had made no progress when it was killed for it."""
    asked_to_stop: bool = False
    last_exit: Exit | None = None
    track: Track = field(default_factory=Track)
    worked_until: int | None = None
    """The time up to which it has worked, µs UTC, as last reported."""
    samples: tuple[Sample, ...] = ()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None


class Supervisor:
    """Keeps one process running for each stage. All of them end when this process ends, in any way."""

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
        self.broker_pid: int | None = None
        """The broker's guard: a child of this process that `broker.process` waits for."""
        self._asked_at = 0.0
        self._process_started = process_start_time(os.getpid())
        self._suspension = Suspension(time.monotonic(), time.monotonic())
        self._slots = [_Slot(stage) for stage in stages]
        self._environment = {
            "OPENBLAS_NUM_THREADS": "1",  # numpy's threads of six processes fight over the cores
            **os.environ,
            "TAILRACE_HOME": str(settings.home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            **(environment or {}),
        }
        for slot in self._slots:
            self._account_for_predecessor(slot)

    def look(self) -> None:
        """One round: look at every child, decide, act, write what is the case."""
        now = time.monotonic()
        self._suspension = self._suspension.look(now)
        for slot in self._slots:
            seen = self._see(slot, now)
            stall_after_s = slot.track.stall_after_s(slot.stage.stall_after_s)
            was, (slot.child, action) = slot.child, decide(slot.child, seen, now, stall_after_s)
            if seen.exit_code is not None and was.started is not None:
                self._ended(slot, seen.exit_code, now - was.started)
            if action is Action.START:
                self._start(slot, now)
            elif action is Action.KILL and slot.process:
                self._kill(slot, seen.silent_s)
            if slot.pid and log_files.cut(self.home.log_file(slot.stage.name)):
                slot.log_start = 0
        if self.broker_pid:
            log_files.cut(self.home.broker_log)
        reap({pid for slot in self._slots if (pid := slot.pid)} | {self.broker_pid or 0})
        self.home.write_run("up", self.facts())

    def facts(self) -> dict[str, Any]:
        """What ``status`` reads."""
        return {
            "pid": os.getpid(),
            "born": self._process_started,
            "pid_namespace": pid_namespace(),
            "at": now_us(),
            "bootstrap_servers": self.bootstrap_servers,
            "web": self.web,
            "stages": {slot.stage.name: _facts(slot) for slot in self._slots},
        }

    def pid(self, name: str) -> int | None:
        """Return the process of a stage, None where it is not running."""
        return next(s.pid for s in self._slots if s.stage.name == name)

    def terminate(self) -> None:
        """SIGTERM to all; `stop` waits for them."""
        self._asked_at = self._asked_at or time.monotonic()
        for slot in self._slots:
            if slot.process and slot.pid and not slot.asked_to_stop:
                slot.asked_to_stop = True
                slot.process.terminate()

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what is left ``STOP_WITHIN_S`` after `terminate`."""
        self.terminate()
        running = [(s, s.process) for s in self._slots if s.process and s.process.poll() is None]
        deadline = time.monotonic() + STOP_WITHIN_S - self.stopping_s
        for slot, process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._note(slot, {"event": "stage_killed", "reason": f"it did not end within {STOP_WITHIN_S:g} s"})
        self.home.run_file("up").unlink(missing_ok=True)

    @property
    def stopping_s(self) -> float:
        """Seconds since `terminate`; 0 before it."""
        return time.monotonic() - self._asked_at if self._asked_at else 0.0

    def _see(self, slot: _Slot, now: float) -> Observation:
        if slot.process is None:
            return Observation(alive=False, exit_code=None, silent_s=0.0)
        code = slot.process.poll()
        report = self.home.read_run(slot.stage.name)
        own = report if report and report["pid"] == slot.process.pid else None
        slot.heartbeat = last_heartbeat(
            slot.heartbeat, slot.process.pid, self.home.last_heartbeat_ns(slot.stage.name) if own else None, now
        )
        if own and slot.child.started is not None:
            self._follow(slot, reported(own), now)
        return Observation(
            alive=code is None,
            exit_code=code,
            silent_s=silent_for_s(slot.heartbeat, self._suspension, now),
            has_reported=slot.heartbeat.written_ns is not None,
            failing=slot.track.failing,
        )

    def _follow(self, slot: _Slot, facts: StageFacts, now: float) -> None:
        """Store the position of the stage, and from time to time its lag."""
        lag = facts.lag
        lived_s = now - (slot.child.started or now)
        slot.track = slot.track.look(facts, healthy=lag == 0 and lived_s > HEALTHY_AFTER_S)
        if lag is not None:
            slot.worked_until = pace.worked_until(facts)
            behind_s = pace.behind(lag, slot.worked_until, now_us())
            slot.samples = pace.add(slot.samples, Sample(now, lag, behind_s))

    def _start(self, slot: _Slot, now: float) -> None:
        command = [sys.executable, "-m", "tailrace", slot.stage.name, "--parent", str(os.getpid())]
        with log_files.appended(self.home.log_file(slot.stage.name)) as out:
            slot.log_start = out.seek(0, 2)
            slot.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._environment
            )
        slot.child, slot.stalled_s = start(slot.child, now), None
        log.info("stage_started", stage_name=slot.stage.name, pid=slot.process.pid, restarts=slot.child.restarts)

    def _kill(self, slot: _Slot, silent_s: float) -> None:
        """Send SIGUSR1, on which the stage writes the stacks of its threads into its log; at the next look SIGKILL."""
        assert slot.process is not None
        if slot.stalled_s is None:
            slot.stalled_s = silent_s
            log.error("stage_stalled", stage_name=slot.stage.name, pid=slot.process.pid, position=slot.track.where)
            slot.process.send_signal(signal.SIGUSR1)
        else:
            slot.process.kill()

    def _ended(self, slot: _Slot, code: int, ran_s: float) -> None:
        assert slot.process is not None
        error, kind = last_error(self.home.log_file(slot.stage.name), slot.log_start)
        slot.last_exit = ended = Exit(slot.process.pid, now_us(), ran_s, code, slot.stalled_s, error, kind)
        slot.track = slot.track.end(ended.reason, at=ended.at, stalled=slot.stalled_s is not None)
        facts = {"reason": ended.reason, "error": error, "position": slot.track.where, "ran_s": round(ran_s, 1)}
        log.error("stage_ended", stage_name=slot.stage.name, pid=ended.pid, **facts)
        self._note(slot, {"event": "stage_ended", "pid": ended.pid, **facts})

    def _note(self, slot: _Slot, facts: dict[str, Any]) -> None:
        """Write a line into the stage's own log: who looks there finds why it ended."""
        line = {**facts, "level": "info", "by": "supervisor", "timestamp": datetime.now(UTC).isoformat()}
        with contextlib.suppress(OSError), log_files.appended(self.home.log_file(slot.stage.name)) as out:
            out.write(json.dumps(line).encode() + b"\n")

    def _account_for_predecessor(self, slot: _Slot) -> None:
        """Write why the process before ended, where it could not: SIGKILL, often together with its supervisor."""
        report = self.home.read_run(slot.stage.name)
        if report and report["state"] not in ENDED and not is_running(report["pid"], report.get("born")):
            reason = "ended without a word: killed by SIGKILL, or together with the supervisor it belonged to"
            self._note(slot, {"event": "stage_ended", "pid": report["pid"], "reason": reason})


def _facts(slot: _Slot) -> dict[str, Any]:
    track = slot.track
    failing = {"position": track.where, "ends": track.ends, "since": track.since, "cause": track.cause}
    return {
        "pid": slot.pid,
        "restarts": slot.child.restarts,
        "stalls": slot.child.stalls,
        "last_exit": slot.last_exit.facts() if slot.last_exit else None,
        "failing": failing if track.failing else None,
        "position": track.best.position,
        "worked_until": slot.worked_until,
        "samples": [asdict(sample) for sample in slot.samples],
    }
