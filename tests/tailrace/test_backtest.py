"""The command ``backtest``: over a lake in which an hour with two incidents has landed, and what was told of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fault_harness.zygote import run_command

from pipelines.backtest import Replay
from pipelines.detect.judge import Judge
from pipelines.land.rows import land_rows
from schemas.alerts import VERDICT, Alert, LogRecord
from schemas.records import Move, Records
from schemas.topics import ALERTS, LOG, ROLLUPS
from tests.pipelines.backtest.test_events import config, traffic
from tests.pipelines.detect.test_backtest import heard, land
from tests.pipelines.detect.traffic import T0
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[2]
SPAN = ("--from", "2026-09-21T13:00:00Z", "--to", "2026-09-21T16:00:00Z")


@pytest.fixture(scope="module")
def told() -> list[Alert]:
    return list(Judge().run(heard()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, told: list[Alert]) -> Path:
    home = tmp_path_factory.mktemp("home")
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: T0) as lake:
        lake.ensure_partitions(ROLLUPS, "one", {0: 0})
        lake.ensure_partitions(ALERTS, "one", {0: 0})
        land(lake, heard())
        size = len(told)
        bodies = [alert.to_json() for alert in told]
        records = Records(
            ALERTS, [0] * size, list(range(size)), [T0] * size, [None] * size, bodies, [()] * size, {0: (0, size)}
        )
        lake.append(land_rows(records, epoch=0, landed_at=T0), [Move(ALERTS, 0, 0, size)])
    return home


@pytest.fixture
def backtest(home: Path) -> Any:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
        "TAILRACE_HOME": str(home),
        "TAILRACE_LAKE__CATALOG": str(home / "catalog.sqlite"),
        "TAILRACE_LAKE__DATA_PATH": str(home / "data"),
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_command(["backtest", *words], env={**environment, **more})

    return run


def ids(out: str) -> list[tuple[str, int]]:
    return [(a["id"], a["seq"]) for a in map(json.loads, out.splitlines())]


RULES = ("spike.ratio=1e6", "spike.ratio_per_call=1e6", "per_call.evidence=1e6")
NO_SPIKE = [word for rule in RULES for word in ("--set", rule)]


def test_it_tells_what_was_told_and_says_that_nothing_differs(backtest: Any, told: list[Alert]) -> None:
    ran = backtest(*SPAN, "--compare", "--json")
    assert ran.returncode == 0, ran.stderr
    assert ids(ran.stdout) == [(a.id, a.seq) for a in sorted(told, key=lambda a: (a.detected_at, a.id, a.seq))]
    assert f"live: {len(told)} the same, 0 only live, 0 only here, 0 in other words" in ran.stderr
    lines = backtest(*SPAN)
    assert len(lines.stdout.splitlines()) == len(told)
    assert "2 alerts, 4 state changes" in lines.stderr


def test_other_rules_and_another_app_are_judged_and_compared_as_such(backtest: Any, told: list[Alert]) -> None:
    calm = backtest(*SPAN, *NO_SPIKE, "--compare", "--json")
    assert {json.loads(line)["detector"] for line in calm.stdout.splitlines()} == {"surge"}
    assert calm.returncode == 1
    assert "2 the same, 2 only live" in calm.stderr
    other = backtest(*SPAN, "--app", "nobody", "--compare")
    assert (other.returncode, other.stdout) == (0, "")
    assert "live: 0 the same, 0 only live" in other.stderr
    assert {a.detector for a in told} == {"spike", "surge"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "then"), "how long ago"),
        (("--from", "0001-01-01"), "since 1970"),
        (("--from", "2027-01-01", "--to", "2026-01-01"), "--from"),
        ((*SPAN, "--set", "spike"), "DETECTOR.FIELD=NUMBER"),
        ((*SPAN, "--set", "nobody.x=1"), "no such detector"),
        ((*SPAN, "--set", "spike.nothing=1"), "no such field"),
        ((*SPAN, "--set", "spike.ratio=high"), "give a number"),
        ((*SPAN, "--warm-up", "long"), "how long"),
    ],
)
def test_what_it_cannot_do_it_refuses_with_the_remedy(backtest: Any, words: tuple[str, ...], said: str) -> None:
    ran = backtest(*words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr


def judged(told: list[Alert], verdicts: dict[str, str]) -> list[LogRecord]:
    """Verdicts on the first alert of each detector."""
    ids = {alert.detector: alert.id for alert in reversed(told)}
    rows = [{"actor": "kim", "action": VERDICT, "object": ids[d], "verdict": v} for d, v in verdicts.items()]
    return [LogRecord(table="audit", at=T0, row=row) for row in rows]


@pytest.fixture(scope="module")
def with_verdicts(home: Path, told: list[Alert]) -> None:
    values = [msgspec.json.encode(r) for r in judged(told, {"spike": "noise", "surge": "useful"})]
    size = len(values)
    with Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: T0) as lake:
        lake.ensure_partitions(LOG, "one", {0: 0})
        records = Records(
            LOG, [0] * size, list(range(size)), [T0] * size, [None] * size, values, [()] * size, {0: (0, size)}
        )
        lake.append(land_rows(records, epoch=0, landed_at=T0), [Move(LOG, 0, 0, size)])


@pytest.mark.usefixtures("with_verdicts")
def test_it_counts_what_other_rules_do_to_the_alerts_that_people_judged(backtest: Any) -> None:
    calm = backtest(*SPAN, *NO_SPIKE, "--verdicts")
    assert calm.returncode == 0, calm.stderr
    assert "verdicts: 1 of 1 noise alerts vanish, 1 of 1 useful ones stay; 2 alerts become 1" in calm.stderr
    same = backtest(*SPAN, "--verdicts")
    assert "verdicts: 0 of 1 noise alerts vanish, 1 of 1 useful ones stay; 2 alerts become 2" in same.stderr
    other = backtest(*SPAN, "--verdicts", "--app", "nobody")
    assert "verdicts: 0 of 0 noise alerts vanish, 0 of 0 useful ones stay; 0 alerts become 0" in other.stderr


def test_a_file_has_no_verdicts(backtest: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    ran = backtest("--events", str(tmp_path / "empty.jsonl"), "--verdicts")
    assert (ran.returncode, "--verdicts" in ran.stderr) == (2, True)


@pytest.mark.parametrize("detector", ["spike", "surge"])
def test_an_alert_that_is_exported_is_the_same_in_an_empty_home(
    backtest: Any, home: Path, told: list[Alert], tmp_path: Path, detector: str
) -> None:
    states = [alert for alert in told if alert.detector == detector]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
        "TAILRACE_HOME": str(home),
        "TAILRACE_LAKE__CATALOG": str(home / "catalog.sqlite"),
        "TAILRACE_LAKE__DATA_PATH": str(home / "data"),
    }
    words = ["alerts", "export", states[0].id[:8], "--out", str(tmp_path)]
    made = run_command(words, env=environment)
    assert made.returncode == 0, made.stderr
    file = tmp_path / f"{states[0].id[:8]}.capsule"
    assert f"written: {file}" in made.stderr
    assert "judged again it gives the same alert" in made.stderr
    nowhere = {name: str(tmp_path / "none") for name in ("TAILRACE_HOME", "TAILRACE_LAKE__CATALOG")}
    ran = backtest("--events", str(file), "--compare", "--json", **nowhere)
    assert ran.returncode == 0, ran.stderr
    assert f"{len(states)} of {len(states)} states are those that were emitted" in ran.stderr
    lines = [line for line in map(json.loads, ran.stdout.splitlines()) if line["id"] == states[0].id]
    assert lines == [json.loads(state.to_json()) for state in states]
    assert not (tmp_path / "none").exists()
    other = backtest("--events", str(file), "--compare", "--set", f"{detector}.warm_up_s=1e9", **nowhere)
    assert (other.returncode, f"0 of {len(states)} states" in other.stderr) == (1, True)
    refused = run_command(words, env=environment)
    assert (refused.returncode, "exists; name a new file" in refused.stderr) == (2, True)


def test_days_whose_ticks_are_gone_are_not_judged_in_silence(backtest: Any, home: Path) -> None:
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: T0, lander=False) as lake:
        late = T0 + 5 * 60_000_000
        lake.transact(lambda c: c.execute("DELETE FROM ticks WHERE epoch_us(_kafka_time) < $1", [late]).fetchall())
    refused = backtest(*SPAN)
    assert refused.returncode == 2
    assert "ticks are kept from 2026-09-21T14:05:0" in refused.stderr
    assert backtest("--from", "2026-09-21T14:06:00Z", "--to", "2026-09-21T16:00:00Z").returncode == 0


def test_a_file_of_events_is_judged_without_a_lake(backtest: Any, tmp_path: Path) -> None:
    file, lines = tmp_path / "events.jsonl", traffic()
    without_texts = [json.dumps({k: v for k, v in json.loads(line).items() if k != "content"}) for line in lines]
    file.write_text("\n".join([*without_texts[:10], "no JSON", "", *without_texts[10:]]) + "\n")
    nowhere = {"TAILRACE_HOME": str(tmp_path / "none"), "TAILRACE_LAKE__CATALOG": str(tmp_path / "none.sqlite")}
    ran = backtest("--events", str(file), "--tick", "10s", "--json", **nowhere)
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "none.sqlite").exists()
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    expected = Replay(config(embedder=None)).run([line.encode() for line in without_texts])
    assert sorted((a["id"], a["seq"], a["observed"]) for a in found) == sorted(
        (a.id, a.seq, a.observed) for a in expected
    )
    assert f"1 of {len(lines) + 1} lines are no events; line 11: not_json" in ran.stderr
    table = backtest("--events", str(file), "--tick", "10s", "--app", "bot", "--from", "2027-01-01", **nowhere)
    assert (table.returncode, table.stdout) == (0, "")
    assert "0 alerts, 0 state changes" in table.stderr


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("none.jsonl", (), "No such file or directory"),
        ("empty.jsonl", ("--compare",), "--compare"),
        ("bad.jsonl", (), "none of its 1 lines is an event"),
        ("events.jsonl", ("--to", "1970-01-01"), "--from"),
        ("empty.jsonl", ("--tick", "0s"), "--tick"),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused_in_one_line(
    backtest: Any, tmp_path: Path, name: str, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "bad.jsonl").write_text("x" * 3_000_000 + "\n")
    ran = backtest("--events", str(tmp_path / name), *words)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert said in ran.stderr


def test_an_empty_file_has_no_alerts(backtest: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    ran = backtest("--events", str(tmp_path / "empty.jsonl"))
    assert (ran.returncode, ran.stdout) == (0, "")
