"""One supervisor and one copy of each stage a home: locks that the kernel frees, never a pid file that may be stale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import FatalError
from tailrace.home.layout import Home
from warehouse.storage.locks import LifeLock, LockHeldError

_WAIT_S = 3.0
"""A process that was killed a moment ago may still be ending."""


class HomeInUseError(FatalError):
    """Another supervisor runs on this home."""

    def __init__(self, home: Path, pid: str) -> None:
        self.home, self.pid = home, pid
        super().__init__(
            f"another `tailrace up` runs on {home}: process {pid or 'unknown'}; "
            "one home, one supervisor: stop that process, or start this one with another --home"
        )


class StageRunsError(FatalError):
    """Another process runs this stage on this home."""

    def __init__(self, name: str, home: Path, pid: str, consequence: str) -> None:
        self.name, self.home, self.pid = name, home, pid
        super().__init__(
            f"{name} runs already on {home}: process {pid or 'unknown'}; {consequence}: "
            "stop that process (or its `tailrace up`), or start this one with another --home"
        )


@contextmanager
def owned_home(home: Home) -> Iterator[None]:
    """Be the one supervisor of ``home`` for the length of the block.

    Raises:
        HomeInUseError: another process is.
    """
    try:
        lock = LifeLock(home.folder("run") / "up.lock", wait_s=_WAIT_S)
    except LockHeldError as error:
        raise HomeInUseError(home.path, error.pid) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def owned_stage(home: Home, name: str, consequence: str) -> Iterator[None]:
    """Be the one copy of stage ``name`` on ``home`` for the length of the block.

    Args:
        home: where.
        name: of the stage.
        consequence: what two copies would do; empty where the stage looks after that itself, then nothing is locked.

    Raises:
        StageRunsError: another process runs it.
    """
    if not consequence:
        yield
        return
    try:
        lock = LifeLock(home.folder("run") / f"{name}.lock", wait_s=_WAIT_S)
    except LockHeldError as error:
        raise StageRunsError(name, home.path, error.pid, consequence) from None
    try:
        yield
    finally:
        lock.release()
