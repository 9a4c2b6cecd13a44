"""The end of the process: a few seconds to send what is left, then say what was not sent."""

import atexit
import contextlib
import os
import signal
import sys
import time
import weakref
from typing import Any, Callable, Dict, List, Optional

from tailrace_emitter.native import new_lock, original

EXIT_S = 2.0
"""What the end of a process may wait for Kafka; ``TAILRACE_EXIT_S`` says otherwise."""
_SLACK_S = 1.0  # what ``finish`` may take beyond its limit before a signal goes on without it
_open: "weakref.WeakSet[Any]" = weakref.WeakSet()
_state: Dict[str, bool] = {}
_before: List[Callable[[], None]] = []
"""What is called at the end of the process before emitters close."""


def at_exit(sender: Any, *, sigterm: bool) -> None:
    """Flush ``sender`` when the process ends, by itself or (``sigterm``) by a SIGTERM nobody else handles."""
    _open.add(sender)
    _register()
    if sigterm:
        _watch_sigterm()


def before_exit(flush: Callable[[], None]) -> None:
    """Call ``flush`` at the end of the process, before emitters close: what it hands over is still sent."""
    if flush not in _before:
        _before.append(flush)
    _register()


def _register() -> None:
    if not _state.get("atexit"):
        _state["atexit"] = True
        atexit.register(finish)


def exit_s() -> float:
    """Seconds that the end of this process may wait; what is no number of seconds counts as not set."""
    try:
        return min(max(float(os.environ["TAILRACE_EXIT_S"]), 0.0), 3600.0)
    except (KeyError, ValueError):
        return EXIT_S


def finish(sleep: Optional[Callable[[float], None]] = None) -> None:
    """Close every emitter within ``exit_s()`` in all; left-overs are counted on stderr."""
    for flush in _before:
        with contextlib.suppress(Exception):
            flush()
    limit = exit_s()
    until = time.monotonic() + limit
    left = 0
    reasons: Dict[str, int] = {}
    senders = list(_open)
    for sender in senders:
        left += sender.close(max(0.0, until - time.monotonic()), sleep)
    for sender in senders:
        for reason, count in sender.stats()["dropped"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    if left or reasons:
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        try:
            sys.stderr.write(
                f"tailrace_emitter: {left} events not delivered at exit within {limit:g} s (TAILRACE_EXIT_S)"
                + (f"; dropped before: {lost}" if lost else "")
                + "\n"
            )
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - stderr may be gone
            pass


def _watch_sigterm() -> None:
    """Flush on SIGTERM, only where nobody handles it: the app's own handler, now or later, replaces ours.

    Afterwards the signal's default action runs, so the process ends with the same status as without us.
    """
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except (ValueError, OSError, AttributeError):  # not in the main thread; any greenlet of it will do
        pass


def _on_sigterm(number: int, frame: Any) -> None:
    """Finish in another thread, then die of the signal.

    The interrupted main thread may stand inside ``put`` and hold the very locks that ``close`` and ``stats`` need;
    waiting for itself it would never end. Those of ``threading`` too: hence a bare thread and a bare lock.
    """
    done = new_lock()
    done.acquire()
    try:
        original("_thread", "start_new_thread")(_finish_and_open, (done,))
        done.acquire(timeout=exit_s() + _SLACK_S)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _finish_and_open(done: Any) -> None:
    try:
        finish(original("time", "sleep"))  # a greenlet's would bring a hub of its own
    finally:
        done.release()
