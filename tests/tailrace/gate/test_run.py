"""``tailrace gate`` from outside: exit codes, files, what is refused; and docs/how-to/gate.md works as written."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fault_harness.zygote import run_command
from typer.testing import CliRunner, Result

from jobs.evals.scorers import SCORERS
from schemas.errors import TailraceError
from tailrace.cli import app
from tailrace.gate import run as shell
from tailrace.settings.model import Settings
from tests.jobs.gate.chat_server import ChatServer, serving

REPO = Path(__file__).parents[3]
CASES = 64
NOW = 1_796_000_000_000_000


def reply(request):
    number = int(re.findall(r"\d+", request["messages"][-1]["content"])[0])
    return str(2 * number + (request["model"] == "worse" and number % 4 == 0))


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with serving(reply) as server:
        yield server


@pytest.fixture
def folder(tmp_path, chat, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"case_id": f"c{i:03}", "input_text": f"twice {i}?", "expected": str(2 * i)} for i in range(CASES)]
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("good", "same", "worse"):
        (tmp_path / f"{name}.yaml").write_text(f"model: {name}\nbase_url: {chat.url}\nretries: 0\nconcurrency: 8\n")
    # all models are served by this process: their latency is that of the machine's other work
    (tmp_path / "gate.yaml").write_text("latency_p95: {limit: 25%rel, mode: inform}\n")
    return tmp_path


def gate(candidate="same.yaml", baseline="good.yaml", golden="golden.jsonl", *, out="out", force=False, **changes):
    asked = shell.Asked(Path(candidate), Path(baseline), golden, None, Path(out), 1, **changes)
    settings = Settings(home=Path("home"))
    return shell.run(
        asked,
        settings,
        scorers=SCORERS,
        cache=Path("kept"),
        texts=True,
        force=force,
        now=lambda: NOW,
        progress=lambda n: lambda: None,
    )


def tailrace(*words: str) -> Result:
    """Run the command in this process: a new one imports for seconds."""
    return CliRunner().invoke(app, ["--home", "home", *words])


def test_an_equal_candidate_passes_a_worse_one_regresses_and_a_rerun_pays_nothing(folder, chat):
    first = gate()
    assert (first["verdict"], first["reasons"]) == ("pass", [])
    assert sorted(os.listdir("out")) == ["junit.xml", "report.html", "report.json", "report.md"]
    asked = len(chat.requests)
    again = gate(force=True)
    assert len(chat.requests) == asked
    assert again["checks"][:3] == first["checks"][:3]
    worse = gate("worse.yaml", out="second")
    assert worse["verdict"] == "regress"
    assert "exact_match: regress" in worse["reasons"][0]
    assert worse["worse"][0]["diff"] == ["-0", "+1"]


def test_an_earlier_report_is_the_baseline_and_its_side_is_not_asked(folder, chat):
    gate()
    asked = len(chat.requests)
    assert gate("worse.yaml", "out/report.json", out="second")["verdict"] == "regress"
    assert len(chat.requests) == asked + CASES


def test_few_cases_are_undecided(folder):
    lines = (folder / "golden.jsonl").read_text().splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:12]))
    found = gate(golden="few.jsonl")
    assert found["verdict"] == "undecided"
    assert "more cases needed" in found["reasons"][0]


def test_what_was_there_stays_whole_when_a_run_is_refused(folder):
    gate()
    before = (folder / "out/report.json").read_bytes()
    (folder / "away.yaml").write_text("model: m\nbase_url: http://127.0.0.1:9/v1\nretries: 0\n")
    with pytest.raises(shell.GateInputError, match="gave no answer to 5 questions, the last: unreachable"):
        gate("away.yaml", force=True)
    assert (folder / "out/report.json").read_bytes() == before
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidate": "none.yaml"}, "none.yaml"),
        ({"candidate": "golden.jsonl"}, "golden.jsonl"),
        ({"golden": "none.jsonl"}, "none.jsonl"),
        ({"golden": "empty.jsonl"}, "it holds no case"),
        ({"golden": "7"}, "lake"),
        ({"out": "no/such/folder"}, "does not exist"),
        ({"out": "full"}, "holds other files"),
        ({"out": "good.yaml"}, "no folder"),
        ({"baseline": "full/x.json"}, "no report"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(folder, chat, changes, said):
    (folder / "full").mkdir()
    (folder / "full" / "x.json").write_text("{}")
    (folder / "empty.jsonl").write_text("{broken\n")
    asked = len(chat.requests)
    with pytest.raises(TailraceError, match=re.escape(said)):
        gate(**changes)
    assert len(chat.requests) == asked
    assert not (folder / "out").exists()


def test_approvals_are_lines_beside_the_report_and_a_changed_report_is_refused(folder):
    made = gate()
    for name in ("Ada", "Grace"):
        shell.approve(Path("out"), by=name, note="ok", now=NOW)
    rows = [json.loads(line) for line in (folder / "out/approvals.jsonl").read_text().splitlines()]
    assert [(row["by"], row["sha256"]) for row in rows] == [("Ada", made["sha256"]), ("Grace", made["sha256"])]
    with pytest.raises(shell.GateInputError, match="nobody is named"):
        shell.approve(Path("out"), by=" ", note="", now=NOW)
    report = folder / "out/report.json"
    report.write_text(report.read_text().replace('"verdict": "pass"', '"verdict": "regress"', 1))
    with pytest.raises(shell.GateInputError, match="changed"):
        shell.approve(report, by="Ada", note="", now=NOW)


def test_exit_codes_tell_verdicts_and_refused_input_apart(folder):
    common = ("--baseline", "good.yaml", "--golden", "golden.jsonl", "--samples", "1", "--out", "o", "--force")
    for candidate, code in (("same.yaml", 0), ("worse.yaml", 1), ("none.yaml", 3)):
        done = tailrace("gate", "--candidate", candidate, *common)
        assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("tailrace: cannot read none.yaml")
    assert tailrace("gate").exit_code == 3  # no candidate is named
    done = tailrace("gate", "--candidate", "same.yaml", "--scorer", "no_such", *common)
    assert (done.exit_code, "no scorer is called 'no_such'" in done.stderr) == (3, True)
    done = run_command(["gate", "--no-such-option"])
    assert done.returncode == 3
    assert "--no-such-option" in done.stderr


def _blocks() -> list[tuple[str, str, str]]:
    text = (REPO / "docs/how-to/gate.md").read_text()
    return re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_commands_and_files_of_the_documentation_work_as_written(folder, monkeypatch):
    (folder / "answer.py").write_text(
        "import json, re, sys\ncase = json.load(sys.stdin)\nprint(2 * int(re.findall('[0-9]+', case['input'])[0]))\n"
    )
    rows = (folder / "golden.jsonl").read_text().splitlines(keepends=True)[:6]
    (folder / "golden.jsonl").write_text("".join(rows))
    commands: list[str] = []
    for language, name, text in _blocks():
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        elif language == "sh":
            commands += text.splitlines()
    (folder / "gate.yaml").write_text(re.sub("samples: 5 ", "samples: 1 ", (folder / "gate.yaml").read_text()))
    workflow = yaml.safe_load((folder / ".github/workflows/gate.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    commands += [step for step in steps if step.startswith("tailrace")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "tailrace"
        if words[1] == "golden":
            continue  # needs a lake; tests/jobs/test_golden.py exports
        done = tailrace(*words[1:])
        assert done.exit_code in (0, 2), done.output  # six cases decide nothing
        assert "tailrace: " not in done.stderr
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    subprocess.run(["bash", "-ec", next(s for s in steps if s.startswith("test "))], cwd=folder, check=True)
    assert (folder / "summary.md").read_text().startswith("## Tailrace gate: undecided")


def test_cases_with_a_rubric_that_no_judge_takes_are_counted_in_the_report(folder):
    rows = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
    ruled = [{**row, "rubric": "is twice the number"} if i < 3 else row for i, row in enumerate(rows)]
    (folder / "ruled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ruled))
    report = gate(golden="ruled.jsonl")
    assert any("cases with a rubric of their own: 3" in text for text in report["warnings"])
    assert not any("rubric" in text for text in gate(out="plain")["warnings"])


def test_a_judge_scores_where_no_kafka_is_known_and_the_report_says_that_its_calls_are_no_events(folder, monkeypatch):
    def judged(request):
        answer = json.loads(request["messages"][-1]["content"])["answer"]
        return json.dumps({"reason": "even is right", "score": 5 if int(answer) % 2 == 0 else 1})

    with serving(judged) as judge:
        monkeypatch.setenv("TAILRACE_JUDGE__URL", judge.url)
        monkeypatch.setenv("TAILRACE_JUDGE__MODEL", "a-judge")
        monkeypatch.setenv("TAILRACE_JUDGE__SPEND_LIMIT_USD", "0")
        monkeypatch.setenv("TAILRACE_JUDGE__PER_MINUTE", "100000")
        sides = ("--candidate", "worse.yaml", "--baseline", "good.yaml", "--golden", "golden.jsonl", "--samples", "1")
        done = tailrace("--json", "gate", *sides, "--scorer", "judge.task_success", "--scorer", "exact_match")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["verdict"]) == (1, "regress")
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["judge.task_success"]["verdict"] == "regress"
    warnings = " ".join(report["warnings"])
    assert "the judge's calls are not sent as events" in warnings
    assert "worse, but informs only: judge.task_success" in warnings
    assert judge.requests


def test_a_fault_of_ours_is_no_verdict(folder):
    program = "import sys, tailrace.gate.run as g; g.run = None; from tailrace.__main__ import main; main()"
    sides = ["--candidate", "same.yaml", "--baseline", "good.yaml", "--golden", "golden.jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", program, "--home", "home", "gate", *sides], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "TypeError" in done.stderr
