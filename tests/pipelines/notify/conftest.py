"""A receiver that writes down what it gets and answers as told; alerts to send; certificates nobody trusts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.alerts import Alert, Evidence, Window, alert_id, fingerprint


@dataclass(frozen=True)
class Got:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass(frozen=True)
class Answer:
    """What the receiver says to the next request."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"ok"
    hold_s: float = 0.0
    """Wait this long after reading the request, before the answer."""
    drip_s: float = 0.0
    """Send the body a byte at a time with this pause."""


@dataclass
class Receiver:
    """A real HTTP(S) server on loopback. ``answers`` are given in order; then ``default`` for ever."""

    default: Answer = field(default_factory=Answer)
    answers: list[Answer] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    by_path: dict[str, Answer] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.receiver = self
        if self.tls:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/hook") -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}{path}"

    def then(self, status: int = 200, **how: Any) -> Receiver:
        """Say this next, once, behind what was queued before."""
        self.answers.append(Answer(status, **how))
        return self

    def always(self, status: int = 200, **how: Any) -> Receiver:
        """Say this whenever nothing is queued."""
        self.default = Answer(status, **how)
        return self

    def on(self, path: str, status: int = 200, **how: Any) -> Receiver:
        """Say this to requests for ``path``, whatever is queued."""
        self.by_path[path] = Answer(status, **how)
        return self

    def take(self, got: Got) -> Answer:
        with self._lock:
            self.got.append(got)
            if got.path in self.by_path:
                return self.by_path[got.path]
            return self.answers.pop(0) if self.answers else self.default

    def wait_for(self, count: int, within_s: float = 10.0) -> list[Got]:
        until = time.monotonic() + within_s
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.got) >= count, f"{len(self.got)} of {count} requests came"
        return list(self.got)

    def pause(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what half of these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {k.lower(): v for k, v in self.headers.items()}
        answer = self.server.receiver.take(Got(self.path, headers, body, time.time()))
        self.server.receiver.pause(answer.hold_s)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.send_header("connection", "close")
        self.end_headers()
        if answer.drip_s:
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                self.server.receiver.pause(answer.drip_s)
        else:
            self.wfile.write(answer.body)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A plain HTTP receiver on loopback."""
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def start_receiver() -> Iterator[Callable[..., Receiver]]:
    """Starts receivers; ends them all."""
    started: list[Receiver] = []

    def start(**kwargs: object) -> Receiver:
        started.append(Receiver(**kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def make_alert() -> Callable[..., Alert]:
    """Alerts with any field overridden."""

    def make(**overrides: object) -> Alert:
        series = overrides.pop("series", {"app": "shop", "tenant": "acme"})
        rule = overrides.pop("rule", "cost")
        start = overrides.pop("start", 1_760_000_000_000_000)
        fields: dict[str, object] = {
            "id": alert_id(rule, series, start),  # type: ignore[arg-type]
            "seq": 0,
            "fingerprint": fingerprint(rule, series),  # type: ignore[arg-type]
            "detector": "spike",
            "rule": rule,
            "severity": "critical",
            "state": "firing",
            "series": series,
            "window": Window("2026-07-01T10:00:00Z", "2026-07-01T10:01:00Z"),
            "observed": 12.4,
            "expected": 3.1,
            "score": 9.0,
            "unit": "usd",
            "evidence": Evidence("SELECT sum(cost_usd) FROM lake.raw_calls WHERE app = 'shop'", ("c-1", "c-2")),
            "runbook": ("Look for a loop", "Rate-limit the user"),
            "detected_at": "2026-07-01T10:01:02Z",
            "title": "Cost of shop is 4 times what it is at this hour",
        }
        return Alert(**{**fields, **overrides})  # type: ignore[arg-type]

    return make


@dataclass(frozen=True)
class Certificates:
    """A CA of our own, and a server certificate for the names asked for."""

    ca_file: Path
    context: ssl.SSLContext


@pytest.fixture
def certificates(tmp_path: Path) -> Callable[..., Certificates]:
    """Makes a CA and a certificate for ``names`` (host names or addresses)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def make(*names: str) -> Certificates:
        now = dt.datetime.now(dt.UTC)
        span = (now - dt.timedelta(hours=1), now + dt.timedelta(hours=1))
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA for one test")])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])

        def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            made = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
            made = made.serial_number(x509.random_serial_number())
            return made.not_valid_before(span[0]).not_valid_after(span[1])

        ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
        alternatives = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        leaf = builder(name, key.public_key()).add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        ca_file, chain = tmp_path / "ca.pem", tmp_path / "server.pem"
        ca_file.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return Certificates(ca_file, context)

    return make


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port on loopback that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]
