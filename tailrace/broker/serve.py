"""Run a broker in the foreground; stop one that runs elsewhere."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tailrace.broker import home as folders
from tailrace.broker.errors import BrokerStopError
from tailrace.broker.process import Broker
from tailrace.supervisor.signals import SignalEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def serve(
    home: Path, *, on_ready: Callable[[Broker], None] | None = None, heap_mb: int = 512, java_home: Path | None = None
) -> int:
    """Run a broker until SIGTERM, SIGINT or its own end.

    Args:
        home: As for ``Broker``.
        on_ready: Called once clients are served.
        heap_mb: As for ``Broker``.
        java_home: As for ``Broker``.

    Returns:
        0 if it was stopped, 1 if Kafka ended by itself.

    Raises:
        BrokerError: It cannot start.
    """
    stop_requested = SignalEvent()
    previous = {number: signal.signal(number, stop_requested.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Broker(home, heap_mb=heap_mb, java_home=java_home) as broker:
            if on_ready:
                on_ready(broker)
            while broker.alive and not stop_requested.wait(0.2):
                pass
            return 0 if stop_requested.is_set() else 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_running(home: Path, timeout_s: float = 15) -> bool:
    """Stop the broker that runs in ``home``, started by any process; False if none does.

    Raises:
        BrokerStopError: It did not end.
    """
    folder = home.absolute() / "kafka"
    running = folders.read_running(folder)
    # the lock shows whether it runs, not the pid: a pid may have been reused by another process
    if running is None or not folders.is_locked(folder):
        return False
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while folders.is_locked(folder):
        if time.monotonic() > deadline:
            raise BrokerStopError(running.pid, folder, timeout_s)
        time.sleep(0.05)
    return True
