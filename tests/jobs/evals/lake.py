"""A lake with calls to score, and an outlet that lands scores as land does: decoded, at their own positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from jobs.evals.job import evals
from jobs.evals.report import EvalReport
from jobs.evals.scorers import choose
from jobs.evals.settings import EvalSettings
from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Move, Records
from schemas.tables import TABLES
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = 1_795_000_000_000_000  # 2026-11-18 11:06, µs UTC
MONDAY = date(2026, 11, 9)
DAYS = (MONDAY, MONDAY + timedelta(days=6))
EVENTS = "llm.events"
BOOKS = PriceBooks([default_book()])
QUICK = choose(["exact_match", "json_valid", "complete"])


def now() -> int:
    return NOW


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def call(number: int, **changes: Any) -> dict[str, Any]:
    at = datetime(MONDAY.year, MONDAY.month, MONDAY.day, tzinfo=UTC) + timedelta(minutes=number % 10_000)
    place = {"_epoch": 0, "_partition": 0, "_offset": number, "_kafka_time": at, "_landed_at": at, "_dup": False}
    texts = {"messages": [{"role": "user", "text": f"q{number}"}], "input_text": f"q{number}"}
    return {
        **{"v": 1, "id": uid(number), "ts": at, "app": "bot", "feature": "chat", "model": "gpt-4o", "status": "ok"},
        **{"content_mode": "redacted", "output_text": f"answer {number}", "finish_reason": "stop", "day": at.date()},
        **texts,
        **place,
        **changes,
    }


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the job goes on behind it."""


class LakeOutlet:
    """Publishes into the lake, as land would have it; holds back what was published after ``hold``."""

    def __init__(self, config: LakeConfig) -> None:
        self.config = config
        self.published: list[bytes] = []
        self.landed = 0
        self._seen = DuplicateWindow()
        self.kill_after: int | None = None
        """Publications until the process is killed, after what it published is acknowledged."""
        self.caught_up = 0

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        self.published += [value for _, value in messages]
        if self.kill_after is not None:
            self.kill_after -= 1
            if not self.kill_after:
                self.kill_after = None
                raise Killed

    def catch_up(self) -> bool:
        self.caught_up += 1
        self.land()
        return True

    def land(self) -> None:
        values = self.published[self.landed :]
        start = self.landed
        self.landed = len(self.published)
        if not values:
            return
        offsets = list(range(start, start + len(values)))
        count = len(values)
        records = Records(
            EVENTS,
            [1] * count,
            offsets,
            [NOW] * count,
            [None] * count,
            list(values),
            [()] * count,
            {1: (start, start + count)},
        )
        self._seen.start(1, start) if not start else None
        decoded = decode(records, BOOKS, self._seen, landed_at=NOW, epoch=0)
        with Lake.open(self.config, now=now) as lake:
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0, 1: 0})
            lake.append(decoded.tables(), [Move(EVENTS, 1, start, start + count)])


def land_calls(config: LakeConfig, calls: Sequence[Mapping[str, Any]], **others: Sequence[Mapping[str, Any]]) -> None:
    schemas = {table.name: table.schema for table in TABLES}
    rows = {"raw_calls": calls, **others}
    batches = {name: pa.Table.from_pylist(list(r), schema=schemas[name]) for name, r in rows.items() if r}
    with Lake.open(config, now=now) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0, 1: 0})
        start = lake.ledger()[EVENTS, 0]
        lake.append(batches, [Move(EVENTS, 0, start, start + len(calls))])


def run(config: LakeConfig, outlet: LakeOutlet, **changes: Any) -> EvalReport:
    said = {"now": now, "settings": EvalSettings(size=60, floor=10), "scorers": QUICK, **changes}
    return evals(config, outlet, said.pop("days", DAYS), **said)


def ask(config: LakeConfig, sql: str, *params: Any) -> list[dict[str, Any]]:
    with ReadOnlyLake.open(config) as lake:
        return list(lake.query(sql, list(params)).to_pylist())
