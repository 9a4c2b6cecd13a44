"""The scoreboard: incidents change what they say and nothing else, alarms and alerts are counted as the page says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import _incidents_answers as answers
import _incidents_baselines as baselines
import _incidents_labels as labels
import _incidents_run as run
import _incidents_scenarios as scenarios
import _incidents_score as score
from _incidents_calls import MINUTE, MODELS, SECOND, T0, Calls, Naming, lines
from _incidents_worlds import World

from pipelines.decode import verdict
from pipelines.decode.check import Accepted

N = 4_000


@pytest.fixture
def world() -> World:
    draws = np.random.default_rng(3)
    columns = {"input": np.full(N, 1000), "output": np.full(N, 100), "cached": np.full(N, 300)}
    flags = {name: np.zeros(N, bool) for name in ("cut_off", "failed", "flagged", "no_usage")}
    calls = Calls(
        t=T0 + np.arange(N) * SECOND,
        client=draws.choice(5, N, p=[0.6, 0.26, 0.1, 0.03, 0.01]),
        user=draws.integers(0, 50, N),
        model=draws.choice(3, N),
        attempt=np.ones(N, int),
        ttft=np.zeros(N),
        text=np.full(N, -1),
        answer=np.full(N, -1),
        document=np.full(N, -1),
        **columns,
        **flags,
    )
    return World(calls, Naming(), {0: 0.6, 1: 0.26, 2: 0.1, 3: 0.03, 4: 0.01})


def test_every_line_is_an_event_in_the_order_of_time(world: World) -> None:
    made = list(lines(world.calls, world.naming, 1))
    assert all(isinstance(verdict(line), Accepted) for line in made)
    assert len({json.loads(line)["id"] for line in made}) == N
    times = [json.loads(line)["ts"] for line in made]
    assert times == sorted(times)


def test_an_incident_changes_the_affected_calls_alone(world: World) -> None:
    found = scenarios.bloat(0.1)(world, world.calls, np.random.default_rng(1))
    assert 0 < found.affected.sum() < N
    assert (found.calls.input[found.affected] == 3000).all()
    assert (found.calls.input[~found.affected] == 1000).all()
    ((dimension, client),) = found.where
    assert dimension == "tenant"
    assert set(world.calls.client[found.affected].tolist()) == {int(client.removeprefix("client-"))}


@pytest.mark.parametrize("scenario", [s for s in scenarios.SCENARIOS if "agent" not in s.name], ids=lambda s: s.name)
def test_every_scenario_affects_some_calls_and_keeps_their_order(world: World, scenario: scenarios.Scenario) -> None:
    calls = world.calls
    if scenario.world == "agents":  # agents send long histories: every fifth call here
        long = np.arange(N) % 5 == 0
        calls = calls.changed(long, input=np.full(long.sum(), 300_000), ttft=np.full(long.sum(), 2000.0))
    found = scenario.make(world, calls, np.random.default_rng(2))
    assert 0 < found.affected.sum() <= len(found.calls) == len(found.affected)
    assert (np.diff(found.calls.t) >= 0).all()


def test_shares_are_those_that_the_least_time_is_computed_from(world: World) -> None:
    for scenario in scenarios.SCENARIOS:
        if scenario.shares and "outage" not in scenario.name:
            found = scenario.make(world, world.calls, np.random.default_rng(4))
            values = {value for _, value in found.where}
            of = np.ones(N, bool)
            if any(value.startswith("client") for value in values):
                of = np.array([f"client-{c}" in values for c in world.calls.client])
            elif values:
                of = np.array([MODELS[m][1] in values for m in world.calls.model])
            before, after = scenario.shares
            assert found.affected.sum() / of.sum() == pytest.approx(after - before, abs=0.07), scenario.name


def windows_of(values: list[int], calls: int = 100) -> baselines.Windows:
    found = baselines.Windows(0, len(values), {'{"app":"a"}': 0})
    found.sums = np.zeros((1, len(values), len(baselines._COLUMNS)), np.int64)
    found.sums[0, :, baselines.COLUMN["calls"]] = calls
    found.sums[0, :, baselines.COLUMN["errors"]] = values
    return found


def test_n1_rings_once_where_a_value_leaves_three_standard_deviations_and_n2_at_twice_the_mean() -> None:
    steady = [3, 4, 5, 4] * 5
    for name in ("N1 overall", "N2 overall", "N1 each", "N2 each"):
        assert baselines.alarms(name, windows_of(steady)) == []
        rings = baselines.alarms(name, windows_of([*steady, 30, 30, 4]))
        assert [(a.measure, a.time) for a in rings] == [("errors", 21 * baselines.WINDOW)], name


def test_an_alert_counts_in_time_and_under_the_true_name_or_that_of_the_app() -> None:
    true = frozenset({("user", "u")})
    said = [(5, frozenset({("user", "other")})), (7, frozenset()), (8, true)]
    assert run._first(said, true, 0, 100) == (7, frozenset())
    assert run._first(said, true, 7, 100) == (8, true)
    assert run._first(said, true, 0, 6) is None
    late = run._verdict((20 * MINUTE, true), 10 * MINUTE, 0, np.array([MINUTE, 30 * MINUTE]))
    assert late == {"found": False, "delay_min": 20.0, "delay_calls": 1}


@pytest.mark.parametrize(("hits", "total", "low", "high"), [(0, 0, 0, 1), (8, 10, 0.490, 0.943), (10, 10, 0.722, 1)])
def test_the_interval_of_a_share(hits: int, total: int, low: float, high: float) -> None:
    assert score.wilson(hits, total) == pytest.approx((low, high), abs=1e-3)


def test_figures_name_luck_and_what_is_above_it() -> None:
    case = {"found": True, "luck": False, "delay_min": 2.0, "delay_calls": 9, "alerts": 1, "named": True}
    missed = {"found": False, "luck": False, "delay_min": None, "delay_calls": None, "alerts": 0, "named": False}
    found = score.figures([{"x": each} for each in (case, {**case, "alerts": 3, "named": False}, missed, missed)], "x")
    assert (found["found"], found["draws"], found["above_luck"]) == (2, 4, 0.5)
    assert (found["alerts"], found["one_alert_share"], found["slice_named_share"]) == (2.0, 0.5, 0.5)
    lucky = score.figures([{"x": {**case, "luck": True}}, {"x": missed}], "x")
    assert lucky["above_luck"] == 0.0


def test_a_swap_gives_the_affected_calls_the_other_models_answer_and_its_tokens(world: World) -> None:
    texts = answers.Answers(["why", "how"], ["a" * 40, "b" * 80, "c" * 400, "d" * 800], [])
    asked = np.arange(N) % 2
    calls = texts.counted(world.calls.changed(np.ones(N, bool), text=asked, answer=asked))
    found = answers.swap(texts, 0.26)(world, calls, np.random.default_rng(1))
    assert (found.calls.answer[found.affected] == asked[found.affected] + 2).all()
    assert (found.calls.answer[~found.affected] == asked[~found.affected]).all()
    assert set(found.calls.output[found.affected].tolist()) == {101, 201}
    assert set(found.calls.output[~found.affected].tolist()) == {11, 21}
    naming = Naming(texts=texts.instructions, answers=texts.answers, documents=["paper"])
    some = found.calls.changed(np.arange(3), document=0)
    events = [json.loads(line) for line in lines(some, naming, 1)]
    assert all(isinstance(verdict(line), Accepted) for line in lines(some, naming, 1))
    assert events[0]["content"]["output"] == texts.answers[found.calls.answer[0]]
    assert events[0]["retrieval"]["docs"] == [{"id": "doc-0", "text": "paper"}]
    assert "retrieval" not in events[3]


def test_labels_are_counted_by_hour_before_the_tested_days_and_by_five_minutes_in_them(world: World) -> None:
    sampled = np.arange(0, N, 10)
    recent = T0 // SECOND + 3600  # labels come ten minutes after their calls
    counts = labels.Table(world, sampled, np.ones(len(sampled))).counts(T0 // SECOND + N + 600, recent)
    [whole] = [slots for series, slots in counts.items() if not series.dimension]
    assert sum(n for _, n in whole.values()) == len(sampled)
    assert whole[recent - 3600] == (300.0, 300)
    assert all(at % 300 == 0 and at >= recent for at in whole if at != recent - 3600)
