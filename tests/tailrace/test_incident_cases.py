"""The golden cases of an incident: named by `alerts show`, and the gate runs on them."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import replace as changed
from typer.testing import CliRunner

from jobs.evals.scorers import choose
from jobs.golden import GoldenSettings
from schemas.alerts import Alert, Evidence, Window
from tailrace.cli import alerts as commands
from tailrace.gate import run as gate
from tests.jobs.golden.lake import NOW, Here, Home, call, copied, now, review, uid, word
from tests.tailrace.alerts import alert
from warehouse.golden.incident_cases import incident_cases
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

WINDOW = Window("2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")
QUALITY = alert(
    {"app": "bot", "prompt_name": "p", "prompt_version": "8", "scorer": "answered", "version": "v1"},
    detector="quality",
    rule="quality_drop",
    window=WINDOW,
    evidence=Evidence("SELECT 1 AS observed", (uid(0),)),
)
GUARDRAIL = alert({"app": "bot", "guardrail": "pii"}, rule="surge_guardrail", detector="surge", window=WINDOW)
PLANTED = range(6)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Six refused answers of prompt version 8, four failed ones of version 7, four that guardrails stopped."""
    folder = tmp_path_factory.mktemp("incident") / "home"
    Lake.open(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), now=now).close()
    made = copied(folder, folder.parent / "copy")
    calls = [call(i, prompt_name="p", prompt_version="8", output_text="I cannot help with that.") for i in PLANTED]
    calls += [call(i, prompt_name="p", prompt_version="7", output_text="I cannot help.") for i in range(10, 14)]
    stopped = {"stage": "output", "action": "block", "score": None, "category": None, "ms": None}
    for i in range(20, 24):
        check = [{"name": "pii" if i % 2 else "toxic", **stopped}]
        calls.append(call(i, guardrails=check, guardrail_triggered=True, guardrails_triggered=[check[0]["name"]]))
    low = [
        word(i, name="answered", call_id=uid(i), score=0.0, evaluator_version="v1", run_id="r")
        for i in (*PLANTED, *range(10, 14))
    ]
    made.land(calls, raw_evals=low)
    made.refresh(GoldenSettings(size=40))
    return made


def landed(each: Alert) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW / 1e6, UTC)
    place = {"_epoch": 0, "_partition": 0, "_offset": 0, "_kafka_time": at, "_landed_at": at}
    facts = {"id": each.id, "seq": each.seq, "detector": each.detector, "severity": each.severity, "state": each.state}
    return {**facts, "title": each.title, "detected_at": at, "alert": each.to_json().decode(), **place}


def found(home: Home, *states: Alert) -> list[str]:
    with ReadOnlyLake.open(home.config) as lake:
        return [case.case_id for case in incident_cases(lake, states)]


def ids(home: Home, calls: range | list[int]) -> list[str]:
    cases = home.cases()
    return sorted(cases[i]["case_id"] for i in calls)


def test_cases_of_a_drop_are_those_of_its_slice_its_scorer_and_its_window(home: Home) -> None:
    assert len(home.cases()) == 14
    assert found(home, QUALITY) == ids(home, PLANTED)
    every = changed(QUALITY, series={"scorer": "answered", "version": "v1"})
    assert found(home, every) == ids(home, [*PLANTED, *range(10, 14)])
    other = changed(QUALITY, series={**QUALITY.series, "scorer": "language"})
    assert found(home, other) == ids(home, [0])  # its evidence names the call
    earlier = changed(QUALITY, window=Window("2026-11-09T00:00:00Z", "2026-11-16T00:00:00Z"), evidence=Evidence())
    assert found(home, earlier) == []
    over = changed(earlier, state="resolved", seq=1)
    assert found(home, QUALITY, over) == ids(home, [0])


def test_cases_of_a_guardrail_and_of_a_series_that_cases_do_not_name(home: Home) -> None:
    assert found(home, GUARDRAIL) == ids(home, [21, 23])
    user = changed(GUARDRAIL, series={**GUARDRAIL.series, "user": "u-1"})
    assert found(home, user) == []
    drift = alert({"app": "bot"}, detector="drift", rule="input_drift", evidence=Evidence("", (uid(12), uid(99))))
    assert found(home, drift) == ids(home, [12])


def test_alerts_show_names_the_cases_and_the_gate_runs_on_them(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop closes: drop, alert, cases, and a candidate that still has the fault regresses on exactly these."""
    planted = ids(home, PLANTED)
    lines = [review(i, case, "accepted") for i, case in enumerate(planted)]
    home.land([], log_records=lines, alerts=[landed(QUALITY)])
    app = typer.Typer()
    commands.add_to(app)
    shown = CliRunner().invoke(app, ["alerts", "show", QUALITY.id], obj=Here(home.config)).stdout
    text = " ".join(shown.split())
    assert "production@1: 6 cases from its calls, 0 not reviewed" in text
    assert (
        sorted(set(re.findall(r"\b[0-9a-f]{16}\b", text.partition("golden")[2].partition("check a fix")[0]))) == planted
    )
    monkeypatch.chdir(tmp_path)
    for name, answer in (("good", "Here it is: yes."), ("bad", "I cannot help with that.")):
        command = [sys.executable, "-c", f"print({answer!r})"]
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\ncommand: {command!r}\nconcurrency: 2\n")
    report = gate.run(
        gate.Asked(Path("bad.yaml"), Path("good.yaml"), "production@1", None, Path("out"), 1),
        Here(home.config).settings,
        scorers=choose(["answered"]),
        cache=tmp_path / "kept",
        texts=True,
        force=False,
        now=lambda: NOW,
        progress=lambda n: lambda: None,
    )
    assert report["verdict"] == "regress"
    assert {row["case_id"] for row in report["worse"]} >= set(planted)
