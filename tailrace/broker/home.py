"""The broker's folder: one owner at a time, and who that is."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tailrace.broker.errors import BrokerRunningError
from warehouse.storage.locks import is_running, open_lock_file, try_lock

# the guard of a killed owner stops its JVM within this time
ORPHAN_GRACE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """Who runs a broker in a folder; kept in its file ``pid``."""

    pid: int
    owner_pid: int
    port: int
    owner_born: int | None = None
    """When the owner began, by `process_start_time`: by now its pid may belong to another process."""


def write_running(folder: Path, running: Running) -> None:
    """Write the pid and the ports of the broker that runs here."""
    (folder / "pid").write_text(json.dumps(asdict(running)) + "\n")


def read_running(folder: Path) -> Running | None:
    """Read the broker that was started here last; it may have ended long ago."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Running(**json.loads((folder / "pid").read_text()))
    return None


def is_locked(folder: Path) -> bool:
    """Whether some process owns the folder now."""
    try:
        file = open_lock_file(folder / "lock")
    except FileNotFoundError:
        return False
    try:
        return not try_lock(file)
    finally:
        os.close(file)


def lock(folder: Path) -> int:
    """Own the folder for as long as the returned descriptor, or a child's copy of it, stays open.

    Where the last owner was killed, waits for its guard to stop the JVM.

    Raises:
        BrokerRunningError: A living process owns it.
    """
    deadline = time.monotonic() + ORPHAN_GRACE_S
    file = open_lock_file(folder / "lock")
    while not try_lock(file):
        running = read_running(folder)
        if running is None or is_running(running.owner_pid, running.owner_born) or time.monotonic() > deadline:
            os.close(file)
            owner = f"kafka with pid {running.pid}, of process {running.owner_pid}," if running else "a kafka"
            raise BrokerRunningError(folder, owner)
        time.sleep(0.05)
    return file


def listener_of(port: int) -> str:
    """Who listens on that port, as well as this user may know it."""
    with contextlib.suppress(psutil.Error, OSError):
        for socket in psutil.net_connections("tcp"):
            if socket.status == psutil.CONN_LISTEN and socket.laddr[1:] == (port,) and socket.pid:
                return f"{psutil.Process(socket.pid).name()} (pid {socket.pid})"
    return "another process"
