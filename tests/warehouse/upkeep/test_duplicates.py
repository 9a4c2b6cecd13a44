"""Duplicates that land cannot see: far apart, in another partition, after a restart; and what contradicts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from schemas.records import Move
from warehouse.upkeep import find_duplicates
from warehouse.verify.verify import verify

EVENTS = "llm.events"
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def land(lake, rows):
    """Land calls, given as (offset, partition, id of the call at that offset of partition 0, more)."""

    def landed(*calls):
        positions = lake.ledger()
        partitions = {partition for _, partition, *_ in calls}
        table = rows.table("raw_calls", [rows.call(o, p, id=rows.call(like)["id"], **m) for o, p, like, m in calls])
        upto = {p: max(o for o, q, *_ in calls if q == p) + 1 for p in partitions}
        lake.append({"raw_calls": table}, [Move(EVENTS, p, positions[EVENTS, p], upto[p]) for p in partitions])

    return landed


def found(lake):
    sql = "SELECT _partition, _offset, kept_partition, kept_offset, conflict FROM late_duplicates ORDER BY ALL"
    return [tuple(row.values()) for row in lake.query(sql).to_pylist()]


SAME = {"cost_usd": Decimal(1)}


def test_the_first_position_counts_and_later_ones_do_not(lake, land, rows):
    at = rows.call(0)["ts"]
    land((0, 0, 0, SAME), (1, 0, 1, SAME), (2, 0, 0, {**SAME, "ts": at}), (0, 1, 1, {"ts": rows.call(1)["ts"]}))
    land((1, 1, 0, {"ts": at, "_kafka_time": at - timedelta(seconds=5)}))
    look = find_duplicates(lake, at=AT)
    assert (look.positions, look.late) == (5, 3)
    # partition 1 had id 0 five seconds before partition 0 had it, and id 1 a second before
    assert found(lake) == [(0, 0, 1, 1, False), (0, 1, 1, 0, False), (0, 2, 1, 1, False)]
    assert lake.query("SELECT _partition, _offset FROM calls ORDER BY ALL").to_pylist() == [
        {"_partition": 1, "_offset": 0},
        {"_partition": 1, "_offset": 1},
    ]


def test_what_was_looked_at_is_not_looked_at_again_and_slices_find_what_one_look_finds(lake, land, rows):
    at = rows.call(0)["ts"]
    land(*((o, 0, o % 4, {"ts": rows.call(o % 4)["ts"]}) for o in range(12)))
    looks = [find_duplicates(lake, at=AT, most=5) for _ in range(4)]
    assert [look.positions for look in looks] == [5, 5, 2, 0]
    assert sum(look.late for look in looks) == 8
    land((12, 0, 0, {"ts": at}))
    assert find_duplicates(lake, at=AT).positions == 1
    assert [row[1] for row in found(lake)] == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert lake.query("SELECT count(*) AS n FROM calls")["n"][0].as_py() == 4


@pytest.mark.row(45)
def test_a_contradiction_is_told_for_near_and_far_and_costs_are_not_part_of_it(lake, land, config, rows):
    first = rows.call(0)["ts"]
    land(
        (0, 0, 0, {"input_tokens": 5, "cost_usd": Decimal(1), "ts": first}),
        (1, 0, 0, {"input_tokens": 5, "cost_usd": Decimal(2), "ts": first, "_dup": True}),
        (2, 0, 0, {"input_tokens": 6, "cost_usd": Decimal(1), "ts": first, "_dup": True}),
        (3, 0, 0, {"input_tokens": 5, "output_text": "other", "ts": first}),
        (4, 0, 0, {"input_tokens": 5, "cost_usd": None, "ts": first}),
    )
    look = find_duplicates(lake, at=AT)
    assert (look.late, look.conflicts) == (2, 2)
    assert found(lake) == [(0, 2, 0, 0, True), (0, 3, 0, 0, True), (0, 4, 0, 0, False)]
    assert lake.query("SELECT _offset FROM calls")["_offset"].to_pylist() == [0]
    report = verify(config)
    assert (report.late_duplicates, report.conflicts) == (2, 2)


def test_a_topic_made_again_does_not_hide_what_came_before_it(lake, land, rows):
    land((0, 0, 0, {"ts": rows.call(0)["ts"]}))
    find_duplicates(lake, at=AT)
    lake.adopt(EVENTS, "topic-2", {0: 0, 1: 0}, cause="made again")
    again = rows.call(0, _epoch=1, _kafka_time=AT)
    lake.append({"raw_calls": rows.table("raw_calls", [again])}, [Move(EVENTS, 0, 0, 1)])
    assert find_duplicates(lake, at=AT).late == 1
    sql = "SELECT _epoch, kept_epoch, kept_offset FROM late_duplicates"
    assert lake.query(sql).to_pylist() == [{"_epoch": 1, "kept_epoch": 0, "kept_offset": 0}]


def test_only_days_with_an_id_that_stands_twice_are_read_for_their_texts(lake, land, config, rows):
    """Rows are wide: a lake of a year must not be read for one double of today."""
    for n, day in enumerate((date(2026, 10, 1), date(2026, 11, 18))):
        more = {"day": day, "user_id": "somebody"}
        land((2 * n, 0, 0 if n else 9, more), (2 * n + 1, 0, 1 if n else 8, more))
    land((4, 0, 0, {"day": date(2026, 11, 18)}))
    old = [file for file in Path(config.data_path).rglob("raw_calls/day=2026-10-01/*.parquet")]
    assert old
    for file in old:  # ids, places and days can still be read, texts cannot
        _spoil(file, "user_id")
    with pytest.raises(duckdb.Error):
        lake.query("SELECT max(user_id) FROM raw_calls")
    lake.session.drop()
    assert find_duplicates(lake, at=AT).late == 1


def _spoil(file, column):
    """Overwrite the bytes of one column, and leave the footer and all others as they are."""
    described = pq.read_metadata(file).row_group(0)
    found = next(
        described.column(i) for i in range(described.num_columns) if described.column(i).path_in_schema == column
    )
    start = found.dictionary_page_offset or found.data_page_offset
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(b"\xff" * found.total_compressed_size)


def test_feedback_is_compared_as_well(lake, rows):
    row = {k: v for k, v in rows.call(0, kind="thumbs", score=1.0).items() if k not in ("v", "model", "status")}
    lake.append({"raw_feedback": rows.table("raw_feedback", [row, {**row, "_offset": 1}])}, [Move(EVENTS, 0, 0, 2)])
    find_duplicates(lake, at=AT)
    assert lake.query("SELECT _offset FROM feedback")["_offset"].to_pylist() == [0]


def test_a_run_beside_another_records_nothing_twice(lake, land, config, rows):
    from warehouse.lake import Lake

    land((0, 0, 0, {}), (1, 0, 0, {}))
    with Lake.open(config, now=lambda: 0, lander=False) as other:
        real = lake.transact

        def first_the_other(body):
            lake.transact = real
            assert find_duplicates(other, at=AT).late == 1
            real(body)

        lake.transact = first_the_other
        assert find_duplicates(lake, at=AT).positions == 0
    assert len(found(lake)) == 1
