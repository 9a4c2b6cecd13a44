"""The broker's folder: one owner at a time, and who that is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tailrace.broker.errors import BrokerRunningError
from warehouse.storage.locks import alive

# the guard of a killed owner stops its JVM within this time
ORPHAN_GRACE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """Who runs a broker in a folder; kept in its file ``pid``."""

    pid: int
    owner_pid: int
    port: int
    owner_born: int | None = None
    """When the owner began, by `warehouse.storage.locks.born_at`: its pid may be another process's by now."""


def write_running(folder: Path, running: Running) -> None:
    """Say who runs here."""
    (folder / "pid").write_text(json.dumps(asdict(running)) + "\n")


def read_running(folder: Path) -> Running | None:
    """Who said last that they run here; they may be long dead."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Running(**json.loads((folder / "pid").read_text()))
    return None


def is_locked(folder: Path) -> bool:
    """Whether some process owns the folder now."""
    try:
        os.close(_try_lock(folder))
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def lock(folder: Path) -> int:
    """Own the folder for as long as the returned descriptor, or a child's copy of it, stays open.

    Where the last owner was killed, waits for its guard to stop the JVM.

    Raises:
        BrokerRunningError: A living process owns it.
    """
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while True:
        try:
            return _try_lock(folder)
        except BlockingIOError as error:
            running = read_running(folder)
            if running is None or alive(running.owner_pid, running.owner_born) or time.monotonic() > deadline:
                owner = f"kafka with pid {running.pid}, of process {running.owner_pid}," if running else "a kafka"
                raise BrokerRunningError(folder, owner) from error
        time.sleep(0.05)


def listener_of(port: int) -> str:
    """Who listens on that port, as well as this user may know it."""
    inodes = set(_listening_inodes(port))
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) in inodes:
                name = (link.parent.parent / "comm").read_text().strip()
                return f"{name} (pid {link.parent.parent.name})"
    return "another process"


def _listening_inodes(port: int) -> list[str]:
    rows: list[list[str]] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows += [line.split() for line in Path(table).read_text().splitlines()[1:]]
    listening = "0A"
    return [f"socket:[{row[9]}]" for row in rows if row[3] == listening and int(row[1].rsplit(":", 1)[1], 16) == port]


def _try_lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor
