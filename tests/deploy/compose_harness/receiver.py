"""A web server of this machine that keeps what is posted to it, as a receiver of alerts does."""

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

HOST = "127.0.0.2"
"""127.0.0.1 is the service's own address in a `Stack`."""
SECRET = f"whsec_{base64.b64encode(b'a secret of thirty-two bytes ...').decode()}"


@dataclass
class Received:
    """Where it listens, and what came: headers and body."""

    port: int = 0
    posts: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        received.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def verified(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return ``body`` where it is signed under `SECRET` by Standard Webhooks; else an error."""
    Webhook(SECRET).verify(body, dict(headers))
    return body
