"""verify finds what was planted, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.records import Move
from warehouse.errors import LakeDamagedError, LakeUnavailableError, QueryFailedError
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import connect
from warehouse.verify.verify import verify

EVENTS = "llm.events"


@pytest.fixture
def landed(lake, config, rows):
    lake.append({"raw_calls": rows.calls(range(9)), "dead": rows.dead(9)}, [Move(EVENTS, 0, 0, 10)])
    lake.append({"raw_calls": rows.calls(range(4), 1)}, [Move(EVENTS, 1, 0, 4)])
    lake.ensure_partitions("llm.rollups", "topic-r", {0: 0})
    return lake


def execute(config, sql):
    connection = connect(config)
    connection.execute(sql)
    connection.close()


def problems(config):
    report = verify(config)
    assert report.ok is not bool(report.problems)
    return {(p.check, p.where) for p in report.problems}


def test_a_sound_lake_passes_and_says_what_was_counted(landed, config):
    report = verify(config)
    assert report.ok, report.problems
    said = json.loads(report.to_json())["partitions"][0]
    assert (said["landed"], said["dead"], said["lost"], said["next"]) == (9, 1, 0, 10)


def test_a_deleted_row_is_named_by_its_position(landed, config):
    execute(config, "DELETE FROM raw_calls WHERE _partition = 0 AND _offset = 4")
    report = verify(config)
    (problem,) = report.problems
    assert (problem.check, problem.where) == ("positions", "llm.events[0] epoch 0")
    assert "4..4" in problem.detail


def test_adjustments_of_a_cost_add_up_to_what_was_said_last_and_belong_to_a_call(landed, config, rows):
    def adjust(offset, delta, cost, minute, day=date(2026, 11, 18)):
        place = {"id": rows.call(offset)["id"], "day": day, "_epoch": 0, "_partition": 0, "_offset": offset}
        at = datetime(2026, 11, 18, 12, minute, tzinfo=UTC)
        row = {**place, "cost_usd": Decimal(cost), "delta_usd": Decimal(delta), "adjusted_at": at}
        landed.insert({"cost_adjustments": rows.table("cost_adjustments", [row])})

    adjust(2, "0.5", "0.5", 0)
    adjust(2, "-0.2", "0.3", 1)
    assert problems(config) == set()
    adjust(2, "0.1", "0.5", 2)
    adjust(77, "1", "1", 3)
    assert problems(config) == {("costs", "llm.events[0]@2 epoch 0"), ("costs", "llm.events[0]@77 epoch 0")}


def test_a_doubled_position_is_found_also_where_good_and_dead_hold_it(landed, config):
    execute(config, "INSERT INTO raw_calls FROM raw_calls WHERE _partition = 1 AND _offset = 2")
    assert ("doubles", "llm.events[1]@2 epoch 0") in problems(config)
    execute(config, "UPDATE dead SET _offset = 3")
    assert ("doubles", "llm.events[0]@3 epoch 0") in problems(config)


def test_a_row_lost_and_another_doubled_do_not_cancel_out(landed, config):
    execute(config, "UPDATE raw_calls SET _offset = 1 WHERE _partition = 0 AND _offset = 5")
    assert ("doubles", "llm.events[0]@1 epoch 0") in problems(config)


@pytest.mark.parametrize("positions", [8, 12])
def test_a_ledger_that_is_not_what_the_rows_say_is_found(landed, config, positions):
    execute(config, f"UPDATE ledger SET next_offset = {positions} WHERE topic = '{EVENTS}' AND partition = 0")
    assert ("positions", "llm.events[0] epoch 0") in problems(config)
    if positions == 8:
        assert ("ledger", "llm.events[0] epoch 0") in problems(config)


def test_rows_of_a_partition_without_a_ledger_row_are_found(landed, config):
    execute(config, "DELETE FROM ledger WHERE partition = 1")
    assert ("ledger", "llm.events[1] epoch 0") in problems(config)


@pytest.mark.parametrize("harm", ["removed", "truncated"])
@pytest.mark.row(26)
def test_exactly_the_harmed_file_is_named(landed, config, harm):
    file = sorted(Path(config.data_path).rglob("raw_calls/**/*.parquet"))[0]
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    (problem,) = verify(config).problems
    assert problem.check == "files"
    assert Path(problem.where) == file


@pytest.mark.parametrize("harm", ["removed", "truncated"])
@pytest.mark.row(26)
def test_a_harmed_file_is_named_by_who_reads_it_and_the_other_days_stay_readable(landed, config, rows, harm):
    for n, day in enumerate((19, 20, 21)):
        at = {"day": date(2026, 11, day), "app": f"app-{day}"}
        landed.append({"raw_calls": rows.calls(range(4 + n, 5 + n), 1, **at)}, [Move(EVENTS, 1, 4 + n, 5 + n)])
    harmed = [next(Path(config.data_path).rglob(f"raw_calls/day=2026-11-{day}/*.parquet")) for day in (19, 21)]
    for file in harmed:
        if harm == "removed":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    with ReadOnlyLake.open(config) as reader:
        assert reader.query("SELECT app FROM calls WHERE day = '2026-11-20'")["app"].to_pylist() == ["app-20"]
        assert reader.query("SELECT count(*) AS n FROM calls WHERE day = '2026-11-18'")["n"].to_pylist() == [13]
        for file in harmed:
            with pytest.raises((QueryFailedError, LakeUnavailableError, LakeDamagedError), match=file.name):
                reader.query(f"SELECT app FROM calls WHERE day = '{file.parent.name.removeprefix('day=')}'")
        assert reader.query("SELECT app FROM calls WHERE day = '2026-11-20'")["app"].to_pylist() == ["app-20"]
    assert {Path(p.where) for p in verify(config).problems} == set(harmed)


def test_gaps_are_accounted_for(landed, config):
    landed.add_gap(Move(EVENTS, 1, 4, 50), "retention")
    report = verify(config)
    assert report.ok, report.problems
    assert next(p for p in report.partitions if p.partition == 1 and p.topic == EVENTS).lost == 46


def ranges(rows, *spans, partition=1):
    day = rows.call(0)["day"]
    said = [
        {"topic": EVENTS, "_epoch": 0, "_partition": partition, "from_offset": a, "to_offset": b, "day": day}
        for a, b in spans
    ]
    return {"no_record_ranges": rows.table("no_record_ranges", said)}


def marked(landed, rows):
    """Land rows at 4 and 6 of partition 1; the log has no record at 5, 7 and 8."""
    calls = {"raw_calls": rows.calls(range(4, 7, 2), 1)}
    landed.append({**calls, **ranges(rows, (5, 6), (7, 9))}, [Move(EVENTS, 1, 4, 9)])


def test_positions_without_a_record_are_counted_and_are_no_gaps(landed, config, rows):
    marked(landed, rows)
    report = verify(config)
    assert report.ok, report.problems
    found = next(p for p in report.partitions if p.partition == 1 and p.topic == EVENTS)
    assert (found.landed, found.no_record, found.lost) == (6, 3, 0)


def test_a_row_lost_between_positions_without_a_record_is_named(landed, config, rows):
    marked(landed, rows)
    execute(config, "DELETE FROM raw_calls WHERE _partition = 1 AND _offset = 6")
    (problem,) = verify(config).problems
    assert (problem.check, problem.where) == ("positions", "llm.events[1] epoch 0")
    assert "3 without a record = 8; without a row: ['6..6']" in problem.detail


def test_a_range_that_goes_missing_is_named(landed, config, rows):
    marked(landed, rows)
    execute(config, "DELETE FROM no_record_ranges WHERE from_offset = 7")
    (problem,) = verify(config).problems
    assert "without a row: ['7..8']" in problem.detail


def test_a_range_over_a_landed_row_does_not_make_up_for_a_lost_one(landed, config, rows):
    marked(landed, rows)
    execute(config, "DELETE FROM raw_calls WHERE _partition = 1 AND _offset = 6")
    landed.append(ranges(rows, (4, 5)), [])
    assert problems(config) == {("doubles", "llm.events[1]@4..4 epoch 0")}
    execute(config, "UPDATE no_record_ranges SET from_offset = 8, to_offset = 9 WHERE from_offset = 4")
    assert problems(config) == {("doubles", "llm.events[1]@8..8 epoch 0")}


def rollups(rows, *spans):
    said = [
        {
            "dims": "app",
            "series": '{"app":"bot"}',
            "second": 1,
            "calls": end - start,
            "source_epoch": 0,
            "source_partition": 0,
            "source_from": start,
            "source_to": end,
            "part": "1/1",
            "_epoch": 0,
            "_partition": 0,
            "_offset": n,
            "day": rows.call(0)["day"],
        }
        for n, (start, end) in enumerate(spans)
    ]
    return {"rollups": rows.table("rollups", said)}


def test_rollups_that_tile_the_events_pass(landed, config, rows):
    landed.append(rollups(rows, (0, 4), (4, 10)), [Move("llm.rollups", 0, 0, 5)])
    report = verify(config)
    assert report.ok, report.problems
    assert report.rollup_spans == 2


def test_a_hole_between_rollups_that_holds_calls_is_found(landed, config, rows):
    landed.append(rollups(rows, (0, 4), (6, 10)), [Move("llm.rollups", 0, 0, 5)])
    (problem,) = verify(config).problems
    assert problem.check == "tiles"
    assert "2 calls of 4..5 in no rollup" in problem.detail


def test_events_counted_twice_in_rollups_are_found(landed, config, rows):
    landed.append(rollups(rows, (0, 6), (4, 10)), [Move("llm.rollups", 0, 0, 5)])
    (problem,) = verify(config).problems
    assert (problem.check, problem.detail) == ("tiles", "rollups count 4..5 twice")
