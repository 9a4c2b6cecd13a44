"""A share of a golden set is calls that did not fail: drawn by hash, never more, never beside a reason."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.golden import GoldenSettings
from tests.jobs.golden.lake import Home, call, failed, uid, word
from tests.jobs.golden.test_choose import call as candidate
from tests.jobs.golden.test_choose import run
from tests.jobs.golden.test_failures import WEEK, look, now
from warehouse.golden.traffic_sample import traffic
from warehouse.lake import Lake


def test_healthy_calls_are_drawn_by_their_ids_and_only_where_nothing_is_wrong(home: Home) -> None:
    calls = [call(i) for i in range(400)] + [failed(i) for i in range(400, 420)]
    home.land(calls, raw_feedback=[word(0, kind="thumbs", score=-1.0, call_id=uid(i)) for i in range(1)])
    assert all(row["reasons"] != ["healthy"] for row in look(home).calls)
    found = look(home, GoldenSettings(size=200, healthy=0.1))
    healthy = {row["call_offset"] for row in found.calls if row["reasons"] == ["healthy"]}
    assert found.found == 21  # failures only
    assert 20 <= len(healthy) <= 60  # twice the share, by hash
    assert not healthy & set(range(400, 420))
    assert 0 not in healthy
    everything = look(home, GoldenSettings(size=2000, healthy=1.0))
    assert {tuple(r["reasons"]) for r in everything.calls if r["call_offset"] in range(1, 400)} == {("healthy",)}
    again = look(home, GoldenSettings(size=200, healthy=0.1))
    assert {row["call_offset"] for row in again.calls if row["reasons"] == ["healthy"]} == healthy


def test_shadow_and_canary_calls_are_no_healthy_traffic_and_are_cases_where_they_fail(home: Home) -> None:
    names = ("shadow", "canary-v8", "control")
    calls = [call(i, variant=names[i % 3]) for i in range(90)] + [failed(i, variant="canary-v8") for i in range(90, 95)]
    home.land(calls)
    found = look(home, GoldenSettings(size=2000, healthy=1.0))
    healthy = {row["call_offset"] for row in found.calls if row["reasons"] == ["healthy"]}
    assert healthy == {i for i in range(90) if names[i % 3] == "control"}
    assert {row["call_offset"] for row in found.calls} >= set(range(90, 95))
    with Lake.open(home.config, now=now, lander=False) as lake:
        asked = traffic(lake.connection, WEEK, envs=(), not_envs=(), seed=7, most=1000)
    assert len(asked) == 30


@pytest.mark.parametrize(("share", "healthy"), [(0.0, 0), (0.1, 10), (1.0, 100)])
def test_a_set_holds_their_share_and_no_more(share: float, healthy: int) -> None:
    calls: list[dict[str, Any]] = [candidate(i, "healthy") for i in range(150)]
    calls += [candidate(i, "error") for i in range(150, 400)]
    chosen = run(calls, size=100, healthy=share)
    assert len(chosen.cases) == 100
    assert sum(case["reasons"] == ["healthy"] for case in chosen.cases) == healthy


def test_what_fails_later_is_not_healthy_any_more() -> None:
    from jobs.golden.cases import new_case, seen_again

    case = new_case("s", candidate(1, "healthy"), version=1)
    failing = new_case("s", candidate(1, "error"), version=2)
    assert case is not None
    assert failing is not None
    assert seen_again(case, failing)["reasons"] == ["error"]
