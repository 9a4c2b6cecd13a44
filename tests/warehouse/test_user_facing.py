"""Shadow and canary calls are in no total of what users got; what they cost is in the cost."""

from __future__ import annotations

import shutil
from decimal import Decimal

import pytest

from schemas.records import Move
from warehouse.connect import LakeConfig
from warehouse.lake import Lake

OUT = ("shadow", "canary", "Shadow-2", "canary_b", "SHADOW/new")
IN = (None, "control", "shadowy", "canaryville", "my-shadow")


@pytest.fixture(scope="module")
def ask(fresh_home, rows, tmp_path_factory):
    home = tmp_path_factory.mktemp("views") / "home"
    shutil.copytree(fresh_home, home)
    calls = [
        rows.call(i, variant=name, status="error", latency_ms=100.0, cost_usd=Decimal("1"))
        for i, name in enumerate([*IN, *OUT])
    ]
    with Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: 1) as lake:
        lake.ensure_partitions("llm.events", "topic-1", {0: 0})
        lake.append({"raw_calls": rows.table("raw_calls", calls)}, [Move("llm.events", 0, 0, len(calls))])
        yield lambda sql: lake.query(sql).to_pylist()


def test_a_name_that_begins_with_the_word_is_one_and_a_word_that_begins_so_is_not(ask):
    found = ask("SELECT variant, user_facing FROM calls")
    assert {row["variant"] for row in found if row["user_facing"]} == set(IN)
    assert {row["variant"] for row in found if not row["user_facing"]} == set(OUT)


@pytest.mark.parametrize("view", ["error_rates", "latency_daily", "cost_per_success"])
def test_totals_of_what_users_got_leave_them_out(ask, view):
    assert ask(f"SELECT sum(calls)::INTEGER AS n FROM {view}") == [{"n": len(IN)}]


def test_what_they_cost_is_paid_and_counted(ask):
    assert ask("SELECT sum(cost_usd) AS usd FROM cost_daily") == [{"usd": Decimal(len(IN) + len(OUT))}]
