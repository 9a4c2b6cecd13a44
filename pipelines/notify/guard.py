"""Which addresses an alert may be sent to: the guard against server-side request forgery.

A webhook's URL is the classic way to make a server call its own cloud's metadata or an inner service
(MLflow CVE-2026-64849, Langfuse #8522). So a URL is checked as text once, at the start, and its addresses are
checked at every attempt; the request then goes to the very address that was checked, never to a second answer of DNS.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import httpx

from schemas.errors import RetryableError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int, float], tuple[str, ...]]
"""(host, port, time-out in seconds) -> addresses as text; raises UnreachableError."""

PORTS = frozenset({443, 8443})
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\<>\"`{}^|]|[^\x00-\x7f]")
_NUMERIC = re.compile(r"^(0[xX][0-9a-fA-F]*|[0-9]+)$")
_WRAPS_IPV4 = tuple(
    map(
        ipaddress.IPv6Network,
        # compatible, mapped, translated, NAT64 twice, 6to4, Teredo: each carries an IPv4 address past a naive check
        ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
    )
)
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # "this host"
            "169.254.0.0/16",  # link-local: the metadata services of the clouds
            "100.100.100.200/32",  # metadata of Alibaba's cloud
            "168.63.129.16/32",  # Azure's wire server, a public address that answers only inside
            "192.0.0.0/24",  # metadata of Oracle's cloud; Python 3.11 calls most of it global
            "192.88.99.0/24",  # 6to4 relay
            "fe80::/10",
            "fec0::/10",
            "fd00:ec2::/32",  # metadata of AWS
            "fd20:ce::254/128",  # metadata of Google's cloud
            "2001::/23",
            "3fff::/20",
            "5f00::/16",
        ),
    )
)


class RefusedTargetError(RetryableError):
    """The guard refuses an address. At the start this is fatal; later (DNS) it may be temporary."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"refused: {reason}; if the host is yours, name it in TAILRACE_WEBHOOK_ALLOW_HOSTS")


class UnreachableError(RetryableError):
    """No whole answer: not resolved, not connected, certificate refused, cut, or too slow. Never holds a URL."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"no answer: {reason}; the next attempt follows by itself")


@dataclass(frozen=True)
class Target:
    """A URL that passed as text."""

    url: httpx.URL = field(repr=False)
    host: str = field(repr=False)
    port: int
    allowed: bool
    """Named in the allow list: may be private or loopback, plain http, any port."""


def resolve(host: str, port: int, timeout_s: float) -> tuple[str, ...]:
    """Resolve the addresses of ``host``; in a separate thread, since getaddrinfo has no timeout.

    Raises:
        UnreachableError: no answer, or none in time.
    """
    answer: SimpleQueue[list[str] | None] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError):
            answer.put(None)

    threading.Thread(target=ask, name="notify-resolve", daemon=True).start()
    try:
        addresses = answer.get(timeout=timeout_s)
    except Empty:
        raise UnreachableError("the host name was not resolved in time") from None
    if not addresses:
        raise UnreachableError("the host name does not resolve")
    return tuple(dict.fromkeys(addresses))


@dataclass(frozen=True)
class Guard:
    """The rules of one process: https to public addresses on ports 443 and 8443, and what ``allow_hosts`` names.

    An entry is ``host`` (any port) or ``host:port``; IPv6 literals as ``[::1]:8080``. Link-local addresses and the
    others where clouds keep their metadata, multicast and wrapped IPv4 stay refused even then.
    """

    allow_hosts: frozenset[str] = frozenset()
    resolver: Resolver = resolve

    @classmethod
    def allowing(cls, hosts: Iterable[str]) -> Guard:
        """Build from the setting's entries."""
        return cls(frozenset(_entry(h) for h in hosts if h.strip()))

    def target(self, url: str) -> Target:
        """Check ``url`` as text; no look-up.

        Raises:
            RefusedTargetError: scheme, userinfo, port, form of the host, or a literal address that is not public.
        """
        parsed = _parsed(url)
        target = self._target(parsed, 443 if parsed.scheme == "https" else 80)
        if parsed.scheme != "https" and not target.allowed:
            raise RefusedTargetError("plain http")
        if target.port not in PORTS and not target.allowed:
            raise RefusedTargetError(f"port {target.port} is neither 443 nor 8443")
        return _not_hidden(target)

    def place(self, host: str, port: int) -> Target:
        """Check a host whose connection others open, by a protocol and on a port of theirs, as text; no look-up.

        Raises:
            RefusedTargetError: form of the host, or a literal address that is not public.
        """
        name = host.strip("[]").lower()
        parsed = _parsed(f"https://{_bracketed(name)}:{port}/")
        if parsed.raw_host.decode("ascii") != name:
            raise RefusedTargetError("not the name of a host")
        return _not_hidden(self._target(parsed, port))

    def _target(self, parsed: httpx.URL, usual_port: int) -> Target:
        host = parsed.raw_host.decode("ascii").lower().rstrip(".")
        port = usual_port if parsed.port is None else parsed.port
        if not host:
            raise RefusedTargetError("the URL names no host")
        if port == 0:  # no connection can be made to it, and what reads it as "none given" would take another
            raise RefusedTargetError("port 0")
        return Target(parsed, host, port, bool({host, f"{_bracketed(host)}:{port}"} & self.allow_hosts))

    def addresses(self, target: Target, timeout_s: float) -> tuple[Address, ...]:
        """Return the addresses to connect to, in the resolver's order; one bad address spoils the lot.

        Raises:
            RefusedTargetError: one of them is not public.
            UnreachableError: there is none.
        """
        literal = _literal(target.host)
        found = (literal,) if literal else self._resolved(target, timeout_s)
        for address in found:
            if reason := refusal(address, allowed=target.allowed):
                raise RefusedTargetError(reason)
        return found

    def _resolved(self, target: Target, timeout_s: float) -> tuple[Address, ...]:
        texts = self.resolver(target.host, target.port, timeout_s)
        try:
            return tuple(ipaddress.ip_address(text) for text in texts)
        except ValueError:  # a zone, such as fe80::1%eth0
            raise RefusedTargetError("a link-local address") from None


def refusal(address: Address, *, allowed: bool = False) -> str:
    """Return why ``address`` must not be called; "" where it may. ``allowed`` lets private and loopback pass."""
    if address.version == 6 and int(address) > 1 and any(address in net for net in _WRAPS_IPV4):
        return "an IPv6 address that wraps an IPv4 one"
    if address.is_multicast or address.is_unspecified or any(address in net for net in _NEVER):
        return "a link-local, metadata, multicast or unspecified address"
    if not allowed and (not address.is_global or address.is_reserved):
        return "an address that is loopback, private or reserved"
    return ""


def _parsed(url: str) -> httpx.URL:
    """Parse once, strictly: what two parsers may read in two ways is refused."""
    if len(url) > 2048 or _UNSAFE.search(url):
        raise RefusedTargetError("the URL is too long or holds characters that must be percent-encoded")
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # decodes punycode: xn--a is a UnicodeError
    except (httpx.InvalidURL, ValueError):
        raise RefusedTargetError("not a URL") from None
    if parsed.scheme not in ("https", "http"):
        raise RefusedTargetError("neither https nor http")
    if parsed.userinfo or b"@" in parsed.netloc or "@" in url.split("//", 1)[-1].split("/", 1)[0]:
        raise RefusedTargetError("user name or password in the URL")
    if "%" in host:
        raise RefusedTargetError("a percent sign in the host")
    return parsed


def _not_hidden(target: Target) -> Target:
    literal = _literal(target.host)
    if literal is None and _NUMERIC.match(target.host.rsplit(".", 1)[-1]):
        raise RefusedTargetError("a number in place of a host name")
    if literal is not None and (reason := refusal(literal, allowed=target.allowed)):
        raise RefusedTargetError(reason)
    return target


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _entry(text: str) -> str:
    """Write an entry of the allow list as `target` compares it."""
    entry = text.strip().lower()
    literal = _literal(entry.strip("[]"))
    return str(literal) if literal else entry
