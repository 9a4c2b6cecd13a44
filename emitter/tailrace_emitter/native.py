"""A thread, a lock, an event and a sleep of the operating system, also where gevent has replaced them by greenlets.

The sender's thread waits inside librdkafka. As a greenlet it would block all others: an app under
``gevent.monkey.patch_all()`` was blocked for as long as the broker was unavailable (row 58 of the fault matrix). The
functions are looked up when they are used, not when this module is imported, because gunicorn's gevent workers patch
after the fork.
"""

import sys
import threading
from contextlib import suppress
from typing import Any, Callable


def original(module: str, name: str) -> Any:
    """Return ``module.name`` (of ``_thread`` or ``time``) as it was before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    return getattr(sys.modules[module], name) if monkey is None else monkey.get_original(module, name)


def greenlets() -> bool:
    """Whether gevent has put greenlets in the place of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def here() -> int:
    """Identify the thread of the operating system that runs this."""
    return int(original("_thread", "get_ident")())


def new_lock() -> Any:
    """A lock that stops the whole thread; hold it for microseconds, and never over a greenlet's switch."""
    return original("_thread", "allocate_lock")()


def start_thread(run: Callable[[], None], name: str) -> Any:
    """Run ``run`` in a daemon thread: the exit of the process does not wait for it.

    Raises:
        RuntimeError: the interpreter shuts down.
    """
    if greenlets():
        return original("_thread", "start_new_thread")(run, ())
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class Event:
    """What ``threading.Event`` does, for one that waits; ``set`` takes no lock that could be held."""

    def __init__(self) -> None:
        self._closed = new_lock()
        self._closed.acquire()
        self._set = False

    def is_set(self) -> bool:
        """Whether ``set`` was called since ``clear``."""
        return self._set

    def set(self) -> None:
        """Wake the waiting thread up."""
        self._set = True
        with suppress(RuntimeError):  # it is released already
            self._closed.release()

    def clear(self) -> None:
        """The next ``wait`` waits again."""
        self._set = False
        self._closed.acquire(False)

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, at most ``timeout`` seconds; return whether it is."""
        if not self._set:
            self._closed.acquire(True, timeout)
        return self._set
