"""A canary's decisions: advance where everything passes, rollback where anything is worse, else hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jobs.gate.canary import SHARES, Canary, decide, message, parse_shares
from jobs.gate.sequential import compare
from jobs.gate.variants import comparisons
from jobs.gate.verdict import Verdict
from schemas.errors import SettingsError

CANARY = Canary("old", "new", "support")


def units(rates: dict[str, float], *, users: int = 4000, seed: int = 3, **values: float) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    usual = {"cost_usd": 0.01, "latency_ms": 300.0}
    return [
        {"side": side, "unit": f"{side}{i}", "replied": float(rng.random() < rate), **usual, **values}
        for side, rate in rates.items()
        for i in range(users)
    ]


def test_equal_variants_advance_stage_by_stage():
    found = comparisons(units({"a": 0.99, "b": 0.99}), [], stages=2)
    first, second = (decide(found, CANARY, share) for share in SHARES[:-1])
    assert (first.action, first.share, first.next_share) == ("advance", 5, 50)
    assert (second.action, second.share, second.next_share) == ("advance", 50, 100)


def test_one_measure_that_is_worse_is_a_rollback():
    calls = units({"a": 0.99, "b": 0.99})
    for row in calls:
        row["latency_ms"] = 600.0 if row["side"] == "b" else 300.0
    found = decide(comparisons(calls, []), CANARY, 5)
    assert (found.action, found.next_share) == ("rollback", 0)
    assert [reason.split()[1] for reason in found.reasons] == ["latency_ms"]


def test_few_users_are_a_hold():
    found = decide(comparisons(units({"a": 0.99, "b": 0.99}, users=20), []), CANARY, 5)
    assert (found.action, found.next_share) == ("hold", 5)
    assert decide([], CANARY, 5).action == "hold", "no calls yet"


def test_the_bound_of_a_rollback_is_corrected_for_measures_and_stages():
    def look(worse: int) -> str:
        failing = {"a": 2, "b": worse}
        sides = [{"side": s, "replied": float(i >= n)} for s, n in failing.items() for i in range(400)]
        calls = [{"cost_usd": None, "latency_ms": None, **row} for row in sides]
        return decide(comparisons(calls, [], stages=2), CANARY, 5).action

    assert compare("replied", [1.0] * 398 + [0.0] * 2, [1.0] * 382 + [0.0] * 18, 0.05).verdict is Verdict.REGRESS
    assert look(18) == "hold", "six comparisons may end this release"
    assert look(22) == "rollback"


def test_forty_users_without_a_failure_prove_little():
    assert decide(comparisons(units({"a": 1.0, "b": 1.0}, users=40), []), CANARY, 5).action == "hold"
    assert decide(comparisons(units({"a": 1.0, "b": 1.0}, users=400), []), CANARY, 5).action == "advance"


def test_equal_variants_that_are_looked_at_thirty_times_are_seldom_rolled_back():
    rolled_back = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.random((2, 3000)) < 0.9
        cost = rng.lognormal(0, 0.4, (2, 3000))
        for n in range(100, 3001, 100):
            calls = [
                {"side": side, "replied": float(ok[i]), "cost_usd": paid[i], "latency_ms": None}
                for side, ok, paid in (("a", a, cost[0]), ("b", b, cost[1]))
                for i in range(n)
            ]
            if decide(comparisons(calls, [], stages=2), CANARY, 5).action == "rollback":
                rolled_back += 1
                break
    assert rolled_back / 60 <= 0.05


def test_the_message_names_the_decision_and_repeats_its_id():
    found = comparisons(units({"a": 0.99, "b": 0.99}, users=40), [])
    decision = decide(found, CANARY, 5)
    first, again = (message(decision, CANARY, found, began=7, at=at) for at in (10, 20))
    assert first.id == again.id
    assert message(decision, CANARY, found, began=8, at=10).id != first.id
    body = json.loads(first.body)
    assert (body["type"], body["action"], body["share"], body["next_share"]) == ("release.canary", "hold", 5, 5)
    assert [each["measure"] for each in body["measures"]] == ["replied", "cost_usd", "latency_ms"]
    assert first.title == "Canary new against old at 5 %: hold, leave it at 5 %"


@pytest.mark.parametrize("text", ["", "5", "5,50", "50,5,100", "0,100", "5,5,100", "a,100"])
def test_shares_rise_to_a_hundred(text):
    with pytest.raises(SettingsError, match="--shares"):
        parse_shares(text)
    assert parse_shares("1,10,100") == (1, 10, 100)
