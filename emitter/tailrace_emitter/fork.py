"""Fork: no thread of librdkafka is there when the app forks, and the child begins anew.

A fork copies one thread, and every lock as it is. The threads of a producer that connects hold locks that nobody can
open in the child: glibc's while ``getaddrinfo`` asks the kernel for its addresses, OpenSSL's while a thread makes its
first random number. A child that was born in such a moment sent nothing, for ever, and its app could not look up a
name either. So the parent sends what its producer holds and ends it, and forks then; events that come meanwhile wait
for the next producer, which is not built before a row of forks is over (``bench/forks.py``).

What cannot be sent in time stays with its producer, and that is never called in the child, not even by its
destructor, which would wait for threads that do not exist (confluent-kafka-python#1122).
"""

import os
import time
import weakref
from typing import Any, List

from tailrace_emitter.native import here, original

BUILD_S = 10.0  # imports and a producer: a fraction of a second, once
REST_S = 2.0  # what a fork may wait until the producers have sent what they hold
CALM_S = 0.2  # a server forks its workers one after the other

# Held while C libraries are imported or a producer is built, and by a fork: neither happens during the other. A
# signal's handler may fork in the middle of a fork of its own thread: hence one that a thread may take twice.
_building = original("_thread", "RLock")()
_held_by: List[int] = []
_forked_at = float("-inf")
_senders: "List[weakref.ref[Any]]" = []
_kept_alive: List[Any] = []


def watch(sender: Any) -> None:
    """Have ``sender`` rest before each fork of this process, and begin anew in the child."""
    _senders[:] = [known for known in _senders if known() is not None]
    _senders.append(weakref.ref(sender))


def building() -> Any:
    """The lock under which C libraries are imported and producers built."""
    return _building


def calm_s() -> float:
    """Seconds until the last fork is so long ago that no other is to be expected right behind it."""
    return _forked_at + CALM_S - time.monotonic()


def keep_for_ever(handle: Any) -> None:
    """See to it that no destructor of ``handle`` runs in this process, not even at its end."""
    _kept_alive.append(handle)
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
    except Exception:  # noqa: BLE001 - not CPython: the list is the best there is
        pass


def _watched() -> List[Any]:
    return [sender for sender in [known() for known in list(_senders)] if sender is not None]


def _before() -> None:
    if _building.acquire(timeout=BUILD_S):
        _held_by.append(here())
    until = time.monotonic() + REST_S
    senders = _watched()
    for sender in senders:
        sender.ask_to_rest(until)
    for sender in senders:
        sender.wait_for_rest(until)


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
