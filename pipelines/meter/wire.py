"""What meter puts on llm.rollups: Arrow messages of one source span each, and ticks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from schemas.rollups import (
    H_EPOCH,
    H_FROM,
    H_KIND,
    H_PART,
    H_PARTITION,
    H_PRICE_VERSION,
    H_TO,
    ROLLUP,
)

MAX_PART_BYTES = 512 * 1024


@dataclass(frozen=True)
class Span:
    """Source positions [start, end) of one partition of llm.events under one price book."""

    partition: int
    start: int
    end: int
    price_version: str


@dataclass(frozen=True)
class Message:
    """One record to send."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def messages(span: Span, key: str, rollup: pa.Table, *, epoch: int) -> list[Message]:
    """Encode ``rollup`` of ``span`` for ``key`` (an app, or "*"), in parts under MAX_PART_BYTES."""
    parts = list(_parts(rollup.combine_chunks()))
    common = (
        (H_KIND, b"rollup"),
        (H_PARTITION, b"%d" % span.partition),
        (H_FROM, b"%d" % span.start),
        (H_TO, b"%d" % span.end),
        (H_PRICE_VERSION, span.price_version.encode()),
        (H_EPOCH, b"%d" % epoch),
    )
    return [
        Message(key.encode(), value, (*common, (H_PART, b"%d/%d" % (i, len(parts)))))
        for i, value in enumerate(parts, 1)
    ]


TICK_HEADERS = ((H_KIND, b"tick"),)


def decode(value: bytes) -> pa.Table:
    """Inverse of one message's value."""
    return pa.ipc.open_stream(value).read_all()


def empty() -> pa.Table:
    """No rows: the span was read, and held no call."""
    return ROLLUP.empty_table()


def _parts(table: pa.Table) -> Iterator[bytes]:
    """Halve until it fits; a single row is sent at any size."""
    value = _encode(table)
    if len(value) <= MAX_PART_BYTES or table.num_rows <= 1:
        yield value
        return
    rows = max(1, min(table.num_rows // 2, int(table.num_rows * MAX_PART_BYTES * 0.9 / len(value))))
    for start in range(0, table.num_rows, rows):
        yield from _parts(table.slice(start, rows))


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
