"""Who may read health and metrics, and from where."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from schemas.errors import SettingsError
from tailrace.monitor.endpoint import NEXT_PORTS, AddressTakenError, Endpoint, check, serving
from tailrace.settings.model import WebSettings

TOKEN = "a-token-of-this-test"


def endpoint(*, well=True, **web):
    return Endpoint(
        WebSettings(**web), health=lambda: (well, {"stages": {"land": "running"}}), metrics=lambda: b"m 1\n"
    )


def ask(url, path="/metrics", *, method="GET", host=None, **headers):
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": host or where.netloc, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, reply.read(), reply.headers
    finally:
        connection.close()


@pytest.fixture(scope="module")
def on_loopback():
    with serving(endpoint(), WebSettings()) as url:
        yield url


def test_loopback_is_served_without_a_token(on_loopback):
    assert on_loopback.startswith("http://127.0.0.1:")
    status, body, headers = ask(on_loopback)
    assert (status, body) == (200, b"m 1\n")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert ask(on_loopback, "/healthz")[:2] == (200, b'{"healthy": true, "stages": {"land": "running"}}')
    assert ask(on_loopback, "/nothing")[0] == 404
    assert ask(on_loopback, method="HEAD")[:2] == (200, b"")
    assert ask(on_loopback, method="POST")[0] == 404
    assert ask(on_loopback, method="PUT")[0] == 501


def test_it_listens_on_loopback_only(on_loopback):
    port = urlsplit(on_loopback).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells which address the machine has
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    with pytest.raises(OSError), socket.create_connection((own, port), timeout=3):
        pass


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "169.254.169.254", "", "[", "localhost.evil"]
)
def test_a_name_that_was_rebound_to_us_gets_nothing(on_loopback, host):
    for path in ("/metrics", "/healthz", "/"):
        status, body, _ = ask(on_loopback, path, host=host or " ")
        assert status == 421
        assert b"m 1" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "[::1]:1", "127.0.0.1"])
def test_loopback_names_are_answered_whatever_the_port(on_loopback, host):
    assert ask(on_loopback, host=host)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.1"])
def test_any_other_address_needs_a_token_or_nothing_starts(host):
    for token in (None, ""):
        with pytest.raises(SettingsError, match="TOKEN"):
            check(WebSettings(host=host, token=token))
    assert check(WebSettings(host=host, token=TOKEN)) is False


def test_with_a_token_every_route_asks_for_it():
    web = WebSettings(host="0.0.0.0", token=TOKEN)
    with serving(endpoint(host="0.0.0.0", token=TOKEN), web) as url:
        url = url.replace("0.0.0.0", "127.0.0.1")
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(url, **right)[:2] == (200, b"m 1\n")
        for wrong in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
        ):
            for path in ("/metrics", "/", "/metrics?token=" + TOKEN):
                status, body, headers = ask(url, path, **wrong)
                assert status == 401
                assert headers["WWW-Authenticate"] == "Bearer"
                assert b"m 1" not in body
            # a load balancer may ask whether, not what
            assert ask(url, "/healthz", **wrong)[1] == b'{"healthy": true}'
        assert b"land" in ask(url, "/healthz", **right)[1]


def test_unwell_is_503():
    with serving(endpoint(well=False), WebSettings()) as url:
        assert ask(url, "/healthz")[0] == 503


def test_a_taken_port_is_named():
    with serving(endpoint(), WebSettings()) as url:
        taken = WebSettings(port=urlsplit(url).port)
        with pytest.raises(AddressTakenError, match="--no-web"), serving(endpoint(), taken):
            pass


def test_the_default_port_is_fixed_and_the_next_free_one_is_used_where_it_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        first = probe.getsockname()[1]
        monkeypatch.setattr("tailrace.monitor.endpoint.DEFAULT_PORT", first)
        with serving(endpoint(), WebSettings()) as url:
            assert first < urlsplit(url).port <= first + NEXT_PORTS


def test_where_all_of_those_ports_are_taken_they_are_named(monkeypatch):
    monkeypatch.setattr("tailrace.monitor.endpoint.NEXT_PORTS", 0)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        monkeypatch.setattr("tailrace.monitor.endpoint.DEFAULT_PORT", probe.getsockname()[1])
        with pytest.raises(AddressTakenError, match=str(probe.getsockname()[1])), serving(endpoint(), WebSettings()):
            pass


def test_the_front_page_lists_what_there_is_for_people_and_for_browsers(on_loopback):
    status, body, headers = ask(on_loopback, "/")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"/metrics" in body
    assert b"/healthz" in body
    status, body, headers = ask(on_loopback, "/", Accept="text/html,application/xhtml+xml")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'<a href="/metrics">' in body
    assert b'<a href="/metrics">' in ask(on_loopback, "/nothing", Accept="text/html")[1]
