"""A webhook receiver on loopback, as a user would write one: checks the signature, keeps the alert."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.alerts import Alert

MAX_BODY = 1024 * 1024


class Receiver:
    """What arrived, in the order of arrival; a webhook-id seen before is counted, not kept."""

    def __init__(self, on_alert: Callable[[Alert], None] = lambda _: None) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.alerts: list[Alert] = []
        self.repeats = 0
        self.refused = 0
        self.url = ""
        self._on_alert = on_alert
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Return the HTTP status for one request."""
        try:
            Webhook(self.secret).verify(body, headers)
            alert = Alert.from_json(body)
        except (WebhookVerificationError, msgspec.DecodeError):
            self.refused += 1
            return 400
        with self._lock:
            if headers["webhook-id"] in self._ids:
                self.repeats += 1
                return 200
            self._ids.add(headers["webhook-id"])
            self.alerts.append(alert)
        self._on_alert(alert)
        return 200


@contextmanager
def listening(receiver: Receiver) -> Iterator[Receiver]:
    """Serve ``receiver`` on a free port of loopback for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = min(int(self.headers.get("content-length") or 0), MAX_BODY)
            status = receiver.take({k.lower(): v for k, v in self.headers.items()}, self.rfile.read(size))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the output of the demo is for people."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
