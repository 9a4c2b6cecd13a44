"""Whatever stands on a topic of ours, each record becomes rows or one dead row; nothing raises."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.land.rows import land_rows
from schemas.alerts import Delivery, LogRecord
from schemas.records import Records
from schemas.rollups import SourceTick, Tick
from schemas.tables import TABLES
from schemas.topics import ALERTS, DELIVERIES, EMBEDDINGS, LOG, ROLLUPS


def records(topic, *values, headers=()):
    n = len(values)
    return Records(topic, [0] * n, list(range(n)), [1_000_000] * n, [b"k"] * n, list(values), [tuple(headers)] * n)


def landed(batch):
    return land_rows(batch, epoch=3, landed_at=5_000_000)


@pytest.mark.parametrize("topic", [ROLLUPS, EMBEDDINGS, ALERTS, DELIVERIES, LOG])
@settings(max_examples=60, deadline=None)
@given(value=st.binary(max_size=60), kind=st.sampled_from([b"tick", b"rollup", b"", b"\xff"]))
def test_any_bytes_on_any_topic_land_or_are_dead(topic, value, kind):
    tables = landed(records(topic, value, headers=[("kind", kind)]))
    assert sum(t.num_rows for name, t in tables.items() if name != "dead_bytes") == 1
    if "dead" in tables:
        assert tables["dead_bytes"]["bytes"].to_pylist() == [value]
        assert tables["dead"]["sha256"].to_pylist() == [hashlib.sha256(value).hexdigest()]


def test_times_and_numbers_beyond_what_the_lake_holds_are_dead_and_neighbours_land():
    far = LogRecord(table="audit", at=2**62, row={})
    big = Delivery(alert_id="a", seq=2**40, channel="c", state="failed")
    log = landed(records(LOG, msgspec.json.encode(far), msgspec.json.encode(LogRecord(table="audit", at=1, row={}))))
    assert (log["log_records"].num_rows, log["dead"]["reason"].to_pylist()) == (1, ["range:time"])
    assert landed(records(DELIVERIES, msgspec.json.encode(big)))["dead"]["reason"].to_pylist() == ["range"]


def test_a_tombstone_of_the_compacted_topic_takes_no_row():
    assert landed(records(DELIVERIES, None)) == {}


def test_a_tick_keeps_its_sources_and_its_position():
    tick = Tick(7, {1: SourceTick(5, 6, 7, 8), 0: SourceTick(1, 2, 3, 4)}, slot="1").to_json()
    (row,) = landed(records(ROLLUPS, tick, headers=[("kind", b"tick")]))["ticks"].to_pylist()
    assert [s["partition"] for s in row["sources"]] == [0, 1]
    assert row["sources"][1]["next_offset"] == 5
    assert (row["_epoch"], row["_partition"], row["_offset"], row["slot"]) == (3, 0, 0, "1")


def test_rows_have_only_columns_that_their_table_has():
    batch = records(LOG, msgspec.json.encode(LogRecord(table="audit", at=1, row={"a": "'; --"})), b"bad")
    for name, rows in landed(batch).items():
        schema = next(t for t in TABLES if t.name == name).schema
        for column in rows.schema:
            assert schema.field(column.name).type == column.type
