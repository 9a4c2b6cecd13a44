"""What answers cost, by the price book that prices production: each answer is decoded as the call event it would be."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec

from jobs.gate.answers import Answer
from jobs.gate.targets import Target
from pipelines.decode import DuplicateWindow, Redaction, decode
from pipelines.pricing import PriceBooks
from schemas.records import Records

_TOPIC = "llm.events"


def priced(answers: Sequence[Answer], target: Target, books: PriceBooks, *, at: int) -> list[Answer]:
    """Return ``answers`` with their cost in USD; None stays where no price or no usage is known.

    Args:
        answers: of ``target``.
        target: has model, provider and host.
        books: the price books.
        at: µs UTC, when they are priced.
    """
    rows = [i for i, answer in enumerate(answers) if answer.ok and answer.input_tokens is not None]
    if not rows or target.command:
        return list(answers)
    values = [_event(answers[i], target, at) for i in rows]
    count = len(values)
    offsets = list(range(count))
    none: list[bytes | None] = [None] * count
    span = {0: (0, count)}
    records = Records(_TOPIC, [0] * count, offsets, [at] * count, none, list(values), [()] * count, span)
    seen = DuplicateWindow()
    seen.start(0, 0)
    calls = decode(records, books, seen, epoch=0, landed_at=at, rules=Redaction()).calls
    costs: dict[int, Decimal | None] = dict(
        zip(calls.column("_offset").to_pylist(), calls.column("cost_usd").to_pylist(), strict=True)
    )
    found = list(answers)
    for offset, i in enumerate(rows):
        found[i] = msgspec.structs.replace(answers[i], cost_usd=costs.get(offset))
    return found


def _event(answer: Answer, target: Target, at: int) -> bytes:
    host = urlsplit(target.base_url).hostname
    event: dict[str, Any] = {
        "v": 1,
        "type": "call",
        "id": str(uuid.uuid4()),
        "ts": at // 1_000,
        "app": "tailrace-gate",
        "model": target.model,
        "response_model": answer.model,
        "provider": target.provider or None,
        "host": host if not target.provider else None,
        "tokens": {
            "input": answer.input_tokens,
            "output": answer.output_tokens,
            "cache_read": answer.cache_read_tokens,
            "reasoning": answer.reasoning_tokens,
        },
        "usage_reported": True,
    }
    return json.dumps(_given(event)).encode()


def _given(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` without what is not known."""
    kept = {k: _given(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in kept.items() if v is not None}
