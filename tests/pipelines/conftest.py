"""Builders of events and batches, the price book, and the corpus of bad and odd events."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records

KAFKA_TIME = 1_795_244_400_000_000
"""2026-11-21T07:00:00Z in µs."""


@dataclass(frozen=True)
class Case:
    """One line of tests/corpus/events.jsonl."""

    name: str
    value: bytes | None
    reason: str | None
    flags: list[str]
    columns: dict[str, Any]


def _value(line: dict[str, Any]) -> bytes | None:
    if "repeat" in line:
        before, unit, times, after = line["repeat"]
        return f"{before}{unit * times}{after}".encode()
    if "base64" in line:
        return base64.b64decode(line["base64"])
    return None if line["value"] is None else line["value"].encode()


@pytest.fixture(scope="session")
def corpus() -> list[Case]:
    """Every bad and odd event with its verdict."""
    path = Path(__file__).parents[1] / "corpus" / "events.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [Case(x["name"], _value(x), x.get("reason"), x.get("flags", []), x.get("columns", {})) for x in lines]


@pytest.fixture(scope="session")
def books() -> PriceBooks:
    """The book that ships, in force for ever."""
    return PriceBooks([default_book()])


@pytest.fixture
def batch() -> Callable[..., Records]:
    """Build a batch of one partition from values; offsets ascend from ``start``."""

    def build(
        values: Sequence[bytes | None], *, start: int = 0, partition: int = 0, kafka_time: int = KAFKA_TIME
    ) -> Records:
        n = len(values)
        offsets = list(range(start, start + n))
        span = {partition: (start, start + n)}
        return Records(
            "llm.events", [partition] * n, offsets, [kafka_time] * n, [None] * n, list(values), [()] * n, span
        )

    return build


@pytest.fixture
def call() -> Callable[..., bytes]:
    """Build a good call as bytes; keyword arguments replace or add fields."""

    def build(**fields: Any) -> bytes:
        event = {
            "v": 1,
            "type": "call",
            "id": str(uuid.uuid4()),
            "ts": "2026-11-21T07:00:00Z",
            "app": "bot",
            "model": "gpt-4o",
            "tokens": {"input": 420, "output": 97},
        }
        return json.dumps(event | fields).encode()

    return build
