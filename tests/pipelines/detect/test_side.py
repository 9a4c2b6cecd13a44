"""What the tests of a minute read of rollups: which series, which cells, and what gives way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.detect.items import SLOT, batch
from pipelines.detect.side import CODE, ERROR, MAX_NAMES, PER_CALL, TTFT, Cells, Side, is_watched
from schemas.rollups import CALL_GAMMA, ROLLUP, series_key

APP, MODEL = series_key({"app": "bot"}), series_key({"app": "bot", "model": "m"})
SIZE, USER = series_key({"app": "bot", "input_size": "over 200k"}), series_key({"app": "bot", "user": "u"})


def rollup(**columns: object) -> pa.Table:
    rows = []
    for (dims, series), second in ((APP, 10), (MODEL, 10), (SIZE, 10), (USER, 10)):
        row: dict[str, object] = {f.name: [] if pa.types.is_list(f.type) else 0 for f in ROLLUP}
        rows.append(row | {"dims": dims, "series": series, "second": second, "calls": 3, "input_tokens": 40} | columns)
    return pa.Table.from_pylist(rows, ROLLUP)


def read(table: pa.Table):
    return batch("bot", table, source=0, next_offset=1, epoch=0, kafka_time=60_000_000)


def kept(side: Side, name: str) -> dict[int, int]:
    cells = side.cells(0, 10 * SLOT)
    return {int(code): int(value) for row, code, value in cells if row == side.index[name]}


def test_cells_are_those_of_watched_series_and_a_class_of_input_is_beside_the_other_series():
    found = read(
        rollup(
            latency=[{"bucket": 300, "calls": 2}],
            ttft=[{"bucket": 200, "calls": 1}],
            error_types=[{"name": "rate_limit", "action": "error", "calls": 1}],
            cache_read_tokens=9,
            cache_saved_nanousd=5,
        )
    )
    assert sorted(found.series) == sorted([APP[1], MODEL[1], USER[1]])
    assert found.cells is not None
    side = Side()
    side.note(found.cells, 0, 10 * SLOT)
    assert sorted(side.names) == sorted([APP[1], MODEL[1], SIZE[1]])
    assert kept(side, SIZE[1]) == {
        300: 2,
        TTFT + 200: 1,
        CODE["calls"]: 3,
        CODE["input_tokens"]: 40,
        CODE["cache_read_tokens"]: 9,
        CODE["cache_saved_nanousd"]: 5,
        CODE["saved_known_calls"]: 3,
        ERROR: 1,
    }
    assert side.errors == ["rate_limit"]


def test_savings_of_an_earlier_version_are_not_known_and_not_zero():
    found = read(rollup(cache_saved_nanousd=None))
    assert found.cells is not None
    assert CODE["saved_known_calls"] not in found.cells.read().cells[:, 1].tolist()
    older = read(rollup().drop_columns(["latency", "ttft", "error_types", "cache_saved_nanousd", "retried_calls"]))
    assert older.cells is not None
    assert set(older.cells.read().cells[:, 1].tolist()) == {CODE["calls"], CODE["input_tokens"]}


def test_a_value_that_looks_like_a_dimension_is_a_value():
    assert is_watched(series_key({"app": "bot", "feature": '","input_size":"over 200k'})[1])
    assert not is_watched(series_key({"app": "bot", "user": "u"})[1])
    assert not is_watched(series_key({"app": "bot", "feature": "f", "model": "m"})[1])
    assert not is_watched(series_key({"app": "bot", "model": "other"})[1])


def test_the_series_that_was_silent_for_longest_gives_way_but_not_the_app():
    side = Side()
    names = [APP[1], *(series_key({"app": "bot", "release": str(i)})[1] for i in range(MAX_NAMES))]
    for i, name in enumerate(names):
        start = np.array([i * SLOT])
        side.add(Cells([name], start, np.array([[0, CODE["calls"], 1]])), np.ones(1, bool), start)
    assert len(side.names) == MAX_NAMES
    assert APP[1] in side.index
    assert names[1] not in side.index
    assert names[-1] in side.index
    assert side.total([CODE["calls"]], 0, (MAX_NAMES + 1) * SLOT).sum() == MAX_NAMES


def test_slots_that_left_the_ring_are_forgotten():
    side = Side()
    start = np.array([0, SLOT])
    side.add(Cells([APP[1]], start, np.array([[0, CODE["calls"], 1], [0, CODE["calls"], 2]])), np.ones(2, bool), start)
    side.drop(SLOT, SLOT)
    assert side.total([CODE["calls"]], 0, 2 * SLOT).tolist() == [[2.0]]


def test_slots_that_come_out_of_order_and_again_after_all_were_cleared_are_found_by_their_time():
    side, code = Side(), CODE["calls"]

    def put(*starts: int) -> None:
        at = np.array(starts) * SLOT
        cells = np.column_stack([np.zeros(len(at), np.int64), np.full(len(at), code), np.arange(1, len(at) + 1)])
        side.add(Cells([APP[1]], at, cells), np.ones(len(at), bool), at)

    put(7, 3, 5)
    assert side.cells(3 * SLOT, 7 * SLOT)[:, 2].tolist() == [2, 3]
    side.clear()
    assert not len(side.cells(0, 9 * SLOT))
    put(4)
    put(2)
    side.drop(4 * SLOT, 4 * SLOT)
    assert side.cells(0, 9 * SLOT)[:, 2].tolist() == [1]
    assert sorted(side.slots) == [4 * SLOT]


def test_calls_of_an_earlier_version_are_taken_to_be_like_the_mean_of_their_row():
    counted = read(rollup(call_tokens=[{"bucket": 20, "calls": 1}, {"bucket": 30, "calls": 2}]))
    assert counted.cells is not None
    side = Side()
    side.note(counted.cells, 0, 10 * SLOT)
    assert {c: n for c, n in kept(side, MODEL[1]).items() if c >= PER_CALL["call_tokens"]} == {
        PER_CALL["call_tokens"] + 20: 1,
        PER_CALL["call_tokens"] + 30: 2,
    }
    earlier, side = read(rollup(output_tokens=260, call_tokens=None)), Side()
    assert earlier.cells is not None
    side.note(earlier.cells, 0, 10 * SLOT)
    bucket = int(np.ceil(np.log(100) / np.log(CALL_GAMMA)))
    assert kept(side, MODEL[1])[PER_CALL["call_tokens"] + bucket] == 3


def test_sums_of_a_slot_that_was_dropped_are_kept_longer():
    found = read(rollup(cost_nanousd=7))
    assert found.cells is not None
    side = Side()
    side.note(found.cells, 0, 10 * SLOT)
    codes = [CODE["calls"], CODE["cost_nanousd"]]
    side.drop(10 * SLOT, 0)
    assert side.cells(0, 10 * SLOT).size == 0
    assert side.longer(codes, 0, 10 * SLOT)[side.index[MODEL[1]]].tolist() == [3, 7]
    assert side.by_slot(MODEL[1], codes, [0, SLOT]).tolist() == [[0, 0], [3, 7]]
    side.drop(20 * SLOT, 10 * SLOT)
    assert side.longer(codes, 0, 10 * SLOT).sum() == 0
