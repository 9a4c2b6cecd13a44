"""One folder holds everything: the broker's log, the lake, what runs and what it said."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()
_unwritten: set[str] = set()
"""Names whose run file could not be written the last time: said once."""
Beat = Callable[[dict[str, Any]], None]
BEAT_EVERY_S = 0.5
STARTING_S = 180.0
"""Imports take 4 s of processor time; on a machine where everything starts at once, minutes."""


@dataclass(frozen=True)
class Home:
    """Paths under the home; makes folders on demand, readable by their owner only."""

    path: Path

    def folder(self, name: str) -> Path:
        """Return the sub-folder ``name``, made if it is missing."""
        folder = self.path / name
        for each in (*reversed(Path(name).parents), Path(name)):  # a mode is for the last of several folders only
            (self.path / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def catalog(self) -> Path:
        """The SQLite catalog of the lake."""
        return self.folder("lake") / "catalog.sqlite"

    @property
    def data_path(self) -> Path:
        """The Parquet files of the lake."""
        return self.folder("lake/data")

    def log_file(self, name: str) -> Path:
        """What ``name`` printed."""
        return self.folder("logs") / f"{name}.log"

    def run_file(self, name: str) -> Path:
        """What ``name`` says of itself."""
        return self.folder("run") / f"{name}.json"

    def write_run(self, name: str, facts: dict[str, Any]) -> None:
        """Replace the run file of ``name`` whole, so that a reader never sees half of it.

        On a full disk the last one stands, touched: whoever beats is not taken for hung, alerts go out, and only
        ``status``, which reads the old time, says "silent".
        """
        target = self.path / "run" / f"{name}.json"
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder("run")
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
        """Return what ``name`` last said, None where it never spoke."""
        try:
            facts: dict[str, Any] = json.loads(self.run_file(name).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return facts

    def beaten(self, name: str) -> int:
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
        self._facts: dict[str, Any] = {}
        self.spoken = threading.Event()
        """Set once the stage itself has beaten."""

    def while_starting(self, ended: threading.Event) -> None:
        """Beat for a stage that still imports or loads, until it speaks itself or ``STARTING_S`` have passed."""
        deadline = time.monotonic() + STARTING_S
        while not (self.spoken.is_set() or ended.wait(2.0) or time.monotonic() > deadline):
            self.write("starting")

    def __call__(self, facts: dict[str, Any]) -> None:
        """Remember ``facts``; write them at most twice a second."""
        self.spoken.set()
        self._facts = {**self._facts, **facts}
        if time.monotonic() - self._last >= BEAT_EVERY_S:
            self.write("running")

    def write(self, state: str, error: str | None = None) -> None:
        """Write now."""
        self._last = time.monotonic()
        said = {"pid": os.getpid(), "at": self._now(), "state": state, "error": error, "facts": self._facts}
        self._home.write_run(self._name, said)
