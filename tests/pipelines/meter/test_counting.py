"""One batch through meter, without Kafka: spans tile the log, and batch boundaries show nowhere."""

import json
import uuid
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pytest

from pipelines.meter import Plan, combine
from pipelines.meter.counting import MOST_SPANS, Counting
from pipelines.meter.heavy import HeavyHitters
from pipelines.meter.wire import MAX_PART_BYTES, decode
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from schemas.rollups import Tick
from schemas.topics import HISTORY_HEADER

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
    again.learn(records(values[:80]), books, wall=0)
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


def sampled(history):
    """Call ids that are sampled of 45 minutes at 2 calls a second, which took those minutes or a second to send."""
    n = 5_400
    values = [event(i, ts=T0 // 1000 + i * 500) for i in range(n)]
    times = [T0 + i * 500_000 if not history else T0 + 10**11 + i * 200 for i in range(n)]
    of = records(values, times=times)
    if history:
        of = replace(of, headers=[(HISTORY_HEADER,)] * n)
    found = Counting(Plan(), epoch=0, samples_per_s=0.5).count(of, PriceBooks([default_book()]), wall=0)
    return [s.call_id for s in found.samples if s.side == "input"]


def test_history_is_sampled_as_it_would_have_been_live():
    live = sampled(history=False)
    assert 0.2 < len(live) / 5_400 < 0.4  # whole in its first blocks, then a quarter
    assert sampled(history=True) == live


def test_times_that_jump_across_a_change_of_books_do_not_make_a_message_of_every_call(book):
    later = default_book([{"model": "gpt-4o", "input_usd_per_mtok": "3", "output_usd_per_mtok": "9"}])
    later = later.with_effective_from(T0 + 500)
    books = PriceBooks([book, later])
    values = [event(i) for i in range(400)]
    times = [T0 + 1_000 * (i % 2) for i in range(400)]
    counted = counting().count(replace(records(values, times=times), created=[True] * 400), books, wall=T0 + 5_000)
    spans = [span(m) for m in counted.rollups if m.key == b"*"]
    assert len(spans) == MOST_SPANS
    assert (spans[0][0], spans[-1][1]) == (0, 400)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    rows = [row for m in counted.rollups if m.key == b"bot" for row in decode(m.value).to_pylist()]
    mine = [row for row in rows if row["dims"] == "app"]
    assert sum(row["calls"] for row in mine) == 400
    costs = [(10 + i) * (3_000 if i % 2 else 2_500) + 3 * (9_000 if i % 2 else 10_000) for i in range(400)]
    assert sum(row["cost_nanousd"] for row in mine) == sum(costs), "each call has the cost of its own book"


def test_an_event_dated_ahead_moves_event_time_no_farther_than_its_append_time(book):
    state = counting(slot="1")
    state.count(records([event(0, ts="9999-01-01T00:00:00Z"), event(1)]), PriceBooks([book]), wall=42)
    tick = Tick.from_json(state.tick(50, {}).to_json())
    source = tick.sources[0]
    assert (tick.wall, tick.slot) == (50, "1")
    assert source.max_ts == T0 + 1000
    assert (source.next_offset, source.kafka_time, source.busy_wall) == (2, T0 + 1000, 42)
    assert state.tick(60, {0: 5}).sources[0].busy_wall == 60, "a partition that lags is not idle"


AHEAD = 50 * 60 * 1_000_000


@pytest.mark.parametrize("move", ["count", "learn"])
def test_a_record_whose_producer_set_a_time_ahead_moves_no_clock_beyond_the_wall_time(book, move):
    state, wall = counting(), T0 + 5_000_000
    batch = records([event(0, ts=(T0 + AHEAD) // 1000), event(1)], times=[T0 + AHEAD, T0 + AHEAD])
    getattr(state, move)(replace(batch, created=[True, True]), PriceBooks([book]), wall=wall)
    assert (state.sources[0].max_ts, state.sources[0].kafka_time) == (wall, wall)


def test_a_producer_whose_clock_is_behind_does_not_move_the_clock_back(book):
    state, books = counting(), PriceBooks([book])
    state.count(replace(records([event(0)]), created=[True]), books, wall=T0 + 1)
    behind = records([event(1)], first=1, times=[T0 - AHEAD])
    state.count(replace(behind, created=[True]), books, wall=T0 + 2)
    assert state.sources[0].kafka_time == T0
    state.count(records([event(2)], first=2, times=[T0 + 7]), books, wall=T0)
    assert state.sources[0].kafka_time == T0 + 7, "the broker's time needs no other clock"


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
        again.learn(records(values[learn:stopped_at], first=learn), books, wall=0)
    rest = records(values[stopped_at:], first=stopped_at)
    assert again.count(rest, books, wall=0).rollups == never.count(rest, books, wall=0).rollups
    series = {s for m in never.count(rest, books, wall=0).rollups for s in decode(m.value)["series"].to_pylist()}
    assert '{"app":"bot","user":"other"}' in series
