"""Fork: no thread of librdkafka runs when the app forks, and the child starts with a new producer.

A fork copies one thread, and every lock as it is. The threads of a producer that connects hold locks that the child
cannot release: glibc's while ``getaddrinfo`` asks the kernel for its addresses, OpenSSL's while a thread makes its
first random number. A child that was forked at such a moment never sent an event, and its app could not resolve a host
name either. So the parent first sends what its producer holds and closes the producer, and then forks. Events that come
during this wait for the next producer, which is built only after a series of forks has ended (``bench/forks.py``).

Events that cannot be sent in time stay with their producer. The child never calls that producer, not even its
destructor, which would wait for threads that do not exist (confluent-kafka-python#1122).
"""

import os
import time
import weakref
from typing import Any, List

from tailrace_emitter.native import here, original

BUILD_S = 10.0  # imports and a producer: a fraction of a second, once
FORK_WAIT_S = 2.0  # longest wait of a fork for the producers to send what they hold
FORK_SERIES_GAP_S = (
    0.2  # a server forks its workers one after the other: this long after a fork the next one may follow
)

# Held while C libraries are imported or a producer is built, and by a fork: neither happens during the other.
# Reentrant, because a signal handler may fork while its own thread is in a fork.
_building = original("_thread", "RLock")()
_held_by: List[int] = []
_forked_at = float("-inf")
_senders: "List[weakref.ref[Any]]" = []
_kept_alive: List[Any] = []


def watch(sender: Any) -> None:
    """Make ``sender`` close its producer before each fork of this process, and start again in the child."""
    _senders[:] = [known for known in _senders if known() is not None]
    _senders.append(weakref.ref(sender))


def building() -> Any:
    """The lock under which C libraries are imported and producers built."""
    return _building


def next_fork_expected_s() -> float:
    """Seconds until the series of forks counts as ended: until then another fork is likely to follow."""
    return _forked_at + FORK_SERIES_GAP_S - time.monotonic()


def never_destroy(handle: Any) -> None:
    """Prevent that a destructor of ``handle`` runs in this process, even at its exit."""
    _kept_alive.append(handle)
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
    except Exception:  # noqa: BLE001 - not CPython: only the list keeps the handle
        pass


def _watched() -> List[Any]:
    return [sender for sender in [known() for known in list(_senders)] if sender is not None]


def _before() -> None:
    if _building.acquire(timeout=BUILD_S):
        _held_by.append(here())
    until = time.monotonic() + FORK_WAIT_S
    senders = _watched()
    for sender in senders:
        sender.request_close(until)
    for sender in senders:
        sender.wait_for_close(until)


def _after_in_parent() -> None:
    global _forked_at
    _forked_at = time.monotonic()
    if here() in _held_by:
        _held_by.remove(here())
        _building.release()


def _after_in_child() -> None:
    global _building, _forked_at
    _building = original("_thread", "RLock")()
    _held_by.clear()
    _forked_at = float("-inf")
    for sender in _watched():
        sender.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
