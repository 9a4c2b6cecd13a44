"""Event ids: UUIDv7 (RFC 9562), increasing within a process, distinct across processes and forks.

The 74 bits after the millisecond are a counter of 42 bits that starts anywhere below 2^41, and 32 fresh random
bits (method 1 and 3 of RFC 9562, 6.2). ``next`` of ``itertools.count`` is one C call, so no lock is taken.

While events are sent, the background thread makes the next ids ahead (``make_ready``): in an app that is otherwise
idle, making an id takes a third of the time of a call. Such an id is less than a second older than its event.
"""

import itertools
import os
import random
import time
from collections import deque
from typing import Deque, Optional, Tuple

READY_COUNT = 64
READY_MAX_AGE_NS = 1_000_000_000


class _State:
    """State that a forked child must not share with its parent."""

    __slots__ = ("bits", "counter", "last_ms", "ready")

    def __init__(self) -> None:
        source = random.Random(os.urandom(16))
        self.bits = source.getrandbits
        self.counter = itertools.count(source.getrandbits(41))
        self.last_ms = 0
        self.ready: Deque[Tuple[int, str]] = deque()


_state = _State()


def _after_fork() -> None:
    global _state
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_id(now_ns: Optional[int] = None) -> str:
    """A fresh id in the usual hyphenated form.

    Args:
        now_ns: wall clock in nanoseconds, where the caller has just read it.
    """
    state = _state
    ms = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    if ms < state.last_ms:
        ms = state.last_ms  # the clock went back: keep the order
    else:
        state.last_ms = ms
    count = next(state.counter)  # 42 bits: 12 behind the version, 30 behind the variant
    return "%08x-%04x-7%03x-%04x-%04x%08x" % (  # noqa: UP031 - half the time of an f-string's six formats
        (ms >> 16) & 0xFFFFFFFF,
        ms & 0xFFFF,
        (count >> 30) & 0xFFF,
        0x8000 | ((count >> 16) & 0x3FFF),
        count & 0xFFFF,
        state.bits(32),
    )


def next_id(now_ns: int) -> str:
    """The oldest id that was made ahead, or a fresh one where there is none, or none of the last second."""
    ready = _state.ready
    try:
        made_ns, event_id = ready.popleft()
        if now_ns - made_ns < READY_MAX_AGE_NS:
            return event_id
        ready.clear()
    except IndexError:
        pass
    return new_id(now_ns)


def make_ready() -> None:
    """Make ids ahead until ``READY_COUNT`` wait; for the background thread, before it waits."""
    ready = _state.ready
    while len(ready) < READY_COUNT:
        now_ns = time.time_ns()
        ready.append((now_ns, new_id(now_ns)))


def id_of(key: str, made_ms: int) -> str:
    """The same id for the same call in every process, in the form of the others (RFC 9562: a UUIDv7 by its layout).

    Args:
        key: names the call among all others, e.g. by the provider's id of the answer.
        made_ms: when the provider made it, milliseconds since the epoch; a part of the id.
    """
    from hashlib import sha256
    from uuid import UUID

    bits = int.from_bytes(sha256(key.encode("utf-8", "replace")).digest()[:10], "big")
    ms = made_ms & 0xFFFFFFFFFFFF
    value = (ms << 80) | (0x7 << 76) | ((bits >> 62 & 0xFFF) << 64) | (0b10 << 62) | (bits & (2**62 - 1))
    return str(UUID(int=value))
