"""The SQL of an alert returns exactly its number, from a real table with the landed columns, whatever lands later."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.alerts.evidence import literal, sql
from pipelines.detect.judge import judge
from schemas.arrow import lake_columns
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
            "id ts app feature model tenant user status cost_usd input_tokens output_tokens _epoch _partition _offset"
        )
        names = wanted.split()
        targets = ", ".join(renamed.get(n, n) for n in names)
        sources = ", ".join(
            "(cost_nanousd::DECIMAL(18,0) / 1e9)::DECIMAL(18,9)" if n == "cost_usd" else n for n in names
        )
        guards = "list_transform(guardrails, lambda g: {'name': g.name, 'stage': NULL, 'action': g.action, "
        guards += "'score': NULL, 'category': NULL, 'ms': NULL})"
        lake.execute(
            f"INSERT INTO raw_calls ({targets}, guardrails, _dup) SELECT {sources}, {guards}, false FROM calls"
        )


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
    stream = Landing(seed, incidents=(planted,), apps=(App(rate=1.5),))
    lake = stream.table()
    made = stream._table

    def landed(rng: object, columns: object, partition: int) -> object:
        calls = made(rng, columns, partition)  # type: ignore[arg-type]
        stream.land(lake, calls)
        return calls

    monkeypatch.setattr(stream, "_table", landed)
    records = [*stream.records(T0 - HOUR, T0, live=False, batch_s=600)]
    records += stream.records(T0, T0 + 130 * SECOND, live=True, batch_s=2)
    alerts = list(judge(records))
    assert [a.state for a in alerts] == ["firing", "resolved"]
    for alert in alerts:
        # all that came later is in the table already, and does not count
        [(found,)] = lake.execute(alert.evidence.sql).fetchall()
        assert (float(found) if isinstance(found, Decimal) else found) == alert.observed
    assert any(dict(r.headers).get(H_KIND) == b"rollup" for r in records)
    known = {str(i) for (i,) in lake.execute("SELECT id FROM raw_calls").fetchall()}
    assert alerts[0].evidence.call_ids
    assert set(alerts[0].evidence.call_ids) <= known


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
