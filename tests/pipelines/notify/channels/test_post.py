"""One POST: to the checked address, in bounded time and size, with no redirect, no proxy and no leak."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.notify.channels.post import MAX_ANSWER, Poster, Reply
from pipelines.notify.guard import Guard, RefusedTargetError, UnreachableError

Start = Callable[..., Any]


def post(url: str, *, guard: Guard, deadline_s: float = 5.0, ca_file: str | None = None) -> Reply:
    poster = Poster(guard, deadline_s=deadline_s, ca_file=ca_file)
    return poster.post(guard.target(url), b'{"a":1}', {"content-type": "application/json"})


def test_the_body_arrives_and_the_answer_comes_back(receiver: Any) -> None:
    reply = post(receiver.url("/hook?x=1"), guard=Guard.allowing([receiver.host]))
    assert (reply.status, reply.body) == (200, b"ok")
    (got,) = receiver.got
    assert (got.path, got.body, got.headers["host"]) == ("/hook?x=1", b'{"a":1}', receiver.host)


def test_a_name_is_resolved_once_and_the_checked_address_is_called(receiver: Any) -> None:
    asked = []

    def rebinding(host: str, port: int, timeout_s: float) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("10.255.255.1",)

    guard = Guard(frozenset({"hook.example"}), rebinding)
    assert post(f"http://hook.example:{receiver.port}/x", guard=guard).status == 200
    assert asked == ["hook.example"]
    assert receiver.got[0].headers["host"] == f"hook.example:{receiver.port}"


def test_a_name_that_turns_to_an_inner_address_is_not_called(receiver: Any) -> None:
    answers = iter([("8.8.8.8",), ("127.0.0.1",)])
    guard = Guard(resolver=lambda *_: next(answers))
    target = guard.target("https://rebind.example:8443/")
    guard.addresses(target, 1.0)
    with pytest.raises(RefusedTargetError):
        Poster(guard).post(target, b"", {})
    assert receiver.got == []


def test_the_next_address_is_tried_where_the_first_does_not_connect(receiver: Any) -> None:
    guard = Guard(frozenset({"two.example"}), lambda *_: ("127.0.0.2", "127.0.0.1"))
    assert post(f"http://two.example:{receiver.port}/", guard=guard).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.row(31)
def test_a_redirect_is_not_followed(start_receiver: Start, status: int) -> None:
    elsewhere = start_receiver()
    receiver = start_receiver().always(status, headers=(("location", elsewhere.url("/stolen")),))
    guard = Guard.allowing([receiver.host, elsewhere.host])
    assert post(receiver.url(), guard=guard).status == status
    assert elsewhere.got == []
    assert len(receiver.got) == 1


@pytest.mark.row(29)
def test_an_answer_is_read_to_64_kib_and_no_further(receiver: Any) -> None:
    receiver.always(200, body=b"x" * (8 << 20))
    reply = post(receiver.url(), guard=Guard.allowing([receiver.host]))
    assert len(reply.body) == MAX_ANSWER


def test_a_compressed_answer_is_not_unpacked(receiver: Any) -> None:
    import gzip

    bomb = gzip.compress(b"0" * (32 << 20))
    receiver.always(200, headers=(("content-encoding", "gzip"),), body=bomb)
    reply = post(receiver.url(), guard=Guard.allowing([receiver.host]))
    assert reply.body == bomb[:MAX_ANSWER]


@pytest.mark.parametrize("how", [{"hold_s": 30.0}, {"drip_s": 0.2, "body": b"x" * 1000}])
@pytest.mark.row(29)
def test_a_slow_answer_ends_at_the_deadline_of_the_whole(receiver: Any, how: dict[str, Any]) -> None:
    receiver.always(200, **how)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no whole answer"):
        post(receiver.url(), guard=Guard.allowing([receiver.host]), deadline_s=0.6)
    assert time.monotonic() - began < 10.0
    assert len(receiver.got) == 1


@pytest.mark.row(27, 29)
def test_a_receiver_that_never_speaks_ends_at_the_deadline(black_hole: int) -> None:
    with pytest.raises(UnreachableError, match="no whole answer"):
        post(f"http://127.0.0.1:{black_hole}/", guard=Guard.allowing(["127.0.0.1"]), deadline_s=0.5)


def test_a_resolver_that_never_answers_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def stuck(*args: object, **kwargs: object) -> list[object]:
        answer.wait(10)
        return []

    monkeypatch.setattr("socket.getaddrinfo", stuck)
    with pytest.raises(UnreachableError, match="not resolved in time"):
        post("https://slow.example/", guard=Guard(), deadline_s=0.3)
    answer.set()


def test_nobody_listening_is_told_without_the_address() -> None:
    with pytest.raises(UnreachableError, match="cannot connect") as caught:
        post("http://127.0.0.1:1/canary", guard=Guard.allowing(["127.0.0.1"]))
    assert "127.0.0.1" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_tls_with_a_certificate_of_our_own_authority_works(start_receiver: Start, certificates: Any) -> None:
    made = certificates("hook.example", "127.0.0.1")
    receiver = start_receiver(tls=made.context)
    guard = Guard(frozenset({"hook.example", "127.0.0.1"}), lambda *_: ("127.0.0.1",))
    for host in ("hook.example", "127.0.0.1"):
        reply = post(f"https://{host}:{receiver.port}/", guard=guard, ca_file=str(made.ca_file))
        assert reply.status == 200


@pytest.mark.row(32)
def test_an_untrusted_certificate_is_refused_and_no_body_sent(start_receiver: Start, certificates: Any) -> None:
    receiver = start_receiver(tls=certificates("127.0.0.1").context)
    with pytest.raises(UnreachableError, match="the certificate was refused"):
        post(receiver.url(), guard=Guard.allowing([receiver.host]))
    assert receiver.got == []


@pytest.mark.row(32)
def test_a_certificate_for_another_name_is_refused_and_no_body_sent(start_receiver: Start, certificates: Any) -> None:
    made = certificates("other.example")
    receiver = start_receiver(tls=made.context)
    guard = Guard(frozenset({"hook.example"}), lambda *_: ("127.0.0.1",))
    with pytest.raises(UnreachableError, match="the certificate was refused"):
        post(f"https://hook.example:{receiver.port}/", guard=guard, ca_file=str(made.ca_file))
    assert receiver.got == []


def test_plain_http_where_tls_is_expected_is_told_as_such(receiver: Any) -> None:
    with pytest.raises(UnreachableError, match="TLS failed"):
        post(f"https://{receiver.host}/", guard=Guard.allowing([receiver.host]))


def test_proxies_of_the_environment_are_ignored(start_receiver: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, proxy = start_receiver(), start_receiver()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url(""))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert post(receiver.url(), guard=Guard.allowing([receiver.host])).status == 200
    assert proxy.got == []


def test_no_library_logs_the_url(receiver: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    post(receiver.url("/services/canary"), guard=Guard.allowing([receiver.host]))
    assert len(receiver.got) == 1
    assert "canary" not in caplog.text
