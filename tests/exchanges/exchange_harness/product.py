"""The product's path without Kafka: fields as an adapter records them -> the wire -> decode -> rows with costs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBooks
from schemas.records import Records
from tailrace_emitter.encode import Policy, encode

_POLICY = Policy(app="proof", content="full")


def message(fields: Mapping[str, Any], at: int, number: int = 0) -> bytes:
    """Encode one call that ended at ``at`` (µs UTC), as the emitter's background thread does."""
    return encode("call", str(uuid.UUID(int=number + 1, version=4)), at * 1000, fields, _POLICY).value


def landed(messages: Sequence[bytes], books: PriceBooks, at: int) -> list[dict[str, Any]]:
    """Decode and price messages as land does; one row for each.

    Raises:
        AssertionError: the server refused a message.
    """
    count = len(messages)
    records = Records(
        "llm.events", [0] * count, list(range(count)), [at] * count, [None] * count, list(messages), [()] * count
    )
    seen = DuplicateWindow()
    seen.start(0, 0)
    decoded = decode(records, books, seen, epoch=1, landed_at=at)
    assert not decoded.dead.num_rows, decoded.dead.to_pylist()[:3]
    rows: list[dict[str, Any]] = decoded.calls.to_pylist()
    return rows


def priced(calls: Sequence[Mapping[str, Any]], books: PriceBooks, at: int) -> list[dict[str, Any]]:
    """Return the rows that the lake has of ``calls`` (fields as an adapter records them)."""
    return landed([message(fields, at, number) for number, fields in enumerate(calls)], books, at)
