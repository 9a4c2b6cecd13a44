"""docs/reference/clients.md: made from the source, its counts are those of the recordings, its examples run."""

from __future__ import annotations

import gzip
import json
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import tailrace_emitter as tailrace
from scripts import clients_page
from tailrace_emitter.adapters import ADAPTERS
from tailrace_emitter.encode import Policy, encode

ROOT = Path(__file__).parents[2]
OPENAI_SHAPES = ("/chat/completions", "/completions", "/responses", "/embeddings")
CHAT = {
    **{"id": "c1", "object": "chat.completion", "created": 1, "model": "m"},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11},
}
MESSAGE = {
    **{"id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"},
    "content": [{"type": "text", "text": "Hello."}],
    "usage": {"input_tokens": 8, "output_tokens": 3},
}
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 3, "totalTokenCount": 11},
}


def test_the_page_is_up_to_date() -> None:
    kept = (ROOT / "docs" / "reference" / "clients.md").read_text(encoding="utf-8")
    assert kept == clients_page.page(), "run `make docs` and commit docs/reference/clients.md"
    assert set(clients_page.CLIENTS) == {adapter.name for adapter in ADAPTERS}


def test_the_numbers_of_cases_are_those_of_the_recordings(test_data: Path) -> None:
    with gzip.open(test_data / "payloads" / "provider_exchanges.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    asked = [r for r in rows if r["method"].upper() == "POST" and isinstance(r["request_body"], dict)]
    speaking = Counter(r["provider"] for r in asked if r["endpoint"].split("?")[0].endswith(OPENAI_SHAPES))
    found = Counter(r["provider"] for r in asked if r["endpoint"] == "/v1/messages")
    for row in asked:
        numbers = '"finishReason": 1' in json.dumps(row["response_body"]) or '"finishReason": 2' in json.dumps(row)
        embeds = "batchEmbed" in row["endpoint"] and row["status"] == 200
        if row["provider"] in ("gemini", "vertex") and ("enerateContent" in row["endpoint"] or embeds) and not numbers:
            found[row["provider"]] += 1
    for client in clients_page.CLIENTS.values():
        assert client.cases == {name: found[name] or speaking[name] for name in client.cases}
    for vendor in clients_page.VENDORS:
        assert vendor.cases == (speaking[vendor.recorded] if vendor.recorded else 0)


class _Answers(BaseHTTPRequestHandler):
    """A proxy that answers every chat, message and generation itself."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = MESSAGE if "/messages" in self.path else GENERATED if "generateContent" in self.path else CHAT
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr for failures."""


class _Recorder(tailrace.Emitter):
    """The default emitter of the examples, whose events stay here."""

    def __init__(self) -> None:
        super().__init__("docs", sigterm=False)
        self.events: list[dict[str, Any]] = []

    def _put(self, kind: str, fields: dict[str, Any], lazy: Any = None) -> str:
        fields = lazy(fields) if lazy else fields
        found = encode(kind, "0199f3a4-0000-7000-8000-000000000001", 1_763_640_366 * 10**9, fields, Policy(app="docs"))
        self.events.append(json.loads(found.value))
        return ""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The events of an example, whose requests are answered by a proxy in this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://api.openai.com/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://api.anthropic.com")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://generativelanguage.googleapis.com")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    recorder = _Recorder()
    monkeypatch.setattr(tailrace, "_default", recorder)
    yield recorder.events
    server.shutdown()
    server.server_close()
    thread.join(5)
    recorder.close(0)


def run(source: str) -> None:
    """Run an example; its https becomes http, so that the proxy can answer."""
    code = compile(source.replace("https://", "http://"), "docs/reference/clients.md", "exec")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a client that an example leaves open
        exec(code, {"__name__": "example"})


EXPECTED = {"openai": "openai", "anthropic": "anthropic", "google_genai": "gcp.gemini"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_lines_to_start_a_client_record_one_call(name: str, events: list[dict[str, Any]]) -> None:
    start = clients_page.CLIENTS[name].start
    assert len([line for line in start.splitlines() if line]) <= 5
    run(start)
    (event,) = events
    assert event["tokens"] == {"input": 8, "output": 3}
    assert (event["provider"], event["content"]["output"]) == (EXPECTED[name], "Hello.")


@pytest.mark.filterwarnings("ignore")
def test_the_lines_to_start_litellm_record_one_call(events: list[dict[str, Any]]) -> None:
    import time

    start = clients_page.CLIENTS["litellm"].start
    import litellm

    lists = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
    kept = {name: list(getattr(litellm, name)) for name in lists}
    try:
        run(start)
        until = time.monotonic() + 20
        while not events and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        for name, former in kept.items():
            setattr(litellm, name, former)
    (event,) = events
    assert event["tokens"] == {"input": 8, "output": 3}
    assert event["provider"] == "openai"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vendor", clients_page.VENDORS, ids=lambda v: v.title)
def test_the_lines_to_start_a_server_record_one_call(vendor: Any, events: list[dict[str, Any]]) -> None:
    run(clients_page.vendor_start(vendor))
    (event,) = events
    assert event["tokens"] == {"input": 8, "output": 3}
    assert event.get("provider", "") == vendor.provider
    assert event["model"] == vendor.model
    assert event["host"] in vendor.base_url
