"""Advisory locks for one land process and one bulk writer of a SQLite catalog; and whether a process runs.

filelock is imported where a lock is taken: that costs 80 ms, and `tailrace sql` takes none. Processes are not psutil's
here: what identifies one must be storable, and must stay the same when the clock is set (docs/engine-notes.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from warehouse.errors import LakeLockedError

_PAUSE_S = 0.005
_LOOK_S = 0.01
_ENDED = frozenset("ZX")
"""States of a process that has ended and was not reaped yet."""


class LockHeldError(Exception):
    """Another process holds a `LifeLock`; ``pid`` is its process id as it wrote it, "" where it has not yet."""

    def __init__(self, path: Path, pid: str) -> None:
        self.path, self.pid = path, pid
        super().__init__(f"process {pid or 'unknown'} holds {path}")


class LifeLock:
    """A lock file that one process holds for its life; the kernel frees it when the process ends, however it ends.

    Child processes do not inherit it. filelock's lock is flock(2); a file system without it is refused, because the
    file that filelock would use there instead outlives a killed process.
    """

    def __init__(self, path: Path, *, wait_s: float = 0.0) -> None:
        """Acquire it; a holder that is about to end is waited for.

        Raises:
            LockHeldError: another process holds it.
        """
        from filelock import FileLock, Timeout

        self._lock = FileLock(
            path,
            timeout=wait_s,
            mode=0o600,
            thread_local=False,
            poll_interval=_PAUSE_S,
            fallback_to_soft=False,
            on_acquired=lambda file: _write(file, str(os.getpid())),
        )
        try:
            self._lock.acquire()
        except Timeout:
            raise LockHeldError(path, path.read_text(errors="replace").strip()) from None

    def release(self) -> None:
        """Let another process acquire it; a second call does nothing."""
        self._lock.release()


class LandLock:
    """Held for the life of the one land process of a SQLite catalog."""

    def __init__(self, catalog: str) -> None:
        """Acquire it.

        Raises:
            LakeLockedError: another process holds it; names its pid.
        """
        try:
            self._lock = LifeLock(Path(f"{catalog}.land.lock"))
        except LockHeldError as error:
            raise LakeLockedError(catalog, str(error.path), error.pid) from None

    def release(self) -> None:
        """Let another process land; a second call does nothing."""
        self._lock.release()


@contextmanager
def commit_slice(catalog: str, *, wait_s: float) -> Iterator[bool]:
    """Hold the catalog's commit lock around one transaction; yields whether it was got within ``wait_s``.

    SQLite makes a second writer wait in steps of a second; writers that hold this lock in turn do not conflict there.
    It is advisory: a writer that did not get it in time continues, and the compare-and-set keeps the lake correct.
    """
    with _opened(f"{catalog}.bulk.lock") as file:
        yield _acquire(file, wait_s)


@contextmanager
def upkeep(catalog: str) -> Iterator[bool]:
    """Hold the upkeep lock (merge and expiry); yields whether it was free."""
    with _opened(f"{catalog}.upkeep.lock") as file:
        yield try_lock(file)


def held_share(catalog: str, seconds: float) -> float:
    """Wait for ``seconds``; return the share of them in which other writers held the commit lock, from samples."""
    from filelock import unlock_descriptor

    looks = held = 0
    end = time.monotonic() + seconds
    with _opened(f"{catalog}.bulk.lock") as file:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
            looks += 1
            if try_lock(file):
                unlock_descriptor(file)
            else:
                held += 1
    return held / looks if looks else 0.0


def open_lock_file(path: Path | str) -> int:
    """Return a descriptor of the lock file ``path``, made if it is missing; its content stays."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(file: int) -> bool:
    """Lock an open file, if no other process has; the lock lasts until the last copy of the descriptor is closed."""
    from filelock import lock_descriptor

    return lock_descriptor(file, blocking=False)


def is_running(pid: int, started: int | None = None) -> bool:
    """Whether process ``pid`` of this host runs, of any user.

    Args:
        pid: its process id. Ids are used again.
        started: when it began, by `process_start_time`; it distinguishes a later process of the same id. None: unknown.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, began = _stat(pid)
    return state not in _ENDED and (started is None or began is None or began == started)


def process_start_time(pid: int) -> int | None:
    """Return when process ``pid`` began, in clock ticks since the boot; None: it has ended, or there is no /proc."""
    return _stat(pid)[1]


def pid_namespace() -> int | None:
    """Return the number of the PID namespace of this process; None where the system has none (pid_namespaces(7))."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


@contextmanager
def _opened(path: str) -> Iterator[int]:
    file = open_lock_file(path)
    try:
        yield file
    finally:
        with suppress(OSError):
            os.close(file)


def _stat(pid: int) -> tuple[str, int | None]:
    """State and start time: fields 3 and 22 of /proc/PID/stat (proc(5)); the name before them may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", None


def _write(file: int, text: str) -> None:
    os.pwrite(file, text.encode(), 0)


def _acquire(file: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while not try_lock(file):
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE_S)
    return True
