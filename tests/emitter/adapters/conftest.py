"""A provider that answers with what providers once answered, and an emitter whose events stay in the process."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tailrace_emitter import Emitter
from tailrace_emitter.encode import Policy, encode


class Recorder(Emitter):
    """An emitter that encodes at once and keeps the events: everything real but Kafka."""

    def __init__(self, **policy: Any) -> None:
        super().__init__("test", sigterm=False)
        self.events: list[dict[str, Any]] = []
        self.policy = Policy(app="test", **{"content": "full", **policy})

    def _put(self, kind: str, fields: dict[str, Any], lazy: Any = None) -> str:
        from tailrace_emitter.context import merged
        from tailrace_emitter.ids import new_id

        fields = merged(fields)
        self._event(kind, lazy(fields) if lazy else fields, new_id())
        return self.events[-1]["id"]

    def _event(self, kind: str, fields: dict[str, Any], event_id: str) -> None:
        self.events.append(json.loads(encode(kind, event_id, 1_763_640_366_000_000_000, fields, self.policy).value))


class Provider(ThreadingHTTPServer):
    """Answers every POST with ``answer``; keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.refuse_stream_options = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        self.server.asked.append(body)
        if self.server.refuse_stream_options and "stream_options" in body:
            return self._send(400, {"error": {"message": "unknown field stream_options"}}, "json")
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        return self._send(answer["status"], answer["response_body"], answer["response_kind"])

    def _send(self, status: int, body: Any, kind: str) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if kind == "sse" else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr for failures."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    emitter = Recorder()
    yield emitter
    emitter.close(0)


@pytest.fixture(scope="session")
def exchanges(test_data: Path) -> list[dict[str, Any]]:
    """The recorded exchanges with OpenAI and what speaks its language."""
    with gzip.open(test_data / "payloads" / "provider_exchanges.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [r for r in rows if r["method"] == "POST" and isinstance(r["request_body"], dict)]
