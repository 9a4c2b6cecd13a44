"""Real stage processes: the command that people run, with its log, its heartbeat and its end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from fault_harness.zygote import Forked
from tailrace.home.layout import Home

REPO = Path(__file__).parents[3]


def wait_until(true: Callable[[], Any], seconds: float, what: str, detail: Callable[[], str] = lambda: "") -> Any:
    """Return the first truthy value of ``true``; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{detail()}")
        time.sleep(0.05)
    return found


def clean_environment() -> dict[str, str]:
    """Ours without any setting of Tailrace."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"}


class Process:
    """One process under test; its output goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        log.touch()
        self._start = log.stat().st_size
        self.popen = Forked(list(arguments), log, environment)
        self.pid = self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def said(self) -> str:
        """What this life of it has printed."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        return f"--- {self.name} ---\n" + "\n".join(self.said.splitlines()[-12:])

    def kill(self) -> None:
        if self.alive:
            self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        """SIGSTOP."""
        self.popen.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self, within_s: float = 15) -> int:
        """SIGTERM; return the exit code."""
        self.popen.terminate()
        return self.ended(within_s)

    def ended(self, within_s: float = 60) -> int:
        """Return the exit code of a process that ends by itself."""
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s} s\n{self.tail()}") from None

    def says(self, text: str, within_s: float = 30) -> None:
        """Wait for ``text`` in the log of this life."""

        def seen() -> bool:
            assert text in self.said or self.alive, f"{self.name} ended without saying {text!r}\n{self.tail()}"
            return text in self.said

        wait_until(seen, within_s, f"{self.name} says {text!r}", self.tail)


class Command(Process):
    """Any command, from any folder: a script with a cheap model, a stage of an earlier release."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path = REPO
    ) -> None:
        self.name, self.log = name, log
        log.touch()
        self._start = log.stat().st_size
        with log.open("ab") as out:
            self.popen = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=out)
        self.pid = self.popen.pid


def stage(name: str, home: Path, environment: Mapping[str, str]) -> Process:
    """Start ``tailrace NAME`` on ``home``; it ends at the latest with the tests."""
    return Process(name, [name], Home(home).log_file(name), environment)


@contextmanager
def killer(process: Process, call: str, file: str, nth: int) -> Iterator[None]:
    """Kill ``process`` at its ``nth`` system call ``call`` on ``file`` ("": on any): strace watches from outside."""
    plan = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *(("-P", file) if file else ())]
    strace = subprocess.Popen(
        ["strace", "-f", *plan, "-o", "/dev/null", "-p", str(process.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert strace.stderr is not None
        for line in strace.stderr:
            if "attached" in line:
                break
        else:
            raise AssertionError("strace did not attach")
        yield
    finally:
        strace.terminate()
        strace.communicate(timeout=20)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MiB."""
    return psutil.Process(pid).memory_info().rss / 2**20
