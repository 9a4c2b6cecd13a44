"""Homes of earlier releases: this version opens each, proves its lake and goes on landing (row 69)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path

import pytest

HOMES = sorted((Path(__file__).parents[1] / "fixtures").glob("home-*.tar.gz"))


def _tailrace(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tailrace", "--home", str(home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def _counts(home: Path) -> dict[str, str]:
    found = _tailrace(
        home,
        "sql",
        "--format",
        "json",
        "SELECT (SELECT count(*) FROM calls) AS calls, (SELECT CAST(sum(cost_usd) AS VARCHAR) FROM calls) AS cost_usd, "
        "(SELECT count(*) FROM dead) AS dead, (SELECT sum(calls) FROM rollups WHERE dims = 'app') AS metered",
    )
    assert found.returncode == 0, found.stderr
    return {key: str(value) for key, value in json.loads(found.stdout).items()}


def test_there_is_a_home_to_open():
    assert HOMES


@pytest.mark.extended
@pytest.mark.row(69)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("packed", HOMES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_a_home_of_an_earlier_release_is_opened_and_goes_on(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, filter="data")
    home = tmp_path / "home"
    expected = json.loads((home / "expected.json").read_text())
    assert _counts(home) == expected
    verified = _tailrace(home, "verify")
    assert (verified.returncode, "Traceback" in verified.stderr) in ((0, False), (2, False)), verified.stderr
    if verified.returncode:
        assert "start `tailrace land` (or `up`) once" in verified.stderr
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_KAFKA")}
    up = subprocess.Popen(
        [sys.executable, "-m", "tailrace", "--home", str(home), "up", "--no-web"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        ready = _tailrace(home, "status", "--json", "--wait", "180")
        assert ready.returncode == 0, ready.stdout
        event = {
            "v": 1,
            "type": "call",
            "id": str(uuid.uuid4()),
            "ts": "2026-11-21T07:00:00Z",
            "app": "after-upgrade",
            "model": "gpt-4o-mini",
            "tokens": {"input": 1000, "output": 0},
        }
        (tmp_path / "one.jsonl").write_text(json.dumps(event))
        sent = _tailrace(home, "emit", str(tmp_path / "one.jsonl"), "--wait")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert json.loads(sent.stdout)["cost_usd"] == "0.000150000"
        assert _tailrace(home, "verify").returncode == 0
        repriced = _tailrace(home, "prices", "reprice", "--from", "2026-11-01", "--json")
        assert repriced.returncode == 0, repriced.stdout + repriced.stderr
        assert json.loads(repriced.stdout)["done"], "calls without the columns of this version are looked at"
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    assert int(_counts(home)["calls"]) == int(expected["calls"]) + 1
    ended = _tailrace(home, "sql", "--format", "json", "SELECT count(*) AS n FROM calls WHERE status IS NULL")
    assert json.loads(ended.stdout) == {"n": 0}, "the views are those of this version"
    added = "SELECT count(units) AS units, (SELECT count(*) > 0 FROM cost_checks) AS checked FROM calls"
    assert json.loads(_tailrace(home, "sql", "--format", "json", added).stdout) == {"units": 0, "checked": True}
