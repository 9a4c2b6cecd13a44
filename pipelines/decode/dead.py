"""What did not fit: why, where, and the original bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pyarrow as pa

from pipelines.decode.book import DAY_US
from pipelines.decode.reasons import BAD_UTF8, NOT_JSON, TOO_DEEP, TOO_LARGE, Reject
from pipelines.decode.redact import Redaction
from pipelines.decode.rules import clean_text
from schemas.arrow import DEAD, DEAD_BYTES
from schemas.records import Records

HEAD_CHARS = 200
_HEAD_BYTES = 4096
"""Redaction sees this much, so that what the cut at 200 characters splits was replaced before."""
_UNREADABLE = (BAD_UTF8, NOT_JSON, TOO_DEEP, TOO_LARGE)


def dead_tables(
    records: Records, dead: list[tuple[int, Reject]], *, epoch: int, landed_at: int, rules: Redaction
) -> tuple[pa.Table, pa.Table]:
    """Return the rows of ``dead`` and ``dead_bytes`` for (index in the batch, reason) pairs."""
    rows: list[dict[str, Any]] = []
    originals: list[dict[str, Any]] = []
    for i, reject in dead:
        value = records.values[i]
        place = {
            "topic": records.topic,
            "_epoch": epoch,
            "_partition": records.partitions[i],
            "_offset": records.offsets[i],
            "_kafka_time": records.kafka_times[i],
            "day": records.kafka_times[i] // DAY_US,
        }
        event_id, app = (name and rules.redactor().text(name) for name in _named(value, reject))
        rows.append(
            place
            | {
                "reason": reject.reason,
                "detail": reject.detail,
                "sha256": hashlib.sha256(value or b"").hexdigest(),
                "size": len(value or b""),
                "head": _head(value or b"", rules),
                "event_id": event_id,
                "app": app,
                "_landed_at": landed_at,
            }
        )
        originals.append(place | {"bytes": value, "key": records.keys[i]})
    return pa.Table.from_pylist(rows, DEAD), pa.Table.from_pylist(originals, DEAD_BYTES)


def _head(value: bytes, rules: Redaction) -> str:
    text = clean_text(value[:_HEAD_BYTES].decode("utf-8", "replace"))
    return rules.redactor().text(text)[:HEAD_CHARS]


def _named(value: bytes | None, reject: Reject) -> tuple[str | None, str | None]:
    """Return the event's id and app where they can be read; a bad event is found by them."""
    if not value or reject.reason in _UNREADABLE:
        return None, None
    try:
        read = msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None, None
    return _short(read.get("id")), _short(read.get("app"))


def _short(value: Any) -> str | None:
    return clean_text(value)[:128] if isinstance(value, str) else None
