"""A stage that is behind, end to end: how far in event time, when it will be done, and exit code 1."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from main_job.life import Life

DAYS, EVERY_S, APPS = 14, 240, 3
"""Each app calls in every window of five minutes, so none of its time is skipped."""


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_stage_that_is_two_weeks_behind_is_told_with_its_end_and_status_exits_with_1(
    life: Life, tmp_path: Path
) -> None:
    life.ready()
    history = tmp_path / "history.jsonl"
    history.write_text("".join(f"{json.dumps(call)}\n" for call in two_weeks()))
    with slowed(life, "detect"):
        sent = life.tailrace("emit", str(history), "--history")
        assert sent.returncode == 0, sent.stderr
        found = behind(life, within_s=240)
        text = life.tailrace("status")
    detect = found["stages"]["detect"]
    assert (found["healthy"], found["ready"]) == (True, False)
    assert (detect["state"], detect["current"]) == ("running", False)
    assert 300 < detect["behind_s"] <= DAYS * 86_400 + 600
    assert detect["done_in_s"] > 0
    assert {name for name, stage in found["stages"].items() if stage["error"]} == set()
    assert text.returncode == 1
    assert text.stdout.startswith("not ready")
    assert "behind by " in text.stdout
    assert "done in about " in text.stdout


@contextmanager
def slowed(life: Life, name: str) -> Iterator[None]:
    """Let the stage ``name`` run for a twentieth of the time, as on a machine that is too small for it."""
    finished = threading.Event()

    def pulse() -> None:
        pid: int | None = None
        while not finished.is_set():
            pid = (life.home.read_run(name) or {}).get("pid")
            assert pid is not None
            with suppress(ProcessLookupError):
                for what, for_s in ((signal.SIGSTOP, 0.95), (signal.SIGCONT, 0.05)):
                    os.kill(pid, what)
                    finished.wait(for_s)
        assert pid is not None
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=pulse)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def behind(life: Life, *, within_s: float) -> dict[str, Any]:
    """``status --json`` as soon as detect is behind and its pace is known."""
    deadline = time.monotonic() + within_s
    while True:
        run = life.tailrace("status", "--json")
        found: dict[str, Any] = json.loads(run.stdout)
        assert run.returncode == (0 if found["ready"] else 1)
        detect = found["stages"]["detect"]
        if found["healthy"] and not detect["current"] and detect["done_in_s"]:
            return found
        assert time.monotonic() < deadline, f"{run.stdout}\n{life.tails()}"


def two_weeks() -> list[dict[str, Any]]:
    """Calls of the last two weeks, oldest first."""
    last = datetime.now(UTC)
    return [
        {
            "v": 1,
            "type": "call",
            "id": str(uuid.UUID(int=at * APPS + app)),
            "ts": (last - timedelta(seconds=at)).isoformat(),
            "app": f"app-{app}",
            "model": "gpt-4o-mini",
            "provider": "openai",
            "user": f"u-{at % 7}",
            "tokens": {"input": 400, "output": 80},
        }
        for at in range(DAYS * 86_400, 0, -EVERY_S)
        for app in range(APPS)
    ]
