"""The whole of it, started as people start it: ``tailrace up``, its supervisor, its broker and every stage."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fault_harness.process import REPO, clean_environment, wait_until
from fault_harness.traffic import PRICES


class Up:
    """``tailrace up`` with its own broker."""

    def __init__(self, home: Path, settings: Mapping[str, str] = {}, *, within: Sequence[str] = ()) -> None:
        """Start it; ``within`` is a command that runs it as its child."""
        self.home, self._within = home, within
        self.enter: Sequence[str] = ()
        """A command that runs another where ``up`` runs."""
        self.environment = {
            **clean_environment(),
            "TAILRACE_HOME": str(home),
            "TAILRACE_PRICES": json.dumps(PRICES),
            **settings,
        }
        self.log = home.with_suffix(".log")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*self._within, sys.executable, "-m", "tailrace", "up", "--no-web"]
        with self.log.open("ab") as out:
            return subprocess.Popen(command, cwd=REPO, env=self.environment, stdout=out, stderr=out)

    def again(self) -> None:
        self.process = self._start()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(sys.executable, "-m", "tailrace", "status", "--json") or "{}")
        return found

    def run(self, *command: str) -> str:
        """Run a command on this home, where ``up`` runs; return what it printed."""
        return subprocess.run(
            [*self.enter, *command], cwd=REPO, env=self.environment, capture_output=True, text=True, check=False
        ).stdout

    def ready(self, within_s: float = 240) -> dict[str, Any]:
        return dict(wait_until(lambda: (s := self.status()).get("ready") and s, within_s, "ready", self.tail))

    def tail(self) -> str:
        return f"{self.status()}\n" + self.log.read_text()[-2000:]

    def broker_pid(self) -> int:
        return int(json.loads((self.home / "kafka" / "pid").read_text())["pid"])

    def pids(self) -> list[int]:
        status = self.status()
        return [s["pid"] for s in status["stages"].values() if s["pid"]] + [self.broker_pid()]

    def restarts(self) -> dict[str, int]:
        """Stage -> how often it was started again, as the supervisor itself wrote down."""
        said = json.loads((self.home / "run" / "up.json").read_text())
        return {name: int(stage["restarts"]) for name, stage in said["stages"].items()}

    @contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """SIGSTOP to ``pids``, without any to the supervisor and all that it started; SIGCONT at the end."""
        frozen = list(pids) or [self.process.pid, *descendants(self.process.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(frozen):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def descendants(pid: int) -> list[int]:
    """Children of ``pid``, and theirs, parents first."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def gone(pids: list[int]) -> bool:
    return not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
