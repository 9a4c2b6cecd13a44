"""Rows keep their positions, and what version 1 said once it says for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.decode import METERED, DuplicateWindow, decode, decode_metered
from pipelines.pricing import PriceBooks, default_book
from pipelines.pricing.reprice import READ, adjustments
from schemas.arrow import CALLS
from schemas.records import Records
from schemas.topics import HISTORY_HEADER

GOLDEN = Path(__file__).parents[2] / "golden"
TIME = 1_795_244_400_000_000


def test_rows_of_many_partitions_keep_their_own_positions(books, call):
    values: list[bytes | None] = [call(user=str(i)) if i % 7 else b"{" for i in range(5000)]
    partitions = [i % 3 for i in range(5000)]
    offsets = [100 + i // 3 * 2 for i in range(5000)]
    times = [TIME + i for i in range(5000)]
    records = Records("llm.events", partitions, offsets, times, [b"k"] * 5000, values, [()] * 5000)
    decoded = decode(records, books, DuplicateWindow(), epoch=4, landed_at=TIME + 9)
    good = [i for i in range(5000) if i % 7]
    calls = decoded.calls
    assert calls["user_id"].to_pylist() == [str(i) for i in good]
    assert calls["_partition"].to_pylist() == [partitions[i] for i in good]
    assert calls["_offset"].to_pylist() == [offsets[i] for i in good]
    assert calls["_kafka_time"].cast("int64").to_pylist() == [times[i] for i in good]
    assert set(calls["_epoch"].to_pylist()) == {4}
    assert set(calls["_landed_at"].to_pylist()) == {datetime.fromtimestamp((TIME + 9) / 1e6, UTC)}
    assert decoded.dead["_offset"].to_pylist() == [offsets[i] for i in range(5000) if i % 7 == 0]
    assert set(decoded.dead_bytes["key"].to_pylist()) == {b"k"}
    metered = decode_metered(records, books, DuplicateWindow(), epoch=4)
    assert metered.table.schema.equals(METERED)
    assert metered.table["_offset"].to_pylist() == [offsets[i] for i in good]


def test_newlines_and_empty_values_never_shift_a_row(books, batch, call):
    pretty = json.dumps(json.loads(call(user="pretty")), indent=2).encode()
    values = [call(user="a"), b"", pretty, b"\n\n", None, call(user="b") + b"\n", b"\n" + call(user="c")]
    decoded = decode(batch(values), books, DuplicateWindow(), epoch=0, landed_at=0)
    assert list(zip(decoded.calls["_offset"].to_pylist(), decoded.calls["user_id"].to_pylist(), strict=True)) == [
        (0, "a"),
        (2, "pretty"),
        (5, "b"),
        (6, "c"),
    ]
    assert decoded.dead["_offset"].to_pylist() == [1, 3, 4]


def test_a_row_whose_kafka_time_its_producer_set_says_so(books, batch, call):
    records = replace(batch([b"{", call(), call()]), created=[True, True, False])
    decoded = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0)
    assert decoded.calls["_offset"].to_pylist() == [1, 2]
    flags = [flags or [] for flags in decoded.calls["_flags"].to_pylist()]
    assert ["create_time" in f for f in flags] == [True, False]


def test_an_empty_batch_and_a_batch_of_dead_events_have_the_full_schemas(books, batch):
    for values in ([], [b"x", None]):
        decoded = decode(batch(values), books, DuplicateWindow(), epoch=0, landed_at=0)
        assert decoded.calls.schema.equals(CALLS)
        assert decoded.accepted == 0
        assert set(decoded.tables()) == ({"dead", "dead_bytes"} if values else set())
        assert decode_metered(batch(values), books, DuplicateWindow(), epoch=0).table.schema.equals(METERED)


@pytest.mark.parametrize("kind", ["call", "feedback", "eval"])
@pytest.mark.row(47)
def test_a_full_event_of_version_1_lands_as_it_did_when_it_was_stored(books, batch, kind):
    stored: dict[str, Any] = json.loads((GOLDEN / f"{kind}_v1.json").read_text())
    decoded = decode(batch([json.dumps(stored["event"]).encode()]), books, DuplicateWindow(), epoch=1, landed_at=TIME)
    table = {"call": decoded.calls, "feedback": decoded.feedback, "eval": decoded.evals}[kind]
    row = json.loads(json.dumps(table.to_pylist()[0], default=str))
    assert {name: row[name] for name in stored["row"]} == stored["row"]


def test_events_with_unknown_fields_are_counted_and_flagged_alike_for_land_and_meter(books, batch, call):
    flat = {"input_tokens": 8, "output_tokens": 1}
    values = [call(tokens=None, **more) for more in ({"input_token": 8}, flat, {"usr": "u", "sesion_id": "s"}, {})]
    landed = decode(batch(values), books, DuplicateWindow(), epoch=0, landed_at=0)
    assert landed.unknown_fields == 2
    assert landed.calls["_flags"].to_pylist() == [
        ["unknown_field:input_token"],
        None,
        ["unknown_field:usr", "unknown_field:sesion_id"],
        None,
    ]
    metered = decode_metered(batch(values), books, DuplicateWindow(), epoch=0)
    assert (
        metered.table["input_tokens"].to_pylist() == landed.calls["input_tokens"].to_pylist() == [None, 8, None, None]
    )
    assert metered.table["cost_usd"].to_pylist() == landed.calls["cost_usd"].to_pylist()
    assert landed.calls["cost_usd"].to_pylist()[1] is not None


SENT = {"2026-11-21": None, "2026-09-01": "history", "2000-01-01": "history", "1970-01-01": None, "9999-01-01": None}
"""Day of the event time -> what it needs to be believed; None: nothing, or nothing helps."""


@pytest.mark.parametrize("kind", ["call", "feedback", "eval"])
@pytest.mark.row(43)
def test_history_counts_on_its_own_day_and_a_far_clock_on_the_day_of_arrival(books, batch, call, kind):
    more = {
        "call": {},
        "feedback": {"kind": "thumbs", "score": 1, "session_id": "s", "tokens": None, "model": "m"},
        "eval": {"name": "n", "score": 1, "trace_id": "t", "tokens": None, "model": None},
    }[kind]
    values = [call(type=kind, ts=f"{day}T07:00:00Z", **more) for day in SENT]
    values = [json.dumps({k: v for k, v in json.loads(v).items() if v is not None}).encode() for v in values]
    days = {}
    for header in ((), (HISTORY_HEADER,)):
        records = replace(batch(values), headers=[(("v", b"1"), *header)] * len(values))
        decoded = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0)
        table = {"call": decoded.calls, "feedback": decoded.feedback, "eval": decoded.evals}[kind]
        days[bool(header)] = [str(day) for day in table["day"].to_pylist()]
        skewed = ["clock_skew" in (flags or []) for flags in table["_flags"].to_pylist()]
        assert skewed == [day != own for day, own in zip(days[bool(header)], SENT, strict=True)]
        if kind == "call":
            metered = decode_metered(records, books, DuplicateWindow(), epoch=0).table
            assert metered["skewed"].to_pylist() == skewed
            assert metered["cost_usd"].to_pylist() == decoded.calls["cost_usd"].to_pylist()
    today = "2026-11-21"
    assert days[False] == [today] * 5
    assert days[True] == [today, "2026-09-01", "2000-01-01", today, today]


def test_only_the_records_that_carry_the_header_are_history(books, batch, call):
    values = [call(ts="2026-09-01T07:00:00Z") for _ in range(4)]
    headers = [(HISTORY_HEADER,), (), (("history", b"0"),), (("x", b"1"), HISTORY_HEADER)]
    calls = decode(replace(batch(values), headers=headers), books, DuplicateWindow(), epoch=0, landed_at=0).calls
    assert [str(day) for day in calls["day"].to_pylist()] == ["2026-09-01", "2026-11-21", "2026-11-21", "2026-09-01"]


def test_history_is_priced_by_what_held_then_and_pricing_it_again_finds_nothing(batch, call):
    rules = [
        {"model": "inhouse", "input_usd_per_mtok": "3", "output_usd_per_mtok": "6", "from": "2026-10-01"},
        {"model": "inhouse", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2", "from": "2026-01-01"},
    ]
    book = default_book(rules)
    values = [call(model="inhouse", ts="2026-09-01T07:00:00Z", tokens={"input": 1_000_000, "output": 0})] * 1
    records = replace(batch(values), headers=[(HISTORY_HEADER,)])
    calls = decode(records, PriceBooks([book]), DuplicateWindow(), epoch=0, landed_at=0).calls
    assert calls["cost_usd"].to_pylist() == [1]
    metered = decode_metered(records, PriceBooks([book]), DuplicateWindow(), epoch=0).table
    assert metered["cost_usd"].to_pylist() == [1]
    known = calls.select([*READ, "cost_status"]).append_column("known_usd", calls["cost_usd"])
    known = known.append_column("partly", pa.array([False]))
    assert adjustments(known, book, undated=True).num_rows == 0
