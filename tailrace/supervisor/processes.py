"""Parents and orphans: a process ends when its parent ends, and process 1 of a container reaps orphaned children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Collection

import structlog

log = structlog.get_logger()
_PR_SET_PDEATHSIG = 1
_ASK_EVERY_S = 0.5


def end_with(parent: int) -> None:
    """End this process when process ``parent`` ends, however that ends.

    The parent hands in its own id. The number 1 proves nothing: in a container without an init the supervisor is
    process 1, and elsewhere an orphan's new parent may be any process (prctl(2), PR_SET_CHILD_SUBREAPER).
    """
    tied = _tied_by_the_kernel()
    if os.getppid() != parent:  # the parent ended before prctl took effect
        _end(parent)
    if not tied:
        threading.Thread(target=_ask, args=(parent,), name="parent-watch", daemon=True).start()


def reap(own: Collection[int]) -> None:
    """Reap the processes that this one adopted, without waiting; a no-op unless this is process 1.

    The kernel gives every orphan of a container to its process 1. Nothing else reaps them there.

    Args:
        own: the children whose exit codes this process still reads.
    """
    if os.getpid() != 1:
        return
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own:
                return  # its owner reads the code at its next look; what is behind it waits for the one after
            os.waitpid(ended.si_pid, 0)


def _tied_by_the_kernel() -> bool:
    """Whether the kernel will send SIGKILL at the parent's end; it is Linux alone that can."""
    with contextlib.suppress(OSError, AttributeError):
        return int(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)) == 0
    return False


def _ask(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ASK_EVERY_S)
    _end(parent)


def _end(parent: int) -> None:
    try:
        log.error("parent_ended", parent_pid=parent, remedy="start it with `tailrace up`, or without --parent")
    finally:
        os._exit(1)  # also where the log cannot be written: the parent was the reader of its pipe
