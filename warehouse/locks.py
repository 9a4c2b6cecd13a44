"""Advisory locks beside a SQLite catalog: one land process, and one bulk writer at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from warehouse.errors import LakeLockedError

_PAUSE_S = 0.005
_LOOK_S = 0.01


class LandLock:
    """Held for the life of the one land process of a SQLite catalog; the kernel frees it when the process dies."""

    def __init__(self, catalog: str) -> None:
        """Take it.

        Raises:
            LakeLockedError: another process holds it; names its pid.
        """
        path = Path(f"{catalog}.land.lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise LakeLockedError(catalog, str(path), pid) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process land; harmless when called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@contextmanager
def commit_slice(catalog: str, *, wait_s: float) -> Iterator[bool]:
    """Hold the catalog's commit lock around one transaction; yields whether it was got within ``wait_s``.

    SQLite makes a second writer wait in steps of a second; those who take turns here never meet there.
    It is advisory: who did not get it in time goes on, and the compare-and-set keeps the lake right.
    """
    file = os.open(f"{catalog}.bulk.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _got(file, wait_s)
    finally:
        with suppress(OSError):
            os.close(file)


@contextmanager
def upkeep(catalog: str) -> Iterator[bool]:
    """Hold what says that somebody merges and expires; yields whether nobody else did."""
    file = os.open(f"{catalog}.upkeep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _got(file, 0.0)
    finally:
        os.close(file)


def held_share(catalog: str, seconds: float) -> float:
    """Wait for ``seconds``; return in which share of them others held the commit lock, as far as looks can tell."""
    looks = held = 0
    end = time.monotonic() + seconds
    file = os.open(f"{catalog}.bulk.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
            looks += 1
            if _got(file, 0.0):
                fcntl.flock(file, fcntl.LOCK_UN)
            else:
                held += 1
    finally:
        os.close(file)
    return held / looks if looks else 0.0


def alive(pid: int) -> bool:
    """Whether a process of this host has that number now, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _got(file: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE_S)
