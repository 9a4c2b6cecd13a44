"""Heartbeats during one long call of a library that cannot be split, such as a transaction of the lake."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState

EVERY_S = 1.0
AT_MOST_S = 600.0
"""Longer than any transaction of a batch: one of history writes hundreds of files, each in a second on a slow disk."""


@contextmanager
def busy(
    heartbeat: HeartbeatCallback, state: StageState, *, every_s: float = EVERY_S, at_most_s: float = AT_MOST_S
) -> Iterator[None]:
    """Report ``state`` from a thread for the length of the block.

    After ``at_most_s`` the reports end: what takes longer counts as hung, and the supervisor starts the stage again.
    """
    done = threading.Event()
    end = time.monotonic() + at_most_s

    def report() -> None:
        while not done.wait(every_s) and time.monotonic() < end:
            heartbeat(StageFacts(state=state))

    thread = threading.Thread(target=report, name="busy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
