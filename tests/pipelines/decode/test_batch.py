"""Rows keep their positions, and what version 1 said once it says for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.decode import METERED, Seen, decode, decode_metered
from schemas.arrow import CALLS
from schemas.records import Records

GOLDEN = Path(__file__).parents[2] / "golden"
TIME = 1_795_244_400_000_000


def test_rows_of_many_partitions_keep_their_own_positions(books, call):
    values: list[bytes | None] = [call(user=str(i)) if i % 7 else b"{" for i in range(5000)]
    partitions = [i % 3 for i in range(5000)]
    offsets = [100 + i // 3 * 2 for i in range(5000)]
    times = [TIME + i for i in range(5000)]
    records = Records("llm.events", partitions, offsets, times, [b"k"] * 5000, values, [()] * 5000)
    decoded = decode(records, books, Seen(), epoch=4, landed_at=TIME + 9)
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
    metered = decode_metered(records, books, Seen(), epoch=4)
    assert metered.table.schema.equals(METERED)
    assert metered.table["_offset"].to_pylist() == [offsets[i] for i in good]


def test_newlines_and_empty_values_never_shift_a_row(books, batch, call):
    pretty = json.dumps(json.loads(call(user="pretty")), indent=2).encode()
    values = [call(user="a"), b"", pretty, b"\n\n", None, call(user="b") + b"\n", b"\n" + call(user="c")]
    decoded = decode(batch(values), books, Seen(), epoch=0, landed_at=0)
    assert list(zip(decoded.calls["_offset"].to_pylist(), decoded.calls["user_id"].to_pylist(), strict=True)) == [
        (0, "a"),
        (2, "pretty"),
        (5, "b"),
        (6, "c"),
    ]
    assert decoded.dead["_offset"].to_pylist() == [1, 3, 4]


def test_an_empty_batch_and_a_batch_of_dead_events_have_the_full_schemas(books, batch):
    for values in ([], [b"x", None]):
        decoded = decode(batch(values), books, Seen(), epoch=0, landed_at=0)
        assert decoded.calls.schema.equals(CALLS)
        assert decoded.accepted == 0
        assert set(decoded.tables()) == ({"dead", "dead_bytes"} if values else set())
        assert decode_metered(batch(values), books, Seen(), epoch=0).table.schema.equals(METERED)


@pytest.mark.parametrize("kind", ["call", "feedback", "eval"])
@pytest.mark.row(47)
def test_a_full_event_of_version_1_lands_as_it_did_when_it_was_stored(books, batch, kind):
    stored: dict[str, Any] = json.loads((GOLDEN / f"{kind}_v1.json").read_text())
    decoded = decode(batch([json.dumps(stored["event"]).encode()]), books, Seen(), epoch=1, landed_at=TIME)
    table = {"call": decoded.calls, "feedback": decoded.feedback, "eval": decoded.evals}[kind]
    row = json.loads(json.dumps(table.to_pylist()[0], default=str))
    assert {name: row[name] for name in stored["row"]} == stored["row"]
