"""Ids are UUIDv7, in order, and never the same twice: not in threads, not after a fork."""

import subprocess
import sys
import threading
import time
import uuid

from tailrace_emitter.ids import READY_MAX_AGE_NS, make_ready, new_id, next_id


def test_an_id_is_a_uuid_of_version_7_that_tells_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    one = uuid.UUID(new_id())
    assert (one.version, one.variant) == (7, uuid.RFC_4122)
    assert before <= one.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_of_a_process_increase_even_when_the_clock_goes_back() -> None:
    ids = [new_id(2_000_000_000_000_000_000 - i * 1_000_000_000) for i in range(1000)]
    assert ids == sorted(set(ids))


def test_ids_made_ahead_are_in_order_with_those_made_at_once() -> None:
    now = time.time_ns()
    first = next_id(now)
    make_ready()
    ids = [first, *[next_id(time.time_ns()) for _ in range(200)]]  # more than were made ahead
    assert ids == sorted(set(ids))


def test_an_id_made_ahead_is_not_used_a_second_later() -> None:
    make_ready()
    later = time.time_ns() + READY_MAX_AGE_NS
    assert uuid.UUID(next_id(later)).int >> 80 >= later // 1_000_000


def test_threads_never_share_an_id() -> None:
    found: list[str] = []

    def make() -> None:
        for _ in range(20):
            make_ready()
            found.extend([next_id(time.time_ns()) for _ in range(100)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16_000


FORK = """
import os, time
from tailrace_emitter.ids import make_ready, next_id
make_ready()
child = os.fork()
ids = " ".join(next_id(time.time_ns()) for _ in range(100))
if child:
    os.waitpid(child, 0)
os.write(1, f"{ids}\\n".encode())
os._exit(0)
"""
"""In a process of its own: one that has run a thousand tests may be too large to be forked."""


def test_a_forked_child_makes_ids_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    theirs, mine = (set(line.split()) for line in done.stdout.splitlines())
    assert len(mine) == len(theirs) == 100
    assert not mine & theirs
