"""One batch through meter, without Kafka: spans tile the log, and batch boundaries show nowhere."""

import json
import uuid

import pyarrow as pa
import pytest

from pipelines.decode import PriceBooks, default_book
from pipelines.meter import Plan, combine
from pipelines.meter.counting import Counting
from pipelines.meter.heavy import HeavyHitters
from pipelines.meter.wire import MAX_PART_BYTES, decode
from schemas.records import Records
from schemas.rollups import Tick

T0 = 1_795_000_000_000_000


@pytest.fixture(scope="module")
def book():
    return default_book()


def event(i, **fields):
    full = {
        "v": 1,
        "type": "call",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(i))),
        "ts": T0 // 1000 + i,
        "app": "bot",
        "model": "gpt-4o",
        "user": f"u{i % 7}",
        "tokens": {"input": 10 + i, "output": 3},
        "latency": {"total_ms": 100.0 + i},
        "content": {
            "input": [{"role": "user", "text": f"write to bob{i}@example.org"}],
            "output": "ok",
        },
    }
    return json.dumps(full | fields).encode()


def records(values, first=0, partition=0, times=None):
    n = len(values)
    return Records(
        topic="llm.events",
        partitions=[partition] * n,
        offsets=list(range(first, first + n)),
        kafka_times=times or [T0 + (first + i) * 1000 for i in range(n)],
        keys=[None] * n,
        values=list(values),
        headers=[()] * n,
        positions={partition: (first, first + n)},
    )


def counting(**options):
    return Counting(Plan(), epoch=0, samples_per_s=1000.0, **options)


def headers(message):
    return {k: v.decode() for k, v in message.headers}


def span(message):
    h = headers(message)
    return int(h["from"]), int(h["to"])


def test_any_cut_into_batches_counts_the_same_and_tiles_the_log(book):
    values = [event(i) for i in range(50)] + [b"not json", event(3), event(50, type="feedback")]
    books = PriceBooks([book])
    whole = counting().count(records(values), books, wall=0)
    assert (whole.calls, whole.dead, whole.dups) == (50, 2, 1)
    one = counting()
    parts = [one.count(records(values[a:b], first=a), books, wall=0) for a, b in ((0, 1), (1, 30), (30, 52), (52, 53))]
    for key in (b"bot", b"*"):
        apart = [decode(m.value) for p in parts for m in p.rollups if m.key == key]
        assert combine(apart) == combine([decode(m.value) for m in whole.rollups if m.key == key])
    tiles = [span(m) for p in parts for m in p.rollups if m.key == b"*"]
    assert tiles == [(0, 1), (1, 30), (30, 52), (52, 53)], "a span with no call has its message too"
    assert [s for p in parts for s in p.samples] == whole.samples


def test_the_batch_is_cut_where_the_price_book_changes(book):
    later = default_book([{"model": "gpt-4o", "input_usd_per_mtok": "100", "output_usd_per_mtok": "100"}])
    later = later.with_effective_from(T0 + 30 * 1000)
    found = counting().count(records([event(i) for i in range(50)]), PriceBooks([book, later]), wall=0)
    spans = [(*span(m), headers(m)["price_version"]) for m in found.rollups if m.key == b"*"]
    assert spans == [(0, 30, book.version), (30, 50, later.version)]


def test_a_batch_can_be_read_again_from_any_point_with_the_same_result(book):
    values = [event(i % 40) for i in range(120)]
    books = PriceBooks([book])
    never = counting()
    never.count(records(values[:80]), books, wall=0)
    again = counting()
    feed, learn = again.start(0, 80)
    assert (feed, learn) == (0, 0)
    again.learn(records(values[:80]), books)
    assert again.count(records(values[80:], first=80), books, wall=0).rollups == (
        never.count(records(values[80:], first=80), books, wall=0).rollups
    )
    assert again.sources[0].max_ts == never.sources[0].max_ts


def test_samples_carry_redacted_texts_and_their_call(book):
    found = counting().count(records([event(1)]), PriceBooks([book]), wall=0)
    sides = {s.side: s for s in found.samples}
    assert set(sides) == {"input", "output"}
    assert "bob1@example.org" not in sides["input"].text
    assert sides["output"].text == "ok"
    assert (sides["input"].app, sides["input"].user, sides["input"].offset) == ("bot", "u1", 0)
    assert sides["input"].ts == T0 + 1000


def test_the_watermark_is_at_most_a_minute_ahead_of_the_broker(book):
    state = counting(slot="1")
    state.count(records([event(0, ts="9999-01-01T00:00:00Z"), event(1)]), PriceBooks([book]), wall=42)
    tick = Tick.from_json(state.tick(50, {}).to_json())
    source = tick.sources[0]
    assert (tick.wall, tick.slot) == (50, "1")
    assert source.max_ts == T0 + 60_000_000
    assert (source.next_offset, source.kafka_time, source.busy_wall) == (2, T0 + 1000, 42)
    assert state.tick(60, {0: 5}).sources[0].busy_wall == 60, "a partition that lags is not idle"


def test_a_large_rollup_is_sent_in_parts_that_fit(book):
    values = [event(i, user=f"user-{i}", feature=f"f{i}", ts=T0 // 1000 + i * 1000) for i in range(1500)]
    found = counting().count(records(values), PriceBooks([book]), wall=0)
    mine = [m for m in found.rollups if m.key == b"bot"]
    assert len(mine) > 1
    assert all(len(m.value) <= MAX_PART_BYTES for m in mine)
    assert [headers(m)["part"] for m in mine] == [f"{i}/{len(mine)}" for i in range(1, len(mine) + 1)]
    rows = pa.concat_tables([decode(m.value) for m in mine])
    assert sum(r["calls"] for r in rows.to_pylist() if r["dims"] == "app") == 1500


@pytest.mark.parametrize("stopped_at", [5, 40, 64, 70, 97, 130])
def test_a_restart_rebuilds_who_is_tracked_from_two_blocks(book, monkeypatch, stopped_at):
    for module in ("heavy", "counting"):
        monkeypatch.setattr(f"pipelines.meter.{module}.BLOCK", 32)
    monkeypatch.setitem(HeavyHitters.__init__.__kwdefaults__, "heavy", 2)
    monkeypatch.setitem(HeavyHitters.__init__.__kwdefaults__, "fresh", 2)
    values = [event(i, user=f"u{i * i % 11}") for i in range(160)]
    books = PriceBooks([book])
    never = counting()
    never.count(records(values[:stopped_at]), books, wall=0)
    again = counting()
    feed, learn = again.start(0, stopped_at)
    again.seen.feed(records(values[feed:learn], first=feed))
    if learn < stopped_at:
        again.learn(records(values[learn:stopped_at], first=learn), books)
    rest = records(values[stopped_at:], first=stopped_at)
    assert again.count(rest, books, wall=0).rollups == never.count(rest, books, wall=0).rollups
    series = {s for m in never.count(rest, books, wall=0).rollups for s in decode(m.value)["series"].to_pylist()}
    assert '{"app":"bot","user":"other"}' in series
