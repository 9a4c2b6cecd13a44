"""A local HTTP server that speaks OpenAI's chat completions; what it answers is a function of the request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], "str | int | float"]
"""Request -> the answer, a status code to fail with, or seconds to wait before an answer."""


class Server(ThreadingHTTPServer):
    """One that is silent about a client that timed out and has hung up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class ChatServer:
    """Counts what it was asked, and answers by ``reply``."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                outer.keys.append(self.headers.get("Authorization"))
                answer = outer.reply(request)
                if isinstance(answer, float):
                    time.sleep(answer)
                    answer = "late"
                if isinstance(answer, int):
                    self.send(answer, {"error": {"message": "no"}})
                elif request.get("stream"):
                    self.stream(request, answer)
                else:
                    self.send(200, whole(request, answer))

            def send(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def stream(self, request: dict[str, Any], answer: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
                for i, word in enumerate(answer.split(" ")):
                    delta = {"content": word if i == 0 else f" {word}"}
                    self.event({**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
                self.event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.event({**common, "choices": [], "usage": usage(request, answer)})
                self.wfile.write(b"data: [DONE]\n\n")

            def event(self, body: dict[str, Any]) -> None:
                self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def serving(reply: Reply) -> Iterator[ChatServer]:
    chat = ChatServer(reply)
    thread = threading.Thread(target=chat.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        chat.server.shutdown()
        chat.server.server_close()
        thread.join()


def usage(request: dict[str, Any], answer: str) -> dict[str, int]:
    asked = sum(len(m["content"].split()) for m in request["messages"])
    written = len(answer.split())
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def whole(request: dict[str, Any], answer: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(request, answer),
    }
