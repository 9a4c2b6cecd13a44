"""One job in a separate process: its time limit, its end on request, and its output."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

import msgspec

from schemas.errors import RetryableError

_LOOK_EVERY_S = 0.2
_END_WITHIN_S = 3.0
"""From SIGTERM to SIGKILL; the supervisor gives a stage 7 s for all it has to do."""
_KEPT_BYTES = 64 * 1024
_SHOWN = 500


class JobNotStartedError(RetryableError):
    """No process can be started now: too many of them, no memory, a full disk. Try again."""

    def __init__(self, command: Sequence[str], cause: OSError) -> None:
        super().__init__(f"cannot start {command[0]}: {cause}; is the machine out of processes, memory or disk?")


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    why: Literal["itself", "limit", "stopped"]
    report: dict[str, Any] | None
    """What it printed as JSON; None where it printed none."""
    errors: str
    """The end of what it wrote to stderr."""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself and succeeded."""
        return self.why == "itself" and self.code == 0

    @property
    def detail(self) -> str:
        """For people: what it found, or why it failed."""
        if self.why == "limit":
            return "ended: it ran longer than its limit"
        if self.why == "stopped":
            return "ended with the scheduler; begun again when one starts"
        report = self.report or {}
        if self.ok:
            numbers = {k: v for k, v in report.items() if isinstance(v, int | float) and not isinstance(v, bool) and v}
            return ", ".join(f"{name} {value}" for name, value in numbers.items())[:_SHOWN]
        problems = "; ".join(map(str, report.get("problems", ())))
        last = self.errors.strip().splitlines()[-1:] or ["it wrote nothing to stderr"]
        return f"exit {self.code}: {problems or last[0]}"[:_SHOWN]


def run_to_end(
    command: Sequence[str],
    *,
    limit_s: float,
    ending: Callable[[], bool],
    overdue: Callable[[], bool] = lambda: False,
    started: Callable[[], None] = lambda: None,
) -> Ended:
    """Run ``command``; SIGTERM, then SIGKILL, where it takes too long or ``ending`` returns True.

    Args:
        command: the process.
        limit_s: how long it may take, on a clock that stops while the machine is suspended.
        ending: whether the scheduler ends.
        overdue: whether its time is over by the wall clock.
        started: called once, when the process has started.

    Raises:
        JobNotStartedError: no process could be started; try again.
    """
    with _process(command) as (process, out, err):
        deadline = time.monotonic() + limit_s
        started()
        why: Literal["itself", "limit", "stopped"] = "itself"
        while why == "itself" and process.poll() is None:
            try:
                process.wait(_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                over = overdue() or time.monotonic() > deadline
                why = "stopped" if ending() else "limit" if over else "itself"
        if why != "itself":
            _end(process)
        errors = _tail(err)
        sys.stderr.write(errors)  # its log lines belong with the scheduler's
        return Ended(process.returncode, why, _report(_tail(out)), errors)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """Yield the process, its stdout and its stderr; it does not outlive the block."""
    with ExitStack() as files:
        try:
            out = files.enter_context(tempfile.TemporaryFile())
            err = files.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise JobNotStartedError(command, error) from error
        try:
            yield process, out, err
        finally:
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, 2) - _KEPT_BYTES))
    return file.read().decode(errors="replace")


def _report(text: str) -> dict[str, Any] | None:
    try:
        read = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return read if isinstance(read, dict) else None
