"""The exit of the process: a few seconds to send the queued events, then report how many were not sent."""

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
"""Longest wait for Kafka at the exit of a process; ``TAILRACE_EXIT_S`` overrides it."""
_SLACK_S = 1.0  # time beyond its limit that ``finish`` gets before the signal handler continues without it
_open: "weakref.WeakSet[Any]" = weakref.WeakSet()
_state: Dict[str, bool] = {}
_before: List[Callable[[], None]] = []
"""Functions that are called at the exit of the process before emitters close."""


def at_exit(sender: Any, *, sigterm: bool) -> None:
    """Flush ``sender`` when the process exits, by itself or (``sigterm``) by a SIGTERM that has no other handler."""
    _open.add(sender)
    _register()
    if sigterm:
        _watch_sigterm()


def before_exit(flush: Callable[[], None]) -> None:
    """Call ``flush`` at the exit of the process, before emitters close: events that it records are still sent."""
    if flush not in _before:
        _before.append(flush)
    _register()


def _register() -> None:
    if not _state.get("atexit"):
        _state["atexit"] = True
        atexit.register(finish)


def exit_s() -> float:
    """Seconds that the exit of this process may wait; an invalid value counts as not set."""
    try:
        return min(max(float(os.environ["TAILRACE_EXIT_S"]), 0.0), 3600.0)
    except (KeyError, ValueError):
        return EXIT_S


def finish(sleep: Optional[Callable[[float], None]] = None) -> None:
    """Close every emitter within ``exit_s()`` in total; events that were not sent are counted on stderr."""
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
        except Exception:  # noqa: BLE001 - stderr may be closed
            pass


def _watch_sigterm() -> None:
    """Flush on SIGTERM, only where it has no handler: a handler of the app, now or later, replaces ours.

    Afterwards the signal's default action runs, so the process ends with the same status as without us.
    """
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except (ValueError, OSError, AttributeError):  # not in the main thread, where any greenlet may set a handler
        pass


def _on_sigterm(number: int, frame: Any) -> None:
    """Call ``finish`` in another thread, then exit by the default action of the signal.

    The interrupted main thread may be inside ``put`` and hold the locks that ``close`` and ``stats`` need; it would
    wait for itself without end. This holds for the locks of ``threading`` too, so a thread and a lock of ``_thread``
    are used.
    """
    done = new_lock()
    done.acquire()
    try:
        original("_thread", "start_new_thread")(_finish_and_release, (done,))
        done.acquire(timeout=exit_s() + _SLACK_S)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _finish_and_release(done: Any) -> None:
    try:
        finish(original("time", "sleep"))  # a lock of gevent would create another event loop
    finally:
        done.release()
