"""Halves hold every row once, and their moves tile the whole."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.land.split_batch import MOST_DAYS, by_days, days, split_batch
from schemas.records import Move
from schemas.topics import EVENTS, ROLLUPS


def table(positions, topic=None):
    columns = {
        "_partition": pa.array([p for p, _ in positions], pa.int32()),
        "_offset": pa.array([o for _, o in positions], pa.int64()),
    }
    if topic:
        columns["topic"] = pa.array([topic] * len(positions), pa.string())
    return pa.table(columns)


def pieces(tables, moves):
    cut = split_batch(tables, moves)
    if cut is None:
        return [(tables, moves)]
    return [piece for half in cut for piece in pieces(*half)]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=25))
def test_cut_to_the_end_every_row_stands_once_with_its_own_position(positions):
    ordered = sorted(positions)
    moves = [Move(EVENTS, p, 0, 13) for p in range(3)] + [Move(ROLLUPS, 0, 0, 4)]
    tables = {
        "raw_calls": table(ordered[::2]),
        "dead": table(ordered[1::2], EVENTS),
        "ticks": table([(0, 1), (0, 1)]),
    }
    landed = []
    for part, (move,) in pieces(tables, moves):
        assert move.end - move.start == 1
        for name, rows in part.items():
            assert rows.num_rows
            landed += [
                (name, p, o) for p, o in zip(*rows.select(["_partition", "_offset"]).to_pydict().values(), strict=True)
            ]
            assert {p for _, p, _ in landed[-rows.num_rows :]} == {move.partition}
            assert {o for _, _, o in landed[-rows.num_rows :]} == {move.start}
    expected = [("raw_calls", *at) for at in ordered[::2]] + [("dead", *at) for at in ordered[1::2]]
    assert sorted(landed) == sorted([*expected, ("ticks", 0, 1), ("ticks", 0, 1)])


def test_one_position_cannot_be_halved():
    assert split_batch({"raw_calls": table([(0, 5)])}, [Move(EVENTS, 0, 5, 6)]) is None


def test_the_days_of_a_batch_are_those_of_its_widest_table():
    dated = {"raw_calls": pa.table({"day": [1, 2, 2, 3]}), "dead": pa.table({"day": [1]}), "alerts": table([(0, 1)])}
    assert days(dated) == 3
    assert days({}) == 0


def history(*partitions):
    """Calls of some partitions, each a list of days since 2020."""
    rows = [(p, n, date(2020, 1, 1) + timedelta(days=d)) for p, ds in enumerate(partitions) for n, d in enumerate(ds)]
    calls = table([(p, n) for p, n, _ in rows]).append_column("day", pa.array([day for *_, day in rows]))
    return {"raw_calls": calls}, [Move(EVENTS, p, 0, len(ds)) for p, ds in enumerate(partitions)]


def test_history_in_the_order_of_its_time_is_cut_into_commits_of_few_days():
    two = history([n // 2 for n in range(2000)], [n for n in range(1000)])
    (first, moves), (second, rest) = by_days(*two)
    assert (days(first), days(second)) == (500, 500)
    assert [(m.partition, m.start, m.end) for m in (*moves, *rest)] == [
        (0, 0, 1000),
        (1, 0, 500),
        (0, 1000, 2000),
        (1, 500, 1000),
    ]
    assert by_days(*history([n % MOST_DAYS for n in range(2000)])) is None, "few days"


def test_history_in_no_order_is_not_cut_for_each_half_would_have_all_its_days():
    assert by_days(*history([n * 733 % 1000 for n in range(4000)])) is None
    assert by_days(*history(*([n] for n in range(200)))) is None, "one position each"
