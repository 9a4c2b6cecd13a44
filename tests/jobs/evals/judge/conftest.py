"""A local server that speaks OpenAI's chat completions and replays recorded judgements."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from jobs.evals.judge.endpoint import ChatEndpoint

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass
class JudgeServer:
    """Replies with what ``reply`` makes of a request body: a text, or (status, error message)."""

    reply: Callable[[dict], str | tuple[int, str]] = lambda body: '{"reason": "fine", "score": 4}'
    usage: dict | None = field(default_factory=lambda: dict(USAGE))
    asked: list[dict] = field(default_factory=list)
    url: str = ""

    def endpoint(self, price=lambda model, usage: Decimal("0.01"), **settings) -> ChatEndpoint:
        client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=10)
        return ChatEndpoint(client, "judge-1", price, **settings)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    state = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            found = state.reply(body)
            status, content = (200, found) if isinstance(found, str) else found
            if status == 200:
                message = {"role": "assistant", "content": content}
                whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"]}
                whole["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
                whole |= {"usage": state.usage} if state.usage else {}
            else:
                whole = {"error": {"message": content, "type": "invalid_request_error"}}
            payload = json.dumps(whole).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()
