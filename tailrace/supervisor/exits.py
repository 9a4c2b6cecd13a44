"""How one life of a stage ended: signal, exit code, last error line. For ``status``, the logs and alerts."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_READ_BYTES = 64 * 1024
_LONGEST = 300
_ERROR = re.compile(r"^(tailrace: |Fatal Python error|([\w.]+(Error|Exception|Interrupt|Exit))\b)")
_KIND = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception)$", re.ASCII)


@dataclass(frozen=True)
class Exit:
    """The end of one process of a stage."""

    pid: int
    at: int
    """When it was seen, µs UTC."""
    ran_s: float
    code: int
    """As ``subprocess`` has it: below 0 the number of the signal."""
    stalled_s: float | None = None
    """For how long it had made no progress, where that is why the supervisor killed it."""
    error: str = ""
    """The last error line of its log; may hold text of events, so it goes to no channel."""
    kind: str = ""
    """The exception's class, where the log names one."""

    @property
    def signal(self) -> str | None:
        """Name of the signal that ended it; None where it exited."""
        if self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    @property
    def reason(self) -> str:
        """Plain text for people; it contains no text of an event."""
        if self.stalled_s is not None:
            return f"no progress for {self.stalled_s:.0f} s: killed by the supervisor"
        if self.signal == "SIGKILL":
            return "killed by SIGKILL, not by tailrace: out of memory, or by hand"
        if self.signal:
            return f"killed by {self.signal}"
        if self.code == 0:
            return "exit code 0: asked to stop, and not by its supervisor"
        return f"exit code {self.code}" + (f", {self.kind}" if self.kind else "")

    @property
    def text(self) -> str:
        """The reason and the last error line."""
        return f"{self.reason}: {self.error}" if self.error else self.reason

    def facts(self) -> dict[str, Any]:
        """For the run file and ``status --json``."""
        return {
            "at": datetime.fromtimestamp(self.at / 1e6, UTC).isoformat(timespec="seconds"),
            "pid": self.pid,
            "ran_s": round(self.ran_s, 1),
            "exit_code": self.code if self.code >= 0 else None,
            "signal": self.signal,
            "reason": self.reason,
            "error": self.error or None,
        }


def last_error(log: Path, start: int) -> tuple[str, str]:
    """Return the last error line that a process wrote to ``log``, and the exception's class where it is named.

    Args:
        log: JSON lines, and what the interpreter and libraries wrote in between.
        start: the size of the file when the process began: what is before it is another's.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(min(start, size), size - _READ_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "", ""
    for line in reversed(lines):
        if found := _structured(line) or _plain(line):
            text, kind = found
            return "".join(c if c.isprintable() else "\ufffd" for c in text)[:_LONGEST], kind
    return "", ""


def _structured(line: str) -> tuple[str, str] | None:
    """An error of our own log, as JSON."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("level") not in ("error", "critical"):
        return None
    cause = str(event.get("error") or event.get("cause") or "")
    name = str(event.get("event", ""))
    kind = str(event.get("kind", ""))
    text = cause if name == "fatal" and cause else f"{name}: {cause}" if cause else name
    return text, kind if _KIND.match(kind) else ""


def _plain(line: str) -> tuple[str, str] | None:
    """The last line of a traceback, or what ``__main__`` prints."""
    found = _ERROR.match(line)
    if not found:
        return None
    kind = line.split(":", 1)[0].strip()
    return line.removeprefix("tailrace: ").strip(), kind if _KIND.match(kind) else ""
