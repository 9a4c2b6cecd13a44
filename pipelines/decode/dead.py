"""What did not fit: why, where, and the original bytes."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec
import pyarrow as pa

from pipelines.decode.reasons import BAD_UTF8, NOT_JSON, TOO_DEEP, TOO_LARGE, Reject
from pipelines.decode.redact import Redaction
from pipelines.decode.rules import clean_text
from pipelines.pricing.book import DAY_US
from schemas.arrow import DEAD, DEAD_BYTES
from schemas.records import Records
from tailrace_emitter.people import People

HEAD_CHARS = 200
_HEAD_BYTES = 4096
"""Redaction sees this much, so that what the cut at 200 characters splits was replaced before."""
_USER = re.compile(r'("user(?:_id)?"\s*:\s*")((?:[^"\\]|\\.)*)')
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
        event_id, app = _named(value, reject)
        rows.append(
            place
            | {
                "reason": reject.reason,
                "detail": reject.detail,
                "sha256": hashlib.sha256(value or b"").hexdigest(),
                "size": len(value or b""),
                "head": _head(value or b"", rules),
                "event_id": event_id if _is_uuid(event_id) else _redacted(event_id, rules),
                "app": _redacted(app, rules),
                "_landed_at": landed_at,
            }
        )
        originals.append(place | {"bytes": value, "key": records.keys[i]})
    return pa.Table.from_pylist(rows, DEAD), pa.Table.from_pylist(originals, DEAD_BYTES)


def _head(value: bytes, rules: Redaction) -> str:
    text = clean_text(value[:_HEAD_BYTES].decode("utf-8", "replace"))
    if people := rules.people:
        text = _USER.sub(lambda found: found[1] + _stored(found[2], people), text)
    return rules.redactor().text(text)[:HEAD_CHARS]


def _stored(written: str, people: People) -> str:
    """Return what is shown for a user as it is written in JSON: the pseudonym that would have landed."""
    try:
        user = str(json.loads(f'"{written}"'))
    except ValueError:
        user = written
    stored = people.user(user)
    return written if stored == user else stored


def _named(value: bytes | None, reject: Reject) -> tuple[str | None, str | None]:
    """Return the event's id and app where they can be read; a bad event is found by them."""
    if not value or reject.reason in _UNREADABLE:
        return None, None
    try:
        read = msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None, None
    return _short(read.get("id")), _short(read.get("app"))


def _is_uuid(text: str | None) -> bool:
    """Whether a name is a UUID: its digits may look like a phone number, and the event is found by all of them."""
    return (
        text is not None and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text, re.IGNORECASE) is not None
    )


def _redacted(name: str | None, rules: Redaction) -> str | None:
    return name and rules.redactor().text(name)


def _short(value: Any) -> str | None:
    return clean_text(value)[:128] if isinstance(value, str) else None
