"""The share of reported costs that differ from the computed ones: from events to the alert, its SQL and its message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa

from pipelines.alerts.runbook import STEPS
from pipelines.decode import DuplicateWindow, decode
from pipelines.detect.items import TickAt, parse
from pipelines.detect.judge import Judge, PartitionState
from pipelines.meter.counting import Counting
from pipelines.meter.plan import Plan
from pipelines.notify.channels.slack import payload as slack
from pipelines.pricing import PriceBooks, default_book
from schemas.alerts import Alert
from schemas.records import Record, Records
from schemas.rollups import H_KIND
from tests.pipelines.detect.traffic import SECOND, T0

PLAN = Plan(app=((), ("model",), ("provider",)), span=())
MODELS = {"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
"""USD a million tokens of input and output."""


def call(number: int, at_s: float, model: str, factor: float) -> bytes:
    """A call whose gateway reports ``factor`` times the list price."""
    price = MODELS[model]
    event = {
        "v": 1,
        "type": "call",
        "id": str(uuid.UUID(int=number)),
        "ts": T0 // 1000 + round(at_s * 1000),
        "app": "bot",
        "model": model,
        "provider": "openai",
        "tokens": {"input": 1000, "output": 100},
        "cost_reported": round(factor * (1000 * price[0] + 100 * price[1]) / 1e6, 12),
    }
    return json.dumps(event).encode()


def batches(minutes: int, wrong_from: int, wrong: float) -> Iterator[Records]:
    """A call a second, half of them of each model, a batch a minute; from a minute on one model's reports are off."""
    offset = 0
    for minute in range(minutes):
        values = []
        for second in range(60):
            model = list(MODELS)[(offset + second) % 2]
            factor = wrong if minute >= wrong_from and model == "gpt-4o-mini" else 1.0
            values.append(call(offset + second, minute * 60 + second, model, factor))
        times = [T0 + (minute * 60 + s) * SECOND for s in range(60)]
        offsets = list(range(offset, offset + 60))
        offset += 60
        span = {0: (offset - 60, offset)}
        yield Records("llm.events", [0] * 60, offsets, times, [None] * 60, values, [()] * 60, span)


def played(minutes: int, wrong_from: int, wrong: float) -> tuple[list[Alert], pa.Table]:
    """The alerts of meter and detect, and what land writes of the same records."""
    books, counting, seen = PriceBooks([default_book()]), Counting(PLAN, epoch=0, samples_per_s=0.0), DuplicateWindow()
    counting.start(0, 0)
    seen.start(0, 0)
    judge, state, alerts, rows, position = Judge(), PartitionState(), list[Alert](), [], 0
    for batch in batches(minutes, wrong_from, wrong):
        wall = batch.kafka_times[-1]
        rows.append(decode(batch, books, seen, epoch=0, landed_at=wall).calls)
        messages = [(m.key, m.value, m.headers) for m in counting.count(batch, books, wall=wall).rollups]
        messages.append((b"*", counting.tick(wall, {}).to_json(), ((H_KIND, b"tick"),)))
        for key, value, headers in messages:
            state, found = judge.step(state, Record("llm.rollups", 0, position, wall, key, value, headers))
            alerts += found
            position += 1
    return alerts, pa.concat_tables(rows)


def test_reported_costs_that_differ_are_alerted_as_a_share_with_sql_runbook_and_message() -> None:
    alerts, calls = played(55, 40, 1.25)
    firing = next(a for a in alerts if a.rule == "surge_cost_differs")
    assert (firing.state, firing.detector, firing.unit) == ("firing", "surge", "share")
    assert (firing.series["app"], firing.series["model"]) == ("bot", "gpt-4o-mini")
    assert "reported costs more than 1 % off the computed ones in" in firing.title
    assert "of compared calls" in firing.title
    lake = duckdb.connect()
    lake.register("raw_calls", calls)
    [(found,)] = lake.execute(firing.evidence.sql).fetchall()
    assert found == firing.observed
    known = {row["id"] for row in calls.to_pylist() if "cost_differs" in (row["_flags"] or ())}
    assert firing.evidence.call_ids
    assert set(firing.evidence.call_ids) <= known, "the calls that are named are some that differ"
    assert len(firing.runbook) == len(STEPS["surge_cost_differs"])
    assert f"tailrace call {firing.evidence.call_ids[0]}" in " ".join(firing.runbook)
    assert "gpt-4o-mini" in json.dumps(slack(firing))


def test_costs_that_agree_or_differ_by_a_per_cent_raise_nothing() -> None:
    alerts, calls = played(45, 38, 1.009)
    assert [a for a in alerts if a.rule == "surge_cost_differs"] == []
    assert calls.column("_flags").null_count == calls.num_rows


def test_a_rollup_of_a_version_that_did_not_count_reported_costs_is_read() -> None:
    books, counting = PriceBooks([default_book()]), Counting(PLAN, epoch=0, samples_per_s=0.0)
    counting.start(0, 0)
    (batch,) = batches(1, 0, 2.0)
    message = next(m for m in counting.count(batch, books, wall=T0).rollups if m.key == b"bot")
    table = pa.ipc.open_stream(message.value).read_all()
    assert sum(table.column("cost_differs").to_pylist()) > 0
    sink = pa.BufferOutputStream()
    old = table.drop_columns(["costs_compared", "cost_differs"])
    with pa.ipc.new_stream(sink, old.schema) as writer:
        writer.write_table(old)
    value = bytes(sink.getvalue())
    found = parse(Record("llm.rollups", 0, 0, T0, message.key, value, message.headers))
    assert not isinstance(found, TickAt)
    assert found is not None
    new = parse(Record("llm.rollups", 0, 0, T0, message.key, message.value, message.headers))
    assert not isinstance(new, TickAt)
    assert new is not None
    assert np.array_equal(found.sums[:, :12], new.sums[:, :12])
    assert not found.sums[:, 12:14].any()
    assert np.array_equal(found.sums[:, 14:], new.sums[:, 14:])
