"""The SQL of an alert returns exactly its number, from a real table with the landed columns, whatever lands later."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.alerts.evidence import literal, sql
from pipelines.alerts.lifecycle import Timing
from pipelines.alerts.recovery import RecoveryConfig
from pipelines.decode import DuplicateWindow, decode, decode_metered
from pipelines.detect.detectors.per_call import PerCall
from pipelines.detect.judge import Judge
from pipelines.meter.measures import counts
from pipelines.pricing import PriceBooks, default_book
from schemas.alerts import Usage
from schemas.arrow import lake_columns
from schemas.records import Records
from schemas.rollups import H_KIND
from tailrace_emitter.event import Call
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream


class Landing(Stream):
    """Lands every call of the stream into DuckDB as well."""

    def table(self) -> duckdb.DuckDBPyConnection:
        lake = duckdb.connect()
        columns = ", ".join(f'"{c.name}" {c.duckdb}' for c in lake_columns(Call))
        lake.execute(f"CREATE TABLE raw_calls ({columns})")
        return lake

    def land(self, lake: duckdb.DuckDBPyConnection, calls: object) -> None:
        renamed = {"user": "user_id", "tenant": "tenant_id"}
        wanted = (
            "id ts app feature model tenant user status cost_usd input_tokens output_tokens refused finish_reason "
            "_epoch _partition _offset"
        )
        names = wanted.split()
        targets = ", ".join(renamed.get(n, n) for n in names)
        sources = ", ".join(
            "(cost_nanousd::DECIMAL(18,0) / 1e9)::DECIMAL(18,9)" if n == "cost_usd" else n for n in names
        )
        guards = "list_transform(guardrails, lambda g: {'name': g.name, 'stage': NULL, 'action': g.action, "
        guards += "'score': NULL, 'category': NULL, 'ms': NULL})"
        docs = "CASE WHEN retrieval_docs_count = 0 THEN [] END"  # the others say only where they looked
        lake.execute(
            f"INSERT INTO raw_calls ({targets}, guardrails, _dup, retrieval_source, retrieval_docs)"
            f" SELECT {sources}, {guards}, false, CASE WHEN retrieval THEN 'kb' END, {docs} FROM calls"
        )


class Odd(Landing):
    """A third of the calls retrieve; ``kind`` befalls 1 % of those it can befall, and half of them from T0 + 20 s."""

    kind = ""

    def _table(self, rng: np.random.Generator, columns: dict[str, Any], partition: int) -> pa.Table:
        calls = super()._table(rng, columns, partition)
        size = len(calls)
        late = calls["ts"].cast(pa.int64()).to_numpy() >= T0 + 20 * SECOND
        hit = rng.random(size) < np.where(late, 0.5, 0.01)
        said, retrieval = rng.integers(0, 3, size), rng.random(size) < 1 / 3
        changed: dict[str, Any] = {"retrieval": retrieval}
        if self.kind == "refused":
            changed["refused"] = [bool(s == 0) if h else None for h, s in zip(hit, said, strict=True)]
            changed["finish_reason"] = [
                ("stop", "SAFETY", "refusal")[s] if h else None for h, s in zip(hit, said, strict=True)
            ]
        else:
            changed["retrieval_docs_count"] = [0 if h and r else None for h, r in zip(hit, retrieval, strict=True)]
        for name, values in changed.items():
            at = calls.schema.get_field_index(name)
            calls = calls.set_column(at, calls.schema.field(at), pa.array(values, calls.schema.field(at).type))
        return calls


@pytest.mark.parametrize(
    ("seed", "planted"),
    [
        (31, Incident(T0 + 20 * SECOND, T0 + 45 * SECOND, user="u-77", rate=8)),
        (32, Incident(T0 + 20 * SECOND, T0 + 45 * SECOND, guardrail="pii", share=0.5, action="block")),
        (33, Incident(T0 + 20 * SECOND, T0 + 70 * SECOND, factor=12)),
    ],
    ids=["runaway user", "guardrail surge", "all of it"],
)
def test_the_sql_of_an_alert_returns_exactly_its_number(
    seed: int, planted: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(Landing(seed, incidents=(planted,), apps=(App(rate=1.5),)), monkeypatch, resolved=True)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("kind", ["refused", "empty_retrievals"])
def test_so_does_that_of_a_share_that_few_calls_report(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Odd(34, apps=(App(rate=1.5),))
    stream.kind = kind
    assert f"surge_{kind}" in prove(stream, monkeypatch, resolved=False)


@pytest.mark.extended
def test_so_does_that_of_an_update_and_of_a_reopened_incident(monkeypatch: pytest.MonkeyPatch) -> None:
    loops = [Incident(T0 + at * SECOND, T0 + (at + 45) * SECOND, user="u-77", rate=8) for at in (20, 130)]
    stream = Landing(35, incidents=tuple(loops), apps=(App(rate=1.5),))
    timing = Timing(update_every_s=30, recovery=RecoveryConfig(least_reopened_s=60))
    states = ["firing", "resolved", "firing", "resolved"]
    assert prove(stream, monkeypatch, states=states, judge=Judge(timing=timing), live_s=700) == {"spike_cost"}


def prove(
    stream: Landing,
    monkeypatch: pytest.MonkeyPatch,
    *,
    resolved: bool = True,
    states: Sequence[str] = (),
    judge: Judge | None = None,
    live_s: int = 130,
) -> set[str]:
    """Judge the stream and run the SQL of every alert; the rules that fired."""
    lake = stream.table()
    made = stream._table

    def landed(rng: object, columns: object, partition: int) -> object:
        calls = made(rng, columns, partition)  # type: ignore[arg-type]
        stream.land(lake, calls)
        return calls

    monkeypatch.setattr(stream, "_table", landed)
    records = [*stream.records(T0 - HOUR, T0, live=False, batch_s=600)]
    records += stream.records(T0, T0 + live_s * SECOND, live=True, batch_s=2)
    alerts = list((judge or Judge()).run(records))
    found = [a.state for a in alerts if not states or a.state != "update"]
    assert found == (list(states) or ["firing", "resolved"][: 1 + resolved])
    assert not states or len(alerts) > len(states), "updates among them"
    for alert in alerts:
        # all that came later is in the table already, and does not count
        [(found,)] = lake.execute(alert.evidence.sql).fetchall()
        assert (float(found) if isinstance(found, Decimal) else found) == alert.observed
        counted = lake.execute(alert.evidence.cause_sql).fetchall() if alert.evidence.cause_sql else []
        causes = [c for c in alert.cause if c.now]
        assert len(counted) == len(causes)
        for (_, _, calls, tokens, cost), cause in zip(counted, causes, strict=True):
            assert cause.now == Usage(calls, tokens, float(cost))
    assert any(dict(r.headers).get(H_KIND) == b"rollup" for r in records)
    known = {str(i) for (i,) in lake.execute("SELECT id FROM raw_calls").fetchall()}
    assert alerts[0].evidence.call_ids
    assert set(alerts[0].evidence.call_ids) <= known
    return {alert.rule for alert in alerts}


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    ("change", "rule"), [({"bloat": 3.0}, "tokens_per_call"), ({"price": 6.0}, "cost_per_call")], ids=["tokens", "cost"]
)
def test_so_does_that_of_a_rise_per_call_which_may_have_begun_before_the_last_five_minutes(
    change: dict[str, float], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Landing(37, incidents=(Incident(T0, T0 + 600 * SECOND, **change),), apps=(App(rate=0.4),), partitions=1)  # type: ignore[arg-type]
    judge = Judge((PerCall(),), timing=Timing(update_every_s=300))
    assert prove(stream, monkeypatch, states=["firing", "resolved"], judge=judge, live_s=2400) == {rule}


USED = {"model": "gpt-4o-mini", "provider": "openai", "tokens": {"input": 1000, "output": 0}}
COSTS: dict[str, dict[str, Any]] = {
    "the same": {**USED, "cost_reported": 0.00015},
    "twice": {**USED, "cost_reported": 0.0003},
    "nothing": {**USED, "cost_reported": 0},
    "from the app's cache": {**USED, "cost_reported": 0.0003, "cache": {"kind": "exact"}},
    "without a price": {**USED, "model": "no-such-model", "cost_reported": 0.0003},
    "with a unit": {**USED, "cost_reported": 0.0303, "units": [{"unit": "web_searches", "quantity": 3}]},
    "with a unit without a price": {**USED, "cost_reported": 0.0303, "units": [{"unit": "no_such", "quantity": 3}]},
}
ODD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "refused": {"refused": True},
    "not refused": {"refused": False, "finish_reason": "stop"},
    "a provider's word": {"finish_reason": "Content_Filter"},
    "both": {"refused": True, "finish_reason": "refusal"},
    "not refused, and a provider's word": {"refused": False, "finish_reason": "SAFETY"},
    "a retrieval that says nothing": {"retrieval": {}},
    "a retrieval of nulls": {"retrieval": {"query": None, "docs": None}},
    "an empty retrieval": {"retrieval": {"docs": []}},
    "a retrieval with a query": {"retrieval": {"query": "q"}},
    "a retrieval with a place": {"retrieval": {"source": "kb"}},
    "a retrieval with an index": {"retrieval": {"index": "i"}},
    "a retrieval that took time": {"retrieval": {"ms": 0.0}},
    "a retrieval that wanted five": {"retrieval": {"top_k": 5, "docs": []}},
    **{f"a reported cost, {name}": told for name, told in COSTS.items()},
    "a retrieval that found": {"retrieval": {"docs": [{"id": "d"}]}},
}


def messages() -> Iterator[bytes]:
    for i, odd in enumerate(ODD.values()):
        fixed = {"v": 1, "type": "call", "id": str(uuid.UUID(int=i)), "ts": T0 // 1000, "app": "bot", "model": "m"}
        yield json.dumps(fixed | odd).encode()


@pytest.mark.parametrize(
    ("kind", "of"),
    [("refused", "calls"), ("empty_retrievals", "retrievals"), ("cost_differs", "costs_compared")],
)
def test_what_meter_counts_of_a_message_is_counted_in_what_lands_of_it(kind: str, of: str) -> None:
    from tests.pipelines.alerts.test_lifecycle import finding

    values = list(messages())
    size = len(values)
    records = Records(
        "llm.events", [0] * size, [*range(size)], [T0] * size, [None] * size, values, [()] * size, {0: (0, size)}
    )
    books = PriceBooks([default_book()])
    counted = counts(decode_metered(records, books, DuplicateWindow(), epoch=0).table)
    rows = decode(records, books, DuplicateWindow(), epoch=0, landed_at=T0).calls
    assert len(rows) == size
    lake = duckdb.connect()
    lake.register("rows", rows)
    text = sql(finding(measure=kind, series={"app": "bot"}, start=T0, end=T0 + SECOND), {0: size}, 0, table="rows")
    assert lake.execute(text).fetchall() == [(counted[kind].sum() / counted[of].sum(),)]
    assert 0 < counted[kind].sum() < counted[of].sum()


HOSTILE = [
    "'",
    "''",
    "'; DROP TABLE t; --",
    "\\'",
    "$$",
    "é\n\t",
    "\0x",
    "{'a': 1}",
    '"',
    "%s",
    "?",
    "$1",
    "U&'\\0041'",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_literal_is_the_text_and_nothing_else(text: str) -> None:
    assert duckdb.sql(f"SELECT {literal(text)}").fetchall() == [(text.replace("\0", ""),)]


@given(st.text())
def test_any_text_comes_back_from_its_literal(text: str) -> None:
    assert duckdb.sql(f"SELECT {literal(text)}").fetchall() == [(text.replace("\0", ""),)]


def test_a_series_of_hostile_values_is_compared_and_not_run() -> None:
    from tests.pipelines.alerts.test_lifecycle import finding

    evil = "x' OR true; DROP TABLE raw_calls; --"
    text = sql(finding(series={"app": evil, "user": evil, "guardrail": evil}), {0: 5}, 0)
    lake = Landing(0).table()
    assert len(lake.execute(text).fetchall()) == 1
    assert lake.execute("SELECT count(*) FROM raw_calls").fetchall() == [(0,)]
    assert len(duckdb.extract_statements(text)) == 1


def test_times_are_written_as_utc() -> None:
    from tests.pipelines.alerts.test_lifecycle import NOW, finding

    when = datetime.fromtimestamp(NOW / SECOND, UTC)
    assert f"TIMESTAMPTZ '{when:%Y-%m-%d %H:%M:%S}+00'" in sql(finding(), {0: 5}, 0)
