"""A lake with three apps over 30 days, and which of its rows go when bot is kept 15 days and the others 25."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa

from schemas.records import Move
from schemas.tables import TABLES
from tests.jobs.data_quality.lake import EVENTS, WELL, call, evaluation, feedback, place, uid
from warehouse.lake import Lake

KEPT = {"bot": 15, "*": 25}
TODAY = WELL.date()
APPS = ("bot", "gateway", "it's")
GOES = {
    "bot": {
        **{"raw_calls": 3, "raw_feedback": 2, "raw_evals": 1, "embeddings": 1},
        **{"dead": 1, "dead_bytes": 1},
    },
    "*": {"raw_calls": 2, "raw_feedback": 1},
}
GONE_OFFSETS = {6, 9, 10, 11, 12, 13, 15, 16, 18, 21}
"""Positions of llm.events whose rows go."""
TABLES_WITH_ROWS = ("raw_calls", "raw_feedback", "raw_evals", "embeddings", "dead", "dead_bytes", "cost_adjustments")


def before(days: int) -> Any:
    return WELL - timedelta(days=days)


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=next(t for t in TABLES if t.name == name).schema)


def filled(lake: Lake) -> None:
    """Positions 0 to 21 of llm.events, 0 and 1 of llm.embeddings."""
    for topic in (EVENTS, "llm.embeddings"):
        lake.ensure_partitions(topic, topic, {0: 0})
    for first in range(0, 12, 3):  # a file a day, each with all three apps
        rows = [call(n, before(n // 3 * 10), app=APPS[n % 3]) for n in range(first, first + 3)]
        lake.append({"raw_calls": table("raw_calls", rows)}, [Move(EVENTS, 0, first, first + 3)])
    here = {"_partition": 0}
    marks = [
        feedback(12, WELL, call_id=uid(6), **here),  # young, of a call that goes
        feedback(13, before(20), call_id=uid(0), **here),  # old, of a call that stays
        feedback(14, WELL, app="gateway", call_id=uid(0), **here),
        feedback(15, before(30), app="gateway", call_id=uid(99), **here),
    ]
    judged = [evaluation(16, WELL, call_id=uid(9), **here), evaluation(17, WELL, call_id=uid(0), **here)]
    letters = [(18, "bot", 20), (19, None, 40), (20, "bot", 0)]
    dead = [{"topic": EVENTS, "reason": "type", "app": app, **place(n, before(age))} for n, app, age in letters]
    data = [{"topic": EVENTS, "bytes": b"{}", "key": b"k", **place(n, before(age))} for n, _, age in letters]
    for row in data:
        del row["_landed_at"]
    again = call(21, before(2), app="gateway")  # the gateway's report of call 9
    late = {"id": again["id"], "day": again["day"], "_epoch": 0, "_partition": 0, "_offset": 21, "near": False}
    late |= {"kept_epoch": 0, "kept_partition": 0, "kept_offset": 9, "conflict": False, "found_at": WELL}
    costs = [
        {"id": uid(n), "day": before(n // 3 * 10).date(), "_epoch": 0, "_partition": 0, "_offset": n, "cost_usd": 2}
        | {"delta_usd": 1, "price_version": "v", "reason": "x", "adjusted_at": WELL, "cost_status": "computed"}
        for n in (0, 6)
    ]
    vectors = [
        {"call_id": uid(n), "app": "bot", "side": "input", "ts": WELL, "text": "t", **place(i, WELL)}
        for i, n in enumerate((0, 6))
    ]
    by_table = {
        "raw_feedback": marks,
        "raw_evals": judged,
        "dead": dead,
        "dead_bytes": data,
        "raw_calls": [again],
        "late_duplicates": [late],
        "cost_adjustments": costs,
        "embeddings": vectors,
    }
    lake.append(
        {name: table(name, found) for name, found in by_table.items()},
        [Move(EVENTS, 0, 12, 22), Move("llm.embeddings", 0, 0, 2)],
    )
