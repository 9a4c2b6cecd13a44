"""Fork: no thread of librdkafka is there when the app forks, and the child begins anew.

A fork copies one thread, and every lock as it is. The threads of a producer that connects hold locks that nobody can
open in the child: glibc's while ``getaddrinfo`` asks the kernel for its addresses, OpenSSL's while a thread makes its
first random number. A child that was born in such a moment sent nothing, for ever (7 of 1,600 that were forked within
milliseconds after the parent's first event). So the parent sends what it has, ends its producer, and forks then.

What cannot be sent in time stays with its producer, and that is never called in the child, not even by its
destructor, which would wait for threads that do not exist (confluent-kafka-python#1122).
"""

import os
import time
import weakref
from typing import Any, List

from tailrace_emitter.native import new_lock

BUILD_S = 10.0  # imports and a producer: a fraction of a second, once
REST_S = 2.0  # what a fork may wait until the producers have sent what they hold

# Held while C libraries are imported or a producer is built, and by a fork: nothing of both happens meanwhile.
_building = new_lock()
_held: List[Any] = []
_senders: "weakref.WeakSet[Any]" = weakref.WeakSet()
_kept_alive: List[Any] = []


def watch(sender: Any) -> None:
    """Call ``sender.rest(until)`` before each fork of this process, and ``sender.after_fork()`` in the child."""
    _senders.add(sender)


def building() -> Any:
    """The lock under which C libraries are imported and producers built."""
    return _building


def keep_for_ever(handle: Any) -> None:
    """See to it that no destructor of ``handle`` runs in this process, not even at its end."""
    _kept_alive.append(handle)
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
    except Exception:  # noqa: BLE001 - not CPython: the list is the best there is
        pass


def _before() -> None:
    if _building.acquire(timeout=BUILD_S):
        _held.append(_building)
    until = time.monotonic() + REST_S
    for sender in list(_senders):
        sender.rest(until)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    global _building
    _building = new_lock()
    _held.clear()
    for sender in list(_senders):
        sender.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
