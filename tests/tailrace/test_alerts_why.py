"""``alerts why`` over a lake in which an hour of history and ten minutes with two incidents have landed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_harness.zygote import run_command

from pipelines.detect import backtest
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.why import Why, explain, replay
from schemas.records import Record
from schemas.topics import ROLLUPS
from tests.pipelines.detect.test_backtest import MINUTE, heard, land
from tests.pipelines.detect.traffic import SECOND, T0
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[2]
APP, USER = {"app": "bot"}, {"app": "bot", "user": "u-7"}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return heard()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Path:
    home = tmp_path_factory.mktemp("home")
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: T0) as lake:
        lake.ensure_partitions(ROLLUPS, "one", {0: 0})
        land(lake, records)
    return home


@pytest.fixture(scope="module")
def lake(home: Path) -> Iterator[ReadOnlyLake]:
    reader = ReadOnlyLake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")))
    yield reader
    reader.close()


def asked(lake: ReadOnlyLake, series: dict[str, str], at: int) -> Why:
    found = backtest.ranges(lake.query, since=0, until=2 * T0)
    state = replay(lake.query, found, Judge(), series["app"], at)
    assert state is not None
    return explain(Judge(), state, series, at)


def band(why: Why, measure: str, window_s: int) -> Any:
    return next(b for b in why.bands if (b.measure, b.window_s) == (measure, window_s))


def test_a_quiet_series_says_what_it_would_take(lake: ReadOnlyLake) -> None:
    why = asked(lake, APP, T0 + 30 * SECOND)
    assert (why.judged_until, why.known, why.open) == ("2026-09-21T14:00:30.000Z", True, ())
    cost = band(why, "cost", 300)
    assert not cost.breaches
    assert cost.limit > 2 * cost.expected > 0
    assert cost.min_calls == 5
    assert band(why, "single call", 300).limit == 10.0
    assert 0 < band(why, "errors", 300).limit < 0.1
    assert "limit" in vars(band(why, "cost_per_call", 60))


def test_an_open_incident_is_named_and_the_app_is_grouped_under_it(lake: ReadOnlyLake, records: list[Record]) -> None:
    firing = next(Judge().run(records))
    why = asked(lake, USER, T0 + 2 * MINUTE)
    assert why.states == (f"firing spike_cost since {firing.window.start}: alert {firing.id}",)
    assert band(why, "cost", 60).breaches
    app = asked(lake, APP, T0 + 2 * MINUTE)
    assert app.states[0].startswith(f"spend is grouped under alert {firing.id} (spike_cost of app=bot user=u-7)")


def test_the_state_is_that_of_the_live_stage_when_that_bucket_had_closed(
    lake: ReadOnlyLake, records: list[Record]
) -> None:
    at, judge, state = T0 + 100 * SECOND, Judge(), PartitionState()
    for record in records:
        judge.step(state, record)
        if (app := state.apps.get("bot")) and app.windows.closed >= at:
            break
    judge.learn(state)
    assert explain(judge, state.apps["bot"], APP, at) == asked(lake, APP, at)


def test_history_that_one_tick_closes_is_asked_about_in_the_middle(lake: ReadOnlyLake) -> None:
    why = asked(lake, APP, T0 - 30 * MINUTE)
    assert why.judged_until == "2026-09-21T13:30:00.000Z"
    assert why.states == ("spike is learning until 2026-09-21T13:40:00.000Z",)


def test_a_resolved_incident_cools_down_and_an_unknown_series_is_said_to_be_unknown(lake: ReadOnlyLake) -> None:
    why = asked(lake, {"app": "bot", "user": "nobody"}, T0 + 9 * MINUTE)
    assert (why.known, why.bands) == (False, ())
    assert "spike_cost" in [each.rule for each in why.closed]
    until, reopens_until = why.closed[0].until, why.closed[0].reopens_until
    assert until is not None
    assert reopens_until is not None
    assert until < reopens_until


@pytest.fixture
def run(home: Path) -> Any:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
        "TAILRACE_HOME": str(home),
        "TAILRACE_LAKE__CATALOG": str(home / "catalog.sqlite"),
        "TAILRACE_LAKE__DATA_PATH": str(home / "data"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return run_command(["alerts", "why", *words], env={**environment, "COLUMNS": "80"}, timeout=180)

    return run


def test_the_command_prints_a_table_and_json(run: Any) -> None:
    at = ("--at", "2026-09-21T14:02:00Z", "--warm-up", "2h")
    printed = run("--series", "app=bot,user=u-7", *at)
    assert printed.returncode == 0, printed.stderr
    assert "app=bot · user=u-7" in printed.stdout
    assert "firing spike_cost since 2026-09-21T14:01:00.000Z" in " ".join(printed.stdout.split())
    assert "\n! cost " in printed.stdout
    assert max(map(len, printed.stdout.splitlines())) <= 80
    document = json.loads(run("--series", '{"app":"bot"}', *at, "--json").stdout)
    assert document["series"] == APP
    assert document["silenced"] == []
    assert {"observed", "expected", "limit", "min_calls", "breaches"} <= document["bands"][0].keys()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--series", "feature=chat"), "names no app"),
        (("--series", "app=bot,colour=red"), "no rollup of app bot,colour=red"),
        (("--series", "app"), "cannot read"),
        (("--series", '{"app":1}'), "is no JSON object of texts"),
        (("--series", "app=bot", "--series", "flavour=sweet"), "no dimension"),
        (("--series", "app=nobody"), "no rollup of app nobody"),
        (("--series", "app=bot", "--at", "then"), "how long ago"),
    ],
)
def test_what_it_cannot_do_it_refuses_with_the_remedy(run: Any, words: tuple[str, ...], problem: str) -> None:
    ran = run(*words, *(() if "--at" in words else ("--at", "2026-09-21T14:02:00Z")), "--warm-up", "2h")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert problem in " ".join(ran.stderr.split())
