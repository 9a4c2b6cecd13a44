"""SIGTERM and SIGINT as an event to wait for."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class SignalEvent(threading.Event):
    """An event that a signal handler may set, also a handler that interrupts another one.

    A handler runs in the main thread, between any two steps of it. The lock of a plain ``Event`` is not reentrant: set
    while the main thread enters ``wait``, it would wait for itself without end. So would a handler that writes a log
    line.
    """

    def __init__(self) -> None:
        """Like ``Event``, on a reentrant lock."""
        super().__init__()
        self._cond = threading.Condition(threading.RLock())
        self.number: int | None = None
        """Of the first signal that came."""

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Be the handler of a signal."""
        if self.number is None:
            self.number = number
        self.set()

    @property
    def name(self) -> str | None:
        """Name of the first signal that came."""
        return None if self.number is None else signal.Signals(self.number).name


def on_stop_signals() -> SignalEvent:
    """Return an event that SIGTERM and SIGINT set from now on."""
    event = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, event.receive)
    return event
