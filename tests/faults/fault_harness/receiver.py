"""A webhook receiver that writes down what it accepted, refuses now and then, and can strike before it answers."""

import base64
import hashlib
import random
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError


class Receiver:
    """A real HTTP server on loopback; ``accepted`` holds what a user would have acted upon, repetitions included."""

    def __init__(self, *, refuse: float = 0.0, seed: int = 0) -> None:
        """Start to listen.

        Args:
            refuse: share of the requests that get HTTP 500 and are not accepted.
            seed: of the draw.
        """
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.accepted: list[tuple[str, str]] = []
        """(webhook-id, SHA-256 of the body), in the order of arrival."""
        self.refused = self.forged = 0
        self.strike: Callable[[], object] | None = None
        """Called once: the next request is accepted, then this is done, and only then it is answered."""
        self._refuse, self._draw, self._lock = refuse, random.Random(f"receiver-{seed}"), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        """What a stage must be told to send here."""
        return {
            "TAILRACE_ALERT_CHANNELS": msgspec.json.encode([f"http://{self.host}/alerts"]).decode(),
            "TAILRACE_WEBHOOK_SECRET": self.secret,
            "TAILRACE_WEBHOOK_ALLOW_HOSTS": self.host,
        }

    @property
    def bodies(self) -> dict[str, set[str]]:
        """webhook-id -> the different bodies that came under it."""
        found: dict[str, set[str]] = {}
        for name, body in list(self.accepted):
            found.setdefault(name, set()).add(body)
        return found

    @property
    def redelivered(self) -> int:
        """How often something came that had been accepted before: at least once is promised, not once."""
        return len(self.accepted) - len(self.bodies)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Return the HTTP status for one request."""
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return 400
        with self._lock:
            if self._draw.random() < self._refuse:
                self.refused += 1
                return 500
            self.accepted.append((headers["webhook-id"], hashlib.sha256(body).hexdigest()))
            strike, self.strike = self.strike, None
        if strike is not None:
            strike()
        return 200

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that dies is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status = self.server.receiver.take({k.lower(): v for k, v in self.headers.items()}, body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""
