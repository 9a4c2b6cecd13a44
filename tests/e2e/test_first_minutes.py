"""The first ten minutes as a new user has them: a wheel in a fresh environment, five lines, the call in ``tail``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

REPO = Path(__file__).parents[2]
ANSWER = {
    "id": "chatcmpl-first",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello you"},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
}


@pytest.fixture
def provider() -> Iterator[str]:
    """A stub of the provider's HTTP API on loopback; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.fixture
def app_python(tmp_path: Path) -> Path:
    """The Python of a fresh environment with the emitter's wheel and the OpenAI SDK, and nothing of ours beside it."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--quiet",
            "--wheel",
            "--no-isolation",
            "--outdir",
            tmp_path / "dist",
            "emitter",
        ],
        cwd=REPO,
        check=True,
    )
    pins = tmp_path / "pins.txt"
    lock = (REPO / "requirements.lock").read_text()
    pins.write_text("\n".join(re.findall(r"^([a-z0-9._-]+==[^ \\;]+)", lock, flags=re.MULTILINE)))
    environment = tmp_path / "app-env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    wheel = next((tmp_path / "dist").glob("*.whl"))
    numpy_twice = "\n".join(line for line in pins.read_text().splitlines() if not line.startswith("numpy"))
    pins.write_text(numpy_twice)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", pins, wheel, "openai"],
        check=True,
    )
    return python


def _tailrace(home: Path, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tailrace", "--home", str(home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@contextlib.contextmanager
def _tail(home: Path) -> Iterator[IO[str]]:
    """What ``tail`` prints, of what landed since a while ago on: whichever of the two is faster, the call is in it."""
    command = [sys.executable, "-m", "tailrace", "--home", str(home), "tail", "--json", "--since", "600"]
    with subprocess.Popen([*command, "--seconds", "240"], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        try:
            yield tail.stdout
        finally:
            tail.kill()


def _five_lines() -> str:
    """The README's own lines: what it shows is what is tried."""
    readme = (REPO / "README.md").read_text()
    return next(
        block for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL) if "tailrace_emitter" in block
    )


@pytest.mark.required
@pytest.mark.timeout(600)
def test_a_new_user_sees_the_first_call_land(tmp_path: Path, app_python: Path, provider: str) -> None:
    home = tmp_path / "home"
    up = subprocess.Popen(
        [sys.executable, "-m", "tailrace", "--home", str(home), "up", "--no-web"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        ready = _tailrace(home, "status", "--json", "--wait", "180", timeout=240)
        assert ready.returncode == 0, ready.stdout + ready.stderr
        assert up.stdout is not None
        assert up.stdout.readline().strip() == f"export $(cat {home / 'env'})"
        exported = dict(line.split("=", 1) for line in (home / "env").read_text().splitlines())
        script = tmp_path / "elsewhere" / "app.py"
        script.parent.mkdir()
        script.write_text(_five_lines())
        environment = {"PATH": os.environ["PATH"], **exported, "OPENAI_API_KEY": "sk-stub", "OPENAI_BASE_URL": provider}
        environment["TAILRACE_EXIT_S"] = "60"  # six stages are starting beside it
        ran = subprocess.run(
            [app_python, script], cwd=script.parent, env=environment, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        with _tail(home) as shown:
            row = json.loads(shown.readline())
        assert (row["table"], row["model"], row["input_tokens"], row["output_tokens"]) == (
            "raw_calls",
            "gpt-4o-mini",
            11,
            3,
        )
        assert row["cost_usd"] == "0.000003450"  # 11 x 0.15 + 3 x 0.60 USD a million tokens
        examined = _tailrace(home, "doctor", "--json")
        hops = [json.loads(line) for line in examined.stdout.splitlines()]
        assert examined.returncode == 0, examined.stdout + examined.stderr
        assert [hop["name"] for hop in hops] == ["stages", "published", "landed", "priced", "queryable"]
        assert _tailrace(home, "verify").returncode == 0
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(90)
        if up.stdout:
            up.stdout.close()
    assert code == 0
    stopped = json.loads(_tailrace(home, "status", "--json").stdout)
    assert stopped["ready"] is False
    assert {stage["state"] for stage in stopped["stages"].values()} == {"stopped"}
