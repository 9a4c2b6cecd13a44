"""One unreadable message on an internal topic costs that message: no reader lets anything else out."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pyarrow as pa
import pytest

from pipelines.detect.items import parse
from pipelines.drift.points import EmbeddingUnreadableError, Message, decode
from pipelines.land.rows import land_rows
from pipelines.pricing import PriceBook, PriceBookError, default_book
from schemas.alerts import Alert
from schemas.errors import UNREADABLE
from schemas.records import Record, Records
from schemas.rollups import H_EPOCH, H_FROM, H_KIND, H_PART, H_PARTITION, H_TO, ROLLUP, Sample
from schemas.topics import ALERTS, DELIVERIES, EMBEDDINGS, LOG, ROLLUPS

UNREAD = [
    None,
    b"",
    b"null",
    b"[]",
    b"{not json",
    b"\xff",
    b'{"id":"\xff"}',
    b'{"id":"\\ud800"}',
    b"[" * 100_000,
    b'{"zz":' + b"[" * 5_000,
    b'{"zz":' * 5_000,
    b'{"at":1e999,"wall":' + b"9" * 5_000 + b"}",
    b"\xff\xff\xff\xff\x00\x00\x00\x00",
]
every = pytest.mark.parametrize("value", UNREAD, ids=lambda v: repr(v)[:24])


@every
@pytest.mark.parametrize("kind", [Alert, Sample])
@pytest.mark.row(33, 35)
def test_what_decoding_raises_is_among_what_readers_catch(value: bytes | None, kind: type) -> None:
    with pytest.raises(UNREADABLE):
        msgspec.json.decode(value or b"", type=kind)


@every
@pytest.mark.parametrize("headers", [(), ((H_KIND, b"tick"),)], ids=["rollup", "tick"])
def test_detect_reads_on(value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(ValueError, match="not a rollup"):
        parse(Record(ROLLUPS, 0, 7, 0, b"app", value, headers))


@every
def test_drift_reads_on(value: bytes | None) -> None:
    for headers in ({}, {"samples": b"0/1", "context": value or b""}):
        with pytest.raises(EmbeddingUnreadableError):
            decode(Message(value or b"", headers), 7)


@every
def test_land_and_meter_go_on_with_the_prices_they_have(value: bytes | None) -> None:
    with pytest.raises(PriceBookError):
        PriceBook.from_json(value or b"")


BOOK = default_book([]).content
HARMED: list[Callable[[dict[str, object]], object]] = [
    lambda book: book.update(overrides=[{"model": "gpt-*"}]),
    lambda book: book.update(overrides=[{"model": 7, "rates": {}}]),
    lambda book: book.update(overrides=[{"model": "gpt-*", "rates": {"input": "abc"}}]),
    lambda book: book.update(overrides=[{"model": "gpt-*", "rates": {"input": "-1"}}]),
    lambda book: book.update(overrides=[{"model": "gpt-*", "rates": {"input": "1"}, "when": {"from": "never"}}]),
    lambda book: book["providers"][0]["models"][0].update(prices=[]),  # type: ignore[index]
    lambda book: book["providers"][0]["models"][0].update(match={"regex": "("}),  # type: ignore[index]
    lambda book: book["providers"][0].pop("id"),  # type: ignore[index]
    lambda book: book.update(providers={"openai": {}}),
]


@pytest.mark.parametrize("harm", HARMED)
def test_a_book_that_could_not_price_a_call_is_refused_when_it_is_read_and_not_when_a_call_comes(
    harm: Callable[[dict[str, object]], object],
) -> None:
    whole = json.loads(json.dumps(BOOK))
    assert PriceBook.from_json(_told(whole)).effective_from == 5
    harm(whole)
    with pytest.raises(PriceBookError):
        PriceBook.from_json(_told(whole))


def _told(content: dict[str, object]) -> bytes:
    try:
        version = PriceBook.build(content).version
    except (LookupError, TypeError, ValueError, AttributeError):
        version = "pb-unknown"
    return json.dumps({"version": version, "effective_from": 5, "book": content}).encode()


@every
@pytest.mark.parametrize("topic", [ROLLUPS, EMBEDDINGS, ALERTS, DELIVERIES, LOG])
def test_land_keeps_it_in_dead(topic: str, value: bytes | None) -> None:
    if topic == DELIVERIES and value is None:
        return  # a tombstone of a compacted topic says nothing, and is nothing bad
    landed = land_rows(Records(topic, [0], [7], [0], [b"key"], [value], [()]), epoch=0, landed_at=0)
    assert {name: rows.num_rows for name, rows in landed.items()} == {"dead": 1, "dead_bytes": 1}


@pytest.mark.parametrize("number", [b"1000000000000", b"9" * 30, b"9" * 5_000, b"x", b"-1e3", b"\xff"])
@pytest.mark.parametrize("header", [H_PARTITION, H_FROM, H_TO, H_EPOCH])
def test_a_number_that_no_column_holds_is_dead_too(header: str, number: bytes) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROLLUP) as writer:
        writer.write_table(ROLLUP.empty_table())
    told = {H_KIND: b"rollup", H_PARTITION: b"0", H_FROM: b"0", H_TO: b"1", H_PART: b"0/1", H_EPOCH: b"0"}
    headers = tuple({**told, header: number}.items())
    records = Records(ROLLUPS, [0], [7], [0], [b"key"], [sink.getvalue().to_pybytes()], [headers])
    landed = land_rows(records, epoch=0, landed_at=0)
    if header in (H_FROM, H_TO) and number == b"1000000000000":
        assert list(landed) == ["rollups"], "a position of a long log"
    else:
        assert {name: rows.num_rows for name, rows in landed.items()} == {"dead": 1, "dead_bytes": 1}
