"""One folder holds everything: the broker's log, the lake, run files and logs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from schemas.stage_facts import StageFacts, StageState
from tailrace.files import from_os_error, refused
from warehouse.storage.locks import pid_namespace, process_start_time

log = structlog.get_logger()
_unwritten: set[str] = set()
"""Names whose run file could not be written the last time: logged once."""
CARRIED = ("usage",)
"""Details kept after a restart: counters in metrics, which must not decrease."""
HEARTBEAT_EVERY_S = 0.5
STARTING_S = 180.0
"""Imports take 4 s of processor time; on a machine where everything starts at once, minutes."""


@dataclass(frozen=True)
class Home:
    """Paths under the home; makes folders on demand, readable by their owner only."""

    path: Path

    def folder(self, name: str) -> Path:
        """Return the sub-folder ``name``, made if it is missing.

        Raises:
            FileRefusedError: it cannot be made.
        """
        with refused("write to the home", self.path):
            return self._made(name)

    def _made(self, name: str) -> Path:
        for each in (*reversed(Path(name).parents), Path(name)):  # a mode is for the last of several folders only
            (self.path / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path / name

    @property
    def catalog(self) -> Path:
        """The SQLite catalog of the lake; made with the lake."""
        return self.path / "lake" / "catalog.sqlite"

    @property
    def data_path(self) -> Path:
        """The folder of the lake's Parquet files; made with the lake."""
        return self.path / "lake" / "data"

    @property
    def broker_log(self) -> Path:
        """What the embedded broker printed."""
        return self.path / "kafka" / "broker.log"

    def log_file(self, name: str) -> Path:
        """What ``name`` printed."""
        return self.folder("logs") / f"{name}.log"

    def run_file(self, name: str) -> Path:
        """The run file of ``name``: its state and facts."""
        return self.path / "run" / f"{name}.json"

    def write_run(self, name: str, facts: dict[str, Any]) -> None:
        """Replace the run file of ``name`` as a whole, so that a reader never sees a part of it.

        On a full disk the last file is kept and its time is updated: the process does not count as hung, alerts are
        sent, and only ``status``, which reads the old time inside, shows "silent".
        """
        target = self.run_file(name)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._made("run")
            draft.write_text(json.dumps(facts, default=str))
            draft.replace(target)
            _unwritten.discard(name)
        except OSError as error:
            if name not in _unwritten:
                log.error("run_file_not_written", name=name, cause=str(error))
            _unwritten.add(name)
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
                os.utime(target)

    def read_run(self, name: str) -> dict[str, Any] | None:
        """Return the last run file of ``name``; None where there is none."""
        try:
            facts: dict[str, Any] = json.loads(self.run_file(name).read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        except OSError as error:
            raise from_os_error("read", error, self.run_file(name)) from error
        return facts

    def last_heartbeat_ns(self, name: str) -> int:
        """Return when ``name`` last wrote or touched its run file, ns; only good to see that it did."""
        try:
            return self.run_file(name).stat().st_mtime_ns
        except OSError:
            return 0


class Heartbeat:
    """What a stage calls while it moves: the supervisor and ``status`` read it from the run file."""

    def __init__(self, home: Home, name: str, now: Callable[[], int]) -> None:
        self._home, self._name, self._now = home, name, now
        self._last = 0.0
        self._state: tuple[StageState, str | None] = (StageState.STARTING, None)
        before = reported(home.read_run(name)).details
        self._facts = StageFacts(
            state=StageState.STARTING, details={key: before[key] for key in CARRIED if key in before}
        )
        self._process_started = process_start_time(os.getpid())
        self._lock = threading.Lock()
        self.has_reported = threading.Event()
        """Set once the stage itself has reported."""

    def while_starting(self, ended: threading.Event) -> None:
        """Repeat the last report while a stage imports or loads, until it reports itself or after ``STARTING_S``."""
        deadline = time.monotonic() + STARTING_S
        while not (self.has_reported.wait(2.0) or ended.is_set() or time.monotonic() > deadline):
            with self._lock:
                if not self.has_reported.is_set():  # else the stage's own report is newer, and must not be replaced
                    self._write(*self._state)

    def __call__(self, facts: StageFacts) -> None:
        """Store ``facts``; write them at most twice a second, the first immediately. Any thread may call it."""
        with self._lock:
            self._facts = facts.after(self._facts)
            first = not self.has_reported.is_set()
            self.has_reported.set()
            if first or time.monotonic() - self._last >= HEARTBEAT_EVERY_S:
                self._write(StageState.RUNNING, None)

    def write(self, state: StageState, error: str | None = None) -> None:
        """Write now: the state of the process; what the stage does is in its facts."""
        with self._lock:
            self._write(state, error)

    def _write(self, state: StageState, error: str | None) -> None:
        self._last, self._state = time.monotonic(), (state, error)
        report: dict[str, Any] = {"pid": os.getpid(), "born": self._process_started, "pid_namespace": pid_namespace()}
        report |= {"at": self._now(), "state": state, "error": error}
        self._home.write_run(self._name, {**report, "facts": self._facts.flat()})


def reported(report: Mapping[str, Any] | None) -> StageFacts:
    """Return the facts of a run file; of none, or of one without them, nothing is known."""
    return StageFacts.of((report or {}).get("facts"))
