"""``/metrics``, ``/healthz``, ``/livez`` and ``/v1/releases`` of ``tailrace up``: on loopback, or behind a token.

A page in a browser may resolve its own name to this machine (DNS rebinding), so on loopback the Host
header must be a loopback name; anywhere else nothing is served without a token. What changes something needs the token
on loopback, too, and a type of content that no form of a page can send.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import FatalError, SettingsError
from tailrace.records.release_api import MOST_BYTES
from tailrace.settings.model import WebSettings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_PORT, NEXT_PORTS = 9464, 20
"""The port of OpenTelemetry's Prometheus exporter; where it is taken, as by another `up`, the next free one."""
RELEASES = "/v1/releases"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


_LOOPBACK_ONLY = b"this server answers to loopback names only\n"
_PAGES = {
    "/metrics": "numbers of the stages, calls, cost, tokens and alerts, in the text format of Prometheus",
    "/healthz": "200 where every stage is well, else 503; what each of them does",
    "/livez": "200 while the supervisor works, also where Kafka or the lake is away; else 503",
}
_POSTED = f"POST {RELEASES}  marks a release of an app; it needs TAILRACE_WEB__TOKEN"
_TEXT = ("Tailrace\n" + "".join(f"{path}  {doc}\n" for path, doc in _PAGES.items()) + f"{_POSTED}\n").encode()
_HTML = (
    "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Tailrace</title><h1>Tailrace</h1><ul>"
    + "".join(f'<li><a href="{path}">{path}</a>: {doc}' for path, doc in _PAGES.items())
    + f"<li>{_POSTED}</ul></html>\n"
).encode()


class AddressTakenError(FatalError):
    """Metrics cannot be served at the address in the settings."""

    def __init__(self, host: str, ports: range, cause: str) -> None:
        port = f"{ports[0]}" if len(ports) == 1 else f"{ports[0]} to {ports[-1]}"
        super().__init__(
            f"cannot serve metrics on {host}:{port}: {cause}; choose another TAILRACE_WEB__PORT, or `up --no-web`"
        )


def check(web: WebSettings) -> bool:
    """Return whether ``web.host`` is loopback.

    Raises:
        SettingsError: it is not, and there is no token; or the host is none.
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(web.host, web.port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise SettingsError("web.host", f"{web.host[:80]!r} has no address", "use 127.0.0.1") from None
    loopback = all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
    if not loopback and not (web.token and web.token.get_secret_value()):
        raise SettingsError(
            "web.host", f"{web.host} is not loopback and there is no token", "set TAILRACE_WEB__TOKEN, or use 127.0.0.1"
        )
    return loopback


class Endpoint:
    """Answers GET, HEAD and POST.

    ``health`` returns (well?, what each part does), ``metrics`` the page, ``live`` whether a restart would not help,
    ``release`` the status and answer to a body that was posted.
    """

    def __init__(
        self,
        web: WebSettings,
        *,
        health: Callable[[], tuple[bool, dict[str, Any]]],
        metrics: Callable[[], bytes],
        live: Callable[[], bool] = lambda: True,
        release: Callable[[bytes], tuple[int, dict[str, Any]]] | None = None,
    ) -> None:
        self.loopback = check(web)
        self.token = web.token.get_secret_value() if web.token else ""
        self._host = web.host.strip("[]").lower()
        self._health, self._metrics, self._live, self._release = health, metrics, live, release

    def answer(self, path: str, host: str, authorization: str, accept: str = "") -> tuple[int, str, bytes]:
        """Return status, content type and body; ``accept`` is the request's header Accept."""
        if not self._answers_to(host):
            return 421, CONTENT_TYPE, _LOOPBACK_ONLY
        known = self._knows(authorization)
        where = urlsplit(path).path
        if where == "/healthz":
            well, parts = self._health()
            health = {"healthy": well, **(parts if known else {})}
            return (200 if well else 503), "application/json", json.dumps(health).encode()
        if where == "/livez":
            live = self._live()
            return (200 if live else 503), "application/json", json.dumps({"live": live}).encode()
        if not known:
            return 401, CONTENT_TYPE, b"a bearer token is needed\n"
        if where == RELEASES:
            return 405, CONTENT_TYPE, f"{_POSTED}\n".encode()
        if where == "/metrics":
            return 200, CONTENT_TYPE, self._metrics()
        found = 200 if where == "/" else 404
        return (found, "text/html; charset=utf-8", _HTML) if "text/html" in accept else (found, CONTENT_TYPE, _TEXT)

    def may_post(self, path: str, host: str, authorization: str, content_type: str) -> tuple[int, str]:
        """Return 0 where a body may be read, else the status that refuses it, and why."""
        if not self._answers_to(host):
            return 421, _LOOPBACK_ONLY.decode().strip()
        if urlsplit(path).path != RELEASES or self._release is None:
            return 404, f"only {RELEASES} takes a POST"
        if not self.token:
            return 403, "set TAILRACE_WEB__TOKEN: without a token nothing is changed from outside"
        if not self._knows(authorization):
            return 401, "a bearer token is needed"
        if content_type.partition(";")[0].strip().lower() != "application/json":
            return 415, "send Content-Type: application/json"
        return 0, ""

    def post(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and answer to a body that ``may_post``."""
        assert self._release is not None
        return self._release(body)

    def _answers_to(self, host: str) -> bool:
        return not self.loopback or _name(host) in (*_LOOPBACK_NAMES, self._host)

    def _knows(self, authorization: str) -> bool:
        if not self.token:
            return True
        given = authorization.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self.token.encode())


@contextmanager
def serving(endpoint: Endpoint, web: WebSettings) -> Iterator[str]:
    """Serve for as long as the block lasts; yields the URL.

    Raises:
        AddressTakenError: the address cannot be listened on.
    """
    server = _listening(endpoint, web)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    try:
        host = f"[{web.host}]" if ":" in web.host and not web.host.startswith("[") else web.host
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _listening(endpoint: Endpoint, web: WebSettings) -> _Server:
    ports = range(DEFAULT_PORT, DEFAULT_PORT + NEXT_PORTS + 1) if web.port is None else range(web.port, web.port + 1)
    for port in ports:
        try:
            return _Server(web.host.strip("[]"), port, endpoint)
        except OSError as error:
            cause = error
            if error.errno != errno.EADDRINUSE:
                break
    raise AddressTakenError(web.host, ports, cause.strerror or str(cause)) from cause


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, endpoint: Endpoint) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.endpoint = endpoint
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks DNS for the name of the address, which may take seconds
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    server_version = "tailrace"
    sys_version = ""

    def do_GET(self) -> None:
        endpoint: Endpoint = self.server.endpoint  # type: ignore[attr-defined]
        host, authorization, accept = (self.headers.get(name, "") for name in ("Host", "Authorization", "Accept"))
        self._send(*endpoint.answer(self.path, host, authorization, accept))

    def do_POST(self) -> None:
        endpoint: Endpoint = self.server.endpoint  # type: ignore[attr-defined]
        host, authorization, kind = (self.headers.get(name, "") for name in ("Host", "Authorization", "Content-Type"))
        status, problem = endpoint.may_post(self.path, host, authorization, kind)
        length = self.headers.get("Content-Length", "")
        if not status and not length.isdecimal():
            status, problem = 411, "send Content-Length"
        elif not status and int(length) > MOST_BYTES:
            status, problem = 413, f"a manifest is at most {MOST_BYTES:,} bytes"
        if status:
            answer: dict[str, Any] = {"error": problem}
            self.close_connection = True  # its body is not read
        else:
            status, answer = endpoint.post(self.rfile.read(int(length)))
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: their lines are strangers' texts."""


def _name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host.strip()}").hostname or "").rstrip(".")
    except ValueError:
        return ""
