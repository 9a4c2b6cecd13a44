"""The weekly loop over the demo's own hour: scores and report, a golden set, a gate on two canned candidates.

Every step is the command that a person would run, as a separate process beside the stages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.clock import now_us
from schemas.errors import RetryableError
from tailrace.demo.traffic import SECOND, Incident
from tailrace.settings.model import Settings

SCORERS = ("answered", "complete", "original", "privacy")
SIZE = 300
"""Calls that are drawn and scored."""
CASES = 60
"""Of the golden set."""
LANDED_AFTER_S = 5
_LIMIT_S = 170.0
_ANSWER = "Yes. Your order left our shop this morning and arrives on Thursday. Is there anything else?"
_REFUSAL = "I'm sorry, but I can't help with that."
CANDIDATES = {"same-prompt": _ANSWER, "stricter-prompt": _REFUSAL}
"""Name of a candidate -> what it answers to everything; the baseline answers like the first."""
_EXITS = {0: "pass", 1: "regress", 2: "undecided"}


class StepFailedError(RetryableError):
    """A command of the weekly loop ended with an error."""

    def __init__(self, words: Sequence[str], code: int, output: str) -> None:
        last = (output.strip().splitlines() or ["no output"])[-1]
        super().__init__(f"the demo stopped: the command {' '.join(words[:2])!r} ended with {code}: {last[:300]}")


@dataclass
class Outcome:
    """What the weekly loop made."""

    report: Path | None = None
    case: dict[str, Any] = field(default_factory=dict)
    """One golden case: its reason, app and call."""
    cases: int = 0
    verdicts: dict[str, str] = field(default_factory=dict)
    """Candidate -> verdict of the gate."""

    def problems(self) -> list[str]:
        """Return what is not as it should be."""
        wanted = dict(zip(CANDIDATES, ("pass", "regress"), strict=True))
        found = [] if self.report else ["the weekly loop made no report"]
        found += [] if self.case else ["no golden case was made of a planted failure"]
        return found + [f"the gate said {v} of {k}" for k, v in self.verdicts.items() if v != wanted[k]]


class Loop:
    """The weekly loop beside the live traffic: scores and a report, then a golden set and the gate.

    Its commands run at low priority, so that the stages keep the pace of the traffic.
    """

    def __init__(self, settings: Settings, planted: Incident | None) -> None:
        """Start the loop in a thread.

        Args:
            settings: of the demo.
            planted: the incident whose failed calls become golden cases; None: no golden set and no gate.
        """
        self._home = settings.home
        self._planted = planted
        self._failed: list[Exception] = []
        self._outcome = Outcome()
        self._thread = threading.Thread(target=self._work, name="weekly", daemon=True)
        self._thread.start()

    def result(self) -> Outcome:
        """Wait for the last step.

        Raises:
            StepFailedError: a command failed.
        """
        self._thread.join()
        if self._failed:
            raise self._failed[0]
        return self._outcome

    def _work(self) -> None:
        try:
            self._outcome.report = score(self._home)
            if self._planted:
                # half of the incident's calls are enough for the golden set; land needs a moment for the last
                wait = (self._planted.start + self._planted.end) // 2 + LANDED_AFTER_S * SECOND - now_us()
                time.sleep(max(0, wait) / SECOND)
                gate(self._home, self._outcome, planted=self._planted.app)
        except (StepFailedError, OSError) as error:
            self._failed.append(error)


def score(home: Path) -> Path:
    """Score a sample of the history; return the report's page."""
    page = home / "quality.html"
    today = datetime.fromtimestamp(now_us() / 1e6, UTC).date()
    days = ("--from", str(today - timedelta(days=1)), "--to", str(today))
    names = [word for name in SCORERS for word in ("--scorer", name)]
    tailrace(home, "eval", "run", *days, "--size", str(SIZE), *names)
    tailrace(home, "eval", "report", *days, "--format", "html", "--out", str(page))
    return page


def gate(home: Path, outcome: Outcome, *, planted: str) -> None:
    """Make the golden set out of what failed, and judge both candidates on it.

    Args:
        home: of the demo.
        outcome: filled.
        planted: app in which guardrails were made to trigger; a case of it is shown.
    """
    tailrace(home, "golden", "refresh", "--size", str(CASES))
    cases = [json.loads(line) for line in tailrace(home, "golden", "show", "--json").splitlines()]
    outcome.cases = len(cases)
    found = [case for case in cases if case["app"] == planted and "guardrail" in json.dumps(case.get("reasons"))]
    outcome.case = found[0] if found else {}
    version = f"production@{cases[0]['version']}" if cases else "production"
    folder = home / "gate"
    folder.mkdir(exist_ok=True)
    limits = folder / "gate.yaml"
    # both candidates are served by this process: their latency is that of the machine's other work
    limits.write_text("latency_p95: {limit: 25%rel, mode: inform}\n")
    with _answering() as url:
        base = _target(folder, "today", url, next(iter(CANDIDATES)))
        for name in CANDIDATES:
            target = _target(folder, name, url, name)
            sides = ("--candidate", str(target), "--baseline", str(base), "--golden", version)
            how = ["--gate", str(limits), "--samples", "1", "--scorer", "answered", "--no-cache"]
            how.append("--unreviewed")  # the cases of a demo are not reviewed
            done = _run(home, words := ("gate", *sides, *how, "--out", str(folder / f"{name}-report")))
            if done.returncode not in _EXITS:
                raise StepFailedError(words, done.returncode, done.stderr)
            outcome.verdicts[name] = _EXITS[done.returncode]


def tailrace(home: Path, *words: str) -> str:
    """Run a command of this product on ``home``; return what it printed.

    Raises:
        StepFailedError: it failed.
    """
    done = _run(home, words)
    if done.returncode:
        raise StepFailedError(words, done.returncode, done.stderr)
    return done.stdout


def _run(home: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = ["nice", "-n", "5", sys.executable, "-m", "tailrace", "--home", str(home), *words]
    environment = {**os.environ, "TAILRACE_HOME": str(home), "DEMO_KEY": "none", "NO_COLOR": "1"}
    environment["TAILRACE_GOLDEN__TRAFFIC"] = "0"  # to embed the demo's calls takes longer than its golden set is worth
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StepFailedError(words, 124, f"no end after {_LIMIT_S:.0f} s") from error


def _target(folder: Path, name: str, url: str, model: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nmodel: {model}\nbase_url: {url}\napi_key_env: DEMO_KEY\n")
    return path


@contextmanager
def _answering() -> Iterator[str]:
    """Serve OpenAI's chat completions on loopback: the model's name decides the answer. Yield the base address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
            message = {"role": "assistant", "content": CANDIDATES.get(model, _ANSWER)}
            body = {"id": "demo", "object": "chat.completion", "created": 0, "model": model}
            body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
            body["usage"] = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
            payload = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: the screen shows the demo."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), name="candidates", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
