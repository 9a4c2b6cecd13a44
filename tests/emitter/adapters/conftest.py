"""A provider that answers with what providers once answered, and an emitter whose events stay in the process."""

import contextlib
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tailrace_emitter import Emitter
from tailrace_emitter.encode import Policy, encode

sys.path.insert(0, str(Path(__file__).parent))  # contract_harness


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
    """Answers every request with ``answers``, one after the other; keeps what was asked. It is also a proxy."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.refuse_stream_options = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet: no delayed acknowledgement between its head and its body

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        self.server.asked.append(body)
        self.server.paths.append(self.path)
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
def proxied(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """The provider behind every ``http://`` address: an SDK asks its real host, and the answer comes from here."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, provider.url.removesuffix("/v1"))
    for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return provider


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
    return [r for r in rows if r["method"].upper() == "POST" and isinstance(r["request_body"], dict)]


class Api(ThreadingHTTPServer):
    """A provider with several endpoints: ``routes[(method, path)]`` is an answer, or a list of which the last stays.

    An answer is JSON (a dict), a text, bytes of audio, or (a list) server-sent events; with a number before it, a
    status. ``asked`` holds method, path and body of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ApiHandler)
        self.routes: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _ApiHandler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET", b"")

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._answer("POST", body)

    def _answer(self, method: str, body: bytes) -> None:
        path = self.path.split("?")[0]
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        self.server.asked.append((method, self.path, body))
        found = self.server.routes[method, path]
        if isinstance(found, Sequence):
            found = found.pop(0) if len(found) > 1 else found[0]
        status, answer = found if isinstance(found, tuple) else (200, found)
        if isinstance(answer, list):
            data = "".join(f"event: {e.get('type', 'chunk')}\ndata: {json.dumps(e)}\n\n" for e in answer).encode()
            kind, data = "text/event-stream", data + b"data: [DONE]\n\n"
        elif isinstance(answer, dict):
            kind, data = "application/json", json.dumps(answer).encode()
        else:
            kind = "text/plain" if isinstance(answer, str) else "audio/mpeg"
            data = answer.encode() if isinstance(answer, str) else answer
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr for failures."""


class Sequence(list[Any]):
    """Answers one after the other."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def sequence() -> type[Sequence]:
    return Sequence
