"""The README's own commands as a new user copies them: a wheel in a fresh environment, an empty HOME, 80 columns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tailrace.broker.jars import default_cache

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
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a fresh checkout after `make setup`; the first set-up itself fetches 3.7 GB."""
    folder = tmp_path / "checkout"
    (folder / "bin").mkdir(parents=True)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent, target_is_directory=True)
    build = f"{sys.executable} -m build --quiet --wheel --no-isolation --outdir '{folder}/dist' emitter"
    make = folder / "bin" / "make"
    make.write_text(f'#!/bin/sh\n[ "$1" = setup ] || {{ cd "{REPO}" && {build}; }}\n')
    make.chmod(0o755)
    return folder


@pytest.fixture
def user(checkout: Path, provider: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a new user: an empty HOME, 80 columns, nothing of ours."""
    pins = tmp_path / "pins.txt"
    lock = re.findall(r"^([a-z0-9._-]+==[^ \\;]+)", (REPO / "requirements.lock").read_text(), flags=re.MULTILINE)
    pins.write_text("\n".join(line for line in lock if not line.startswith("numpy")))  # it is there twice
    home = tmp_path / "empty"
    home.mkdir()
    return {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "COLUMNS": "80",
        "LANG": "C.UTF-8",
        **{name: value for name, value in os.environ.items() if _OF_THE_NETWORK.match(name)},
        "TAILRACE_CACHE": str(default_cache()),  # what `make setup` has fetched
        "PIP_CONSTRAINT": str(pins),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OPENAI_API_KEY": "sk-stub",
        "OPENAI_BASE_URL": provider,
        "TAILRACE_EXIT_S": "60",  # six stages run beside it
    }


_OF_THE_NETWORK = re.compile(r"(?i)PIP_|SSL_CERT|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy")


def _section(page: Path, heading: str) -> str:
    text = page.read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _examples(file: Path) -> None:
    """The five events of docs/reference/events.md, and one of a user whose id is a mail address."""
    page = (REPO / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    now = {"ts": time.time_ns() // 1_000_000}  # the page's own day is past, and its clock would be distrusted
    events = [json.loads(block) | now for block in _blocks(page, "json")]
    mine = {**events[0], "id": "0199f3a4-0000-7000-8000-000000000006", "user": MAIL, "app": "mail"}
    file.write_text("".join(json.dumps(event) + "\n" for event in [*events, mine]))


@pytest.mark.required
@pytest.mark.timeout(900)
def test_the_readme_from_top_to_bottom_as_a_new_user_copies_it(checkout: Path, user: dict[str, str]) -> None:
    section = _section(REPO / "README.md", "Record your first call")
    start, prepare, look = _blocks(section, "sh")
    first, by_hand = _blocks(section, "python")
    targets = re.findall(r"^make (\w+)", start, flags=re.MULTILINE)
    assert set(targets) <= set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    (checkout / "app.py").write_text(first)
    (checkout / "by_hand.py").write_text(by_hand)
    _examples(checkout / "examples.jsonl")
    script = "\n".join(
        [
            "set -e; trap 'kill %1 2>/dev/null; wait' EXIT",
            f"{start}{prepare}{look}",
            "app-env/bin/python by_hand.py",
            "echo ==next; .venv/bin/tailrace emit examples.jsonl --wait --timeout 120",
            f"echo ==next; .venv/bin/tailrace user id {MAIL}",
            f"echo ==next; {_SQL}",
            "echo ==next; .venv/bin/tailrace verify >&2",
            "trap - EXIT; kill %1; wait %1; echo stopped $?; .venv/bin/tailrace status --json || true",
        ]
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=user, capture_output=True, text=True, timeout=840, check=False
    )
    log = (checkout / "tailrace.log").read_text() if (checkout / "tailrace.log").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log[-2000:]
    readme, emitted, pseudonym, rows, end = done.stdout.split("==next\n")
    assert all(len(line) <= 80 for line in readme.splitlines() if "─" in line or "│" in line), readme
    assert "FAILED" not in readme
    assert "no unknown field" in readme
    landed = [json.loads(line) for line in emitted.splitlines()]
    assert [(row["table"], row["flags"]) for row in landed] == [("raw_calls", None)] * 5 + [
        ("raw_calls", ["pseudonymised"])
    ]
    calls = [json.loads(row) for row in rows.splitlines()]
    assert {"app": "app", "input_tokens": 11, "cost_usd": 0.00000345, "user_id": None} in calls
    assert {"app": "mail", "input_tokens": 420, "cost_usd": 0.00202, "user_id": pseudonym.strip()} in calls
    assert pseudonym.startswith("u_")
    assert [row["input_tokens"] for row in calls if row["app"] == "by_hand"] == [8]
    stopped, _, status = end.partition("\n")
    assert stopped == "stopped 0"
    assert {stage["state"] for stage in json.loads(status)["stages"].values()} == {"stopped"}
    assert "set -a; . " in log
    assert ".tailrace/user.key" in log


_SQL = ".venv/bin/tailrace sql --format json 'SELECT app, input_tokens, cost_usd, user_id FROM calls ORDER BY app'"
MAIL = "bob@example.org"
