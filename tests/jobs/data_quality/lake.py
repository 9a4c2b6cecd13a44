"""A lake with two weeks of history, an hour in which all is well, and one in which every expectation fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pyarrow as pa

from jobs.data_quality import Window
from pipelines.land.rows import land_rows
from schemas.alerts import Alert
from schemas.records import Move, Records
from schemas.tables import TABLES
from schemas.topics import ALERTS
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

EVENTS = "llm.events"
APPS = ("bot", "quiet")
Row = dict[str, Any]
_START = datetime(1970, 1, 1, tzinfo=UTC)
WELL = datetime(2026, 11, 18, 10, tzinfo=UTC)
"""A Wednesday."""
BROKEN = WELL + timedelta(hours=2)


def micros(at: datetime) -> int:
    return int((at - _START) / timedelta(microseconds=1))


def window(hour: datetime, *, late: timedelta = timedelta(minutes=12)) -> Window:
    end = hour + timedelta(hours=1)
    return Window(micros(hour), micros(end), micros(end + late))


WELL_HOUR = window(WELL)
BROKEN_HOUR = window(BROKEN, late=timedelta(days=20))
"""Judged so late that nothing is fresh."""


def uid(number: int, kind: int = 0) -> str:
    return f"00000000-0000-4000-8000-{kind:04d}{number:08d}"


def place(number: int, at: datetime, partition: int = 0) -> Row:
    position = {"_epoch": 0, "_partition": partition, "_offset": number, "_kafka_time": at}
    return {**position, "_landed_at": at, "day": at.date()}


def call(number: int, at: datetime, **changes: Any) -> Row:
    return {
        **{"v": 1, "id": uid(number), "ts": at, "app": "bot", "model": "gpt-4o", "status": "ok", "_dup": False},
        **{"content_mode": "full", "messages": [{"role": "user", "text": "q"}], "output_text": "a", "retries": 0},
        **{"latency_ms": 900.0, "ttft_ms": 200.0, "input_tokens": 9, "output_tokens": 9, "cache_read_tokens": 3},
        **{"reasoning_tokens": 2, "cost_usd": 1, "cost_status": "computed", **place(number, at), **changes},
    }


def feedback(number: int, at: datetime, **changes: Any) -> Row:
    what = {"v": 1, "id": uid(number, 1), "ts": at, "app": "bot", "_dup": False, "call_id": uid(0)}
    kind = {"kind": "thumbs", "score": 1.0} if number % 2 else {"kind": "rating", "score": 0.5}
    return {**what, **kind, **place(number, at, 1), **changes}


def evaluation(number: int, at: datetime, **changes: Any) -> Row:
    what = {"v": 1, "id": uid(number, 2), "ts": at, "app": "bot", "_dup": False, "call_id": uid(0)}
    return {**what, "name": "judge", "score": 1.0, "evaluator_kind": "llm", **place(number, at, 2), **changes}


def rollup(number: int, at: datetime, **changes: Any) -> Row:
    zero = dict.fromkeys(("errors", "blocked", "refused", "truncated", "unpriced", "retrievals", "empty_retrievals"), 0)
    span = {"source_epoch": 0, "source_partition": 0, "source_from": number, "source_to": number + 1, "part": "1/1"}
    what = {"dims": "app", "series": '{"app":"bot"}', "second": int(at.timestamp()), "calls": 1, "key": "bot"}
    counts = {"input_tokens": 9, "output_tokens": 9, "cost_nanousd": 10**9}
    return {**what, **zero, **counts, **span, **place(number, at, 3), **changes}


def tick(at: datetime) -> Row:
    return {"wall": at, "slot": "0", "sources": [], **place(0, at, 4)}


def case(number: int, **changes: Any) -> Row:
    what = {"set_name": "default", "version": 1, "case_id": f"c{number}", "call_id": uid(number), "added_in": 1}
    return {**what, "input_text": "q", **changes}


def version(number: int, cases: int, **changes: Any) -> Row:
    return {"set_name": "default", "version": number, "cases": cases, "created_at": WELL, **changes}


def land(config: LakeConfig, at: datetime, **tables: Sequence[Mapping[str, Any]]) -> None:
    """Append ``tables``; the ledger of llm.events goes to 1,000,000, so all that rollups count has landed."""
    schemas = {table.name: table.schema for table in TABLES}
    batches = {name: pa.Table.from_pylist(list(rows), schema=schemas[name]) for name, rows in tables.items() if rows}
    with Lake.open(config, now=lambda: micros(at)) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        start = lake.ledger()[EVENTS, 0]
        lake.append(batches, [] if start else [Move(EVENTS, 0, 0, 1_000_000)])


def land_alerts(config: LakeConfig, at: datetime, alerts: Sequence[Alert], offset: int) -> None:
    """Land ``alerts`` as land does, from ``offset`` on."""
    values: list[bytes | None] = [alert.to_json() for alert in alerts]
    count, now = len(values), micros(at)
    offsets, covered = list(range(offset, offset + count)), {0: (offset, offset + count)}
    batch = Records(ALERTS, [0] * count, offsets, [now] * count, [None] * count, values, [()] * count, covered)
    with Lake.open(config, now=lambda: now) as lake:
        lake.insert(land_rows(batch, epoch=0, landed_at=now))


def history(config: LakeConfig) -> None:
    """Rows of the fourteen days before, at 10 and 12 o'clock: 200 calls of two apps, and 64 of feedback and evals."""
    hours = [hour - timedelta(days=day) for day in range(1, 15) for hour in (WELL, BROKEN)]
    numbers = count(10_000)
    land(
        config,
        WELL - timedelta(hours=1),
        raw_calls=[call(next(numbers), at, app=APPS[i % 2]) for at in hours for i in range(200)],
        raw_feedback=[feedback(next(numbers), at, app=APPS[i > 3]) for at in hours for i in range(64)],
        raw_evals=[evaluation(next(numbers), at, app=APPS[i > 3]) for at in hours for i in range(64)],
    )


def well(config: LakeConfig) -> None:
    """An hour in which all is well."""
    at = WELL + timedelta(minutes=30)
    calls = [call(i, at, app=APPS[i % 2]) for i in range(200)]
    land(
        config,
        at,
        raw_calls=calls,
        raw_feedback=[feedback(i, at, app=APPS[i > 3]) for i in range(64)],
        raw_evals=[evaluation(i, at, app=APPS[i > 3]) for i in range(64)],
        rollups=[rollup(i, at) for i in range(200)],
        ticks=[tick(WELL + timedelta(hours=1, minutes=11))],
        golden_cases=[case(i) for i in range(3)],
        golden_versions=[version(1, 3)],
    )
