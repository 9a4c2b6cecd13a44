"""Calls, failures and latency by slice, counted in a real lake."""

from __future__ import annotations

from typing import Any

from jobs.evals.judge import JUDGE_APP
from jobs.evals.operations import SQL, compare
from tests.jobs.evals.lake import DAYS, ask, call, land_calls
from warehouse.storage.connect import LakeConfig


def test_slices_of_every_dimension_are_counted_over_all_calls(config: LakeConfig) -> None:
    made: list[dict[str, Any]] = [
        *(call(i, latency_ms=100.0 * (i + 1), cost_usd=0, variant="short" if i < 4 else None) for i in range(10)),
        *(call(i, app="shop", feature=None, status="error" if i == 10 else "ok") for i in range(10, 13)),
        *(call(i, prompt_name="p", prompt_version=str(i % 2), model="o3") for i in range(20, 24)),
        call(30, app=JUDGE_APP),
        *(call(i, variant="shadow-b", status="error") for i in range(40, 45)),
    ]
    land_calls(config, made)
    rows = ask(config, SQL, *DAYS, JUDGE_APP)
    found = {(each.dimension, each.slice): each.now for each in compare(rows, [])}
    assert {key: each.calls for key, each in found.items()} == {
        ("app", "bot"): 14,
        ("app", "shop"): 3,
        ("feature", "bot / chat"): 14,
        ("model", "gpt-4o"): 13,
        ("model", "o3"): 4,
        ("prompt", "p / 0"): 2,
        ("prompt", "p / 1"): 2,
        ("variant", "bot / short"): 4,
        ("variant", "bot / shadow-b"): 5,  # in no other row
    }
    assert (found["app", "bot"].failed, found["variant", "bot / shadow-b"].failed) == (0, 5)
    assert found["app", "shop"].failed == 1
    assert found["variant", "bot / short"].latency_p95_ms == 385.0
    assert found["app", "shop"].latency_p95_ms is None
    assert (found["app", "bot"].unpriced, found["variant", "bot / short"].unpriced) == (4, 0)
    assert next(each.before for each in compare(rows, rows)) == found["app", "bot"]
