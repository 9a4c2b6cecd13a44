"""The shipped questions answer rightly on rows made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.records import Move
from schemas.tables import TABLES
from warehouse.comments import column_doc, data_dictionary, view_doc
from warehouse.lake import Lake
from warehouse.query.shipped_views import VIEWS
from warehouse.storage.connect import LakeConfig

EVENTS = "llm.events"
AT = datetime(2026, 11, 18, 10, tzinfo=UTC)
REPO = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def ask(fresh_home, rows, tmp_path_factory):
    """Ten rows that between them touch every question; returns a function from SQL to rows."""
    import shutil

    home = tmp_path_factory.mktemp("views") / "home"
    shutil.copytree(fresh_home, home)
    usd = Decimal
    call = rows.call
    calls = [
        call(0, cost_usd=usd("1.5"), status=None, input_tokens=100, cache_read_tokens=50, latency_ms=100.0,
             session_id="s1", trace_id="t1", user_id="u1", prompt_name="answer", prompt_version="1",
             guardrail_triggered=True, guardrails=[{"name": "pii", "action": "block", "stage": "output", "score": 0.9},
                         {"name": "tox", "action": "pass"}, {"name": "inj", "action": "flag"}]),
        call(1, cost_usd=None, cost_status="unpriced", latency_ms=300.0, session_id="s1", trace_id="t1", retries=2,
             fallback_from="gpt-5", model="mini",
             tools=[{"name": "search", "ok": True}, {"name": "mail", "ok": False}]),
        call(2, cost_usd=usd("1.5"), _dup=True, id=call(0)["id"]),
        call(3, cost_usd=usd("0.5"), status="error", error_type="timeout", answer_cache="exact",
             answer_cache_saved_usd=usd("0.25")),
        call(4, cost_usd=usd("0.125"), answer_cache="none", refused=True, prompt_name="answer", prompt_version="2",
             retrieval_query="q", retrieval_docs=[{"id": "d1", "rank": 1, "score": 0.5, "cited": True}, {"id": "d2"}]),
        call(5, cost_usd=usd("7"), id=call(4)["id"]),
    ]  # fmt: skip
    feedback = {**call(6), "kind": "thumbs", "score": -1.0, "call_id": call(0)["id"]}
    evals = {**call(7), "name": "groundedness", "score": 0.5, "call_id": call(0)["id"]}

    def only(name, row):
        known = {c.name for t in TABLES if t.name == name for c in t.columns}
        return rows.table(name, [{k: v for k, v in row.items() if k in known}])

    log = {"table": "releases", "at": AT, "row": '{"app":"bot","release":"2.4.1"}', "_offset": 0}
    adjusted = {
        "id": calls[1]["id"], "day": AT.date(), "_epoch": 0, "_partition": 0, "_offset": 1,
        "cost_usd": usd("2"), "delta_usd": usd("2"), "price_version": "pb-2", "adjusted_at": AT + timedelta(hours=2),
    }  # fmt: skip
    late = {"id": calls[5]["id"], "_epoch": 0, "_partition": 0, "_offset": 5, "found_at": AT + timedelta(hours=1)}
    rollup = {"dims": "app", "series": '{"app":"bot"}', "second": int(AT.timestamp()), "calls": 2, "cost_nanousd": 3}
    with Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: 1) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        landed = {
            "raw_calls": rows.table("raw_calls", calls),
            "raw_feedback": only("raw_feedback", feedback),
            "raw_evals": only("raw_evals", evals),
            "log_records": rows.table("log_records", [log]),
            "cost_adjustments": rows.table("cost_adjustments", [adjusted]),
            "late_duplicates": rows.table("late_duplicates", [late]),
            "rollups": rows.table("rollups", [rollup, {**rollup, "second": rollup["second"] + 59}]),
        }
        lake.append(landed, [Move(EVENTS, 0, 0, 8)])
        yield lambda sql, *params: lake.query(sql, params).to_pylist()


def test_calls_hold_each_id_once_at_the_cost_known_now(ask):
    found = ask("SELECT _offset, cost_usd, cost_landed_usd, cost_status, price_version FROM calls ORDER BY 1")
    assert [r["_offset"] for r in found] == [0, 1, 3, 4]
    assert found[1]["cost_usd"] == Decimal("2")
    assert found[1]["cost_landed_usd"] is None
    assert (found[1]["cost_status"], found[1]["price_version"]) == ("repriced", "pb-2")
    assert found[0]["cost_usd"] == found[0]["cost_landed_usd"] == Decimal("1.5")


def test_calls_as_known_at_leaves_out_what_came_later(ask):
    early = ask("SELECT _offset, cost_usd FROM calls_as_known_at(?) ORDER BY 1", AT + timedelta(seconds=1))
    assert [(r["_offset"], r["cost_usd"]) for r in early] == [(0, Decimal("1.5")), (1, None)]
    before_late = ask("SELECT count(*) AS n FROM calls_as_known_at(?)", AT + timedelta(minutes=30))
    assert before_late == [{"n": 5}]
    now = ask("SELECT sum(cost_usd) AS usd FROM calls_as_known_at(?)", AT + timedelta(days=1))
    assert now == ask("SELECT sum(cost_usd) AS usd FROM calls")


RAW = {"calls": "raw_calls", "calls_as_known_at(now())": "raw_calls", "feedback": "raw_feedback", "evals": "raw_evals"}


@pytest.mark.parametrize("view", RAW)
def test_a_default_of_the_wire_is_filled_in_and_what_was_not_reported_stays_null(ask, view):
    raw = next(table for table in TABLES if table.name == RAW[view])
    declared = {c.name: c.default for c in raw.columns if c.default}
    (first,) = ask(f"SELECT * FROM {view} ORDER BY _offset LIMIT 1")
    (landed,) = ask(f"SELECT * FROM {raw.name} ORDER BY _offset LIMIT 1")
    assert {name: first[name] for name in declared} == declared
    assert {landed[name] for name in declared} <= {None}, "the raw table keeps what was sent"
    unfilled = {"stream", "retries", "attempt", "answer_cache", "content_mode", "refused", "usage_reported", "env"}
    assert {first[name] for name in unfilled & set(first)} <= {None}


def test_ok_calls_are_found_by_their_status_and_chat_by_its_operation(ask):
    assert ask("SELECT count(*) AS n FROM calls WHERE status = 'ok'") == [{"n": 3}]
    assert ask("SELECT count(*) AS n FROM calls WHERE op = 'chat'") == [{"n": 4}]
    assert ask("SELECT status FROM expensive_calls WHERE cost_usd = 1.5") == [{"status": "ok"}]


def test_cost_daily_sums_exactly_and_counts_what_has_no_price(ask):
    found = ask("SELECT model, calls, cost_usd, unpriced_calls FROM cost_daily ORDER BY 1")
    assert found == [
        {"model": "gpt-4o", "calls": 3, "cost_usd": Decimal("2.125"), "unpriced_calls": 0},
        {"model": "mini", "calls": 1, "cost_usd": Decimal("2"), "unpriced_calls": 0},
    ]


def test_guardrail_triggers_are_a_row_a_trigger(ask):
    found = ask("SELECT guardrail, action, stage FROM guardrail_triggers ORDER BY 1")
    assert found == [
        {"guardrail": "inj", "action": "flag", "stage": None},
        {"guardrail": "pii", "action": "block", "stage": "output"},
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT latency_p50_ms FROM latency_daily WHERE model = 'mini'", 300.0),
        ("SELECT error_rate FROM error_rates WHERE model = 'gpt-4o'", 1 / 3),
        ("SELECT top_error FROM error_rates WHERE model = 'gpt-4o'", "timeout"),
        ("SELECT count(*) FROM tool_calls WHERE tool = 'mail' AND NOT ok", 1),
        ("SELECT doc_id FROM retrieved_docs WHERE cited", "d1"),
        ("SELECT cost_usd FROM sessions WHERE session_id = 's1'", Decimal("3.5")),
        ("SELECT thumbs_down FROM sessions WHERE session_id = 's1'", 1),
        ("SELECT calls FROM sessions WHERE session_id = 's1'", 2),
        ("SELECT duration_ms FROM traces WHERE trace_id = 't1'", 1300.0),
        ("SELECT models FROM traces", ["gpt-4o", "mini"]),
        ("SELECT retries + fallbacks FROM traces", 3),
        ("SELECT answer_hit_rate FROM cache_rates WHERE model = 'gpt-4o'", 0.5),
        ("SELECT prompt_cache_share FROM cache_rates WHERE model = 'gpt-4o'", 0.5),
        ("SELECT cost_usd FROM expensive_calls LIMIT 1", Decimal("2")),
        ("SELECT thumbs FROM prompt_versions WHERE prompt_version = '1'", 1),
        ("SELECT refusal_rate FROM prompt_versions WHERE prompt_version = '2'", 1.0),
        ("SELECT successes FROM cost_per_success", 1),
        ("SELECT cost_per_success_usd FROM cost_per_success", 4.125),
        ("SELECT release FROM releases WHERE app = 'bot'", "2.4.1"),
        ("SELECT calls FROM live_minutes", 4),
        ("SELECT cost_usd FROM live_minutes", Decimal("0.000000006")),
        ("SELECT count(*) FROM feedback WHERE score < 0", 1),
        ("SELECT name FROM evals", "groundedness"),
    ],
)
def test_every_question_answers_what_it_says(ask, sql, expected):
    (row,) = ask(sql)
    (value,) = row.values()
    assert value == pytest.approx(expected) if isinstance(expected, float) else value == expected


def test_every_column_of_every_table_and_view_is_explained(ask):
    missing = [f"{t.name}.{c.name}" for t in TABLES for c in t.columns if not column_doc(t, c.name)]
    missing += [f"{q.name}.{c}" for q in VIEWS for c, _ in columns(ask, q) if not view_doc(q, c)]
    assert missing == []
    commented = ask("SELECT count(*) AS n FROM duckdb_columns() WHERE table_name = 'raw_calls' AND comment IS NULL")
    assert commented == [{"n": 0}]
    views = ask("SELECT count(*) AS n FROM duckdb_views() WHERE database_name = 'lake' AND comment IS NULL")
    assert views == [{"n": 0}]


def columns(ask, question):
    call = f"{question.name}(now())" if question.parameters else question.name
    return [(r["column_name"], r["column_type"]) for r in ask(f"SELECT * FROM (DESCRIBE SELECT * FROM {call})")]


def test_the_data_dictionary_in_docs_is_what_the_lake_is(ask):
    text = data_dictionary({q.name: columns(ask, q) for q in VIEWS})
    path = REPO / "docs" / "reference" / "data-dictionary.md"
    assert path.read_text() == text, "run `make docs` and commit docs/reference/data-dictionary.md"
