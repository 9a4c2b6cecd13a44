"""Shadow and canary calls are in no total of what users got; what they cost is in the cost."""

from __future__ import annotations

import shutil
from decimal import Decimal

import pytest

from schemas.records import Move
from schemas.variants import NOT_USER_FACING, is_user_facing
from warehouse.lake import Lake
from warehouse.query.shipped_views import VIEWS
from warehouse.storage.connect import LakeConfig

OUT = ("shadow", "canary", "Shadow-2", "canary_b", "SHADOW/new")
IN = (None, "control", "shadowy", "canaryville", "my-shadow")


@pytest.fixture(scope="module")
def ask(fresh_home, rows, tmp_path_factory):
    home = tmp_path_factory.mktemp("views") / "home"
    shutil.copytree(fresh_home, home)
    calls = [
        rows.call(
            i, variant=name, status="error", latency_ms=100.0, cost_usd=Decimal("1"), prompt_version="8", session_id="s"
        )
        for i, name in enumerate([*IN, *OUT])
    ]
    second = {"second": 1_795_000_000, "cost_nanousd": 7, "input_tokens": 3}
    live = [
        {**second, "dims": "app", "series": "{}", "calls": 10, "errors": 10, "shadow_calls": 5, "shadow_errors": 5},
        {**second, "dims": "app,variant", "series": '{"variant":"shadow"}', "calls": 5, "errors": 5, "shadow_calls": 0},
        {**second, "dims": "app", "series": '{"of":"an earlier release"}', "calls": 4, "errors": 1},
    ]
    with Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: 1) as lake:
        lake.ensure_partitions("llm.events", "topic-1", {0: 0})
        landed = {"raw_calls": rows.table("raw_calls", calls), "rollups": rows.table("rollups", live)}
        lake.append(landed, [Move("llm.events", 0, 0, len(calls))])
        yield lambda sql: lake.query(sql).to_pylist()


def test_a_name_that_begins_with_the_word_is_one_and_a_word_that_begins_so_is_not(ask):
    found = ask("SELECT variant, user_facing FROM calls")
    assert {row["variant"] for row in found if row["user_facing"]} == set(IN)
    assert {row["variant"] for row in found if not row["user_facing"]} == set(OUT)


@pytest.mark.parametrize("view", ["error_rates", "latency_daily", "cost_per_success", "cache_rates", "prompt_versions"])
def test_totals_of_what_users_got_leave_them_out(ask, view):
    assert ask(f"SELECT sum(calls)::INTEGER AS n FROM {view}") == [{"n": len(IN)}]


def test_python_and_sql_mean_the_same_variants(ask):
    assert [name for name in (*IN, *OUT) if not is_user_facing(name)] == list(OUT)
    views = {question.name: question.sql for question in VIEWS}
    assert all(f"'{NOT_USER_FACING}', 'i'" in views[name] for name in ("calls", "calls_as_known_at"))
    assert ask("SELECT count(*) AS n FROM calls_as_known_at(now()) WHERE user_facing") == [{"n": len(IN)}]


def test_live_minutes_count_them_apart_and_leave_their_cost_in_the_sum(ask):
    found = ask("SELECT dims, calls, errors, shadow_calls, cost_usd FROM live_minutes ORDER BY dims, series")
    cost = Decimal("0.000000007")
    assert [tuple(row.values()) for row in found] == [
        ("app", 4, 1, 0, cost),
        ("app", 5, 5, 5, cost),
        ("app,variant", 5, 5, 0, cost),
    ]


def test_a_conversation_and_a_prompt_version_say_how_many_there_are(ask):
    assert ask("SELECT calls, user_facing_calls, cost_usd FROM sessions") == [
        {"calls": len(IN) + len(OUT), "user_facing_calls": len(IN), "cost_usd": Decimal(len(IN) + len(OUT))}
    ]
    assert ask("SELECT shadow_calls, error_rate FROM prompt_versions") == [
        {"shadow_calls": len(OUT), "error_rate": 1.0}
    ]


def test_what_they_cost_is_paid_and_counted(ask):
    found = ask("SELECT sum(cost_usd) AS usd, sum(shadow_cost_usd) AS theirs, sum(shadow_calls) AS n FROM cost_daily")
    assert found == [{"usd": Decimal(len(IN) + len(OUT)), "theirs": Decimal(len(OUT)), "n": len(OUT)}]
