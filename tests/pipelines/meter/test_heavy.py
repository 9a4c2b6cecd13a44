"""Wide dimensions stay bounded, and who is tracked follows from the log alone."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.meter.heavy import BLOCK, HeavyHitters, hash_values


def tracked(hitters, values, start=0, cuts=()):
    """Who is tracked, value by value at offsets from ``start``, handed over in batches cut at ``cuts``."""
    found = []
    edges = [0, *sorted(c for c in cuts if 0 < c < len(values)), len(values)]
    for a, b in pairwise(edges):
        names = sorted({v for v in values[a:b] if v is not None})
        codes = np.array([-1 if v is None else names.index(v) for v in values[a:b]])
        offsets = np.arange(start + a, start + b)
        found += hitters.track("user", 0, offsets, codes, hash_values(names)).tolist()
    return found


def test_the_first_new_values_of_a_block_are_tracked_and_later_ones_are_not():
    found = tracked(HeavyHitters(heavy=2, fresh=2), ["a", "b", "c", "a", "c", None])
    assert found == [True, True, False, True, False, False]


def test_heavy_hitters_of_a_block_are_tracked_in_the_next():
    hitters = HeavyHitters(heavy=1, fresh=1)
    tracked(hitters, ["a", "big", "big", "big"])
    assert tracked(hitters, ["new", "big", "newer", "a"], start=BLOCK) == [True, True, False, False]


def test_a_block_that_was_skipped_has_no_heavy_hitters():
    hitters = HeavyHitters(heavy=1, fresh=1)
    tracked(hitters, ["big"] * 3)
    assert tracked(hitters, ["new", "big"], start=2 * BLOCK) == [True, False]


values = st.lists(st.sampled_from([*"abcdefgh", None]), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@example(log=["a", None, "b", "c", "d"], cuts=[2], start=BLOCK - 40)
@given(log=values, cuts=st.lists(st.integers(0, 60)), start=st.integers(BLOCK - 40, BLOCK))
def test_batches_change_nothing_even_across_a_block(log, cuts, start):
    whole = tracked(HeavyHitters(heavy=2, fresh=3), log, start)
    assert tracked(HeavyHitters(heavy=2, fresh=3), log, start, cuts) == whole


@settings(max_examples=40, deadline=None)
@given(log=values, rest=values)
def test_reading_again_from_the_block_before_is_as_if_never_stopped(log, rest):
    never = HeavyHitters(heavy=2, fresh=2)
    for block in range(3):
        tracked(never, log[block:] or ["x"], start=block * BLOCK)
    again = HeavyHitters(heavy=2, fresh=2)
    for block in (1, 2):
        tracked(again, log[block:] or ["x"], start=block * BLOCK)
    start = 2 * BLOCK + len(log)
    assert tracked(never, rest, start) == tracked(again, rest, start)


@pytest.mark.row(50)
def test_a_million_users_take_little_memory():
    hitters = HeavyHitters()
    rng = np.random.default_rng(1)
    shown = set()
    for batch in range(0, 3 * BLOCK, 8192):
        users = rng.integers(0, 1_000_000, 8192)
        users[rng.random(8192) < 0.1] = 7
        names, codes = np.unique(users, return_inverse=True)
        found = hitters.track("user", 0, np.arange(batch, batch + 8192), codes, hash_values(names.tolist()))
        shown |= set(users[found].tolist())
    assert 7 in shown
    assert len(shown) <= 3 * 2000
    (block,) = hitters._blocks.values()
    assert sum(a.nbytes + b.nbytes for a, b in block.seen) < 2 << 20


def test_a_slow_stream_whose_batches_are_single_calls_needs_no_more_memory_than_a_fast_one():
    hitters, names = HeavyHitters(), [f"u{n}" for n in range(50)]
    hashes = hash_values(names)

    def feed(first, count):
        for n in range(first, first + count):
            hitters.track("user", 0, np.array([n]), np.array([n % 50]), hashes)

    feed(0, 200)
    tracemalloc.start()
    try:
        feed(200, 3000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000, f"{grown} bytes for 3,000 calls of 50 users"
