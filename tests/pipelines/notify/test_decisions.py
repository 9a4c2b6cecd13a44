"""Silences and acknowledgements: what they keep back, and what not. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pipelines.notify.decisions import Decisions, matches
from pipelines.notify.outcome import Outcome, RetryPolicy
from pipelines.notify.state import Book, ChannelRules
from schemas.alerts import ACK, SILENCE, UNSILENCE, Alert, LogRecord, Silence

S = 1_000_000
T0 = 1_760_000_000 * S
OK = Outcome("delivered", "HTTP 200")
Make = Callable[..., Alert]


def silence(start: int = T0, end: int = T0 + 3600 * S, id: str = "s-1", **matchers: str) -> Silence:
    return silence_of(matchers, start, end, id)


def silence_of(matchers: dict[str, str], start: int = T0, end: int = T0 + 3600 * S, id: str = "s-1") -> Silence:
    return Silence(id=id, matchers=matchers, start=start, end=end, by="kim", why="load test")


def record(action: str, target: str, at: int = T0, **facts: Any) -> bytes:
    row = {"actor": "kim", "action": action, "object": target, **facts}
    return msgspec.json.encode(LogRecord(table="audit", at=at, row=row))


def decided(*silences: Silence, acked: str = "") -> Decisions:
    found = Decisions()
    for each in silences:
        assert found.apply(record(SILENCE, each.id, silence=each))
    if acked:
        assert found.apply(record(ACK, acked))
    return found


@pytest.mark.parametrize(
    ("matchers", "hit"),
    [
        ({"app": "shop"}, True),
        ({"app": "shop", "tenant": "acme"}, True),
        ({"rule": "cost", "severity": "critical", "detector": "spike"}, True),
        ({"app": "sho"}, False),
        ({"app": "shop", "rule": "tokens"}, False),
        ({"user": "u-1"}, False),
        ({}, False),
        ({"title": "Cost of shop is 4 times what it is at this hour"}, False),
    ],
)
def test_a_silence_matches_where_all_it_names_is_so(make_alert: Make, matchers: dict[str, str], hit: bool) -> None:
    assert matches(silence_of(matchers), make_alert()) is hit


def test_it_holds_from_its_start_to_its_end_and_not_after_it_was_lifted(make_alert: Make) -> None:
    found = decided(silence(start=T0, end=T0 + 10 * S, app="shop"))
    alert = make_alert()
    assert [bool(found.reason(alert, T0 + at * S)) for at in (-1, 0, 9, 10)] == [False, True, True, False]
    assert found.reason(alert, T0) == "silence s-1 of kim: load test"
    assert found.in_force(T0) == 1
    found.apply(record(UNSILENCE, "s-1", at=T0 + 5 * S))
    assert [bool(found.reason(alert, T0 + at * S)) for at in (4, 5)] == [True, False]
    assert found.in_force(T0 + 6 * S) == 0


def test_read_again_from_the_start_it_comes_to_the_same(make_alert: Make) -> None:
    log = [record(SILENCE, "s-1", silence=silence(app="shop")), record(UNSILENCE, "s-1", at=T0 + 5 * S)]
    found = Decisions()
    for value in log * 2:
        assert found.apply(value)
    assert found.reason(make_alert(), T0 + 6 * S) == ""


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{not json",
        b'{"table":"job_runs","at":1,"row":{"action":"alert.silence"}}',
        b'{"table":"audit","at":1,"row":{"action":"alert.silence"}}',
        b'{"table":"audit","at":1,"row":{"action":"alert.silence","silence":{"id":1}}}',
        b'{"table":"audit","at":1,"row":{"action":"alert.silence","silence":[]}}',
        b'{"table":"audit","at":1,"row":{"action":"alert.other","object":"x"}}',
        b'"alert.' + b"[" * 5000,
    ],
)
def test_what_is_no_decision_is_passed_over(value: bytes) -> None:
    assert Decisions().apply(value) is False


def test_memory_is_bounded_and_the_newest_count() -> None:
    found = Decisions()
    for n in range(10_005):
        found.apply(record(SILENCE, f"s-{n}", silence=silence(id=f"s-{n}", app=f"a{n}")))
    assert found.in_force(T0) == 10_000


def rig(found: Decisions) -> Book:
    return Book({"hook": ChannelRules(lambda _: "")}, RetryPolicy(), decisions=found)


def send(book: Book, *alerts: Alert, now: int = T0) -> list[str]:
    """Admit and deliver; the states that went out."""
    for alert in alerts:
        book.admit(alert, alert.to_json(), now, now)
    sent: list[str] = []
    while jobs := book.due(now)[0]:
        for item in jobs:
            sent.append(item.alert.state)
            book.record_outcome(item, OK, now)
    return sent


def test_a_silenced_alert_is_not_sent_nor_its_end_after_the_silence(make_alert: Make) -> None:
    found = decided(silence(app="shop"))
    book = rig(found)
    (kept,) = book.admit(make_alert(), b"", T0, T0)
    assert (kept.state, kept.detail) == ("silenced", "silence s-1 of kim: load test")
    after = T0 + 3601 * S
    assert send(book, make_alert(seq=1, state="resolved"), now=after) == []
    other = make_alert(rule="tokens")
    assert send(book, other, now=after) == ["firing"]


def test_one_that_is_still_open_after_the_silence_is_told_by_its_next_update_and_then_its_end(make_alert: Make) -> None:
    book = rig(decided(silence(app="shop")))
    assert send(book, make_alert()) == []
    after = T0 + 3601 * S
    assert send(book, make_alert(seq=1, state="update"), now=after) == ["update"]
    assert send(book, make_alert(seq=2, state="resolved"), now=after) == ["resolved"]


def test_a_silence_reaches_what_waits_for_its_next_attempt(make_alert: Make) -> None:
    found = Decisions()
    book = rig(found)
    alert = make_alert()
    book.admit(alert, alert.to_json(), T0, T0)
    (item,) = book.due(T0)[0]
    book.record_outcome(item, Outcome("retry", "HTTP 503"), T0)
    found.apply(record(SILENCE, "s-1", silence=silence(app="shop")))
    jobs, written = book.due(T0 + 5 * S)
    assert jobs == []
    assert [(d.state, d.detail) for d in written] == [("silenced", "silence s-1 of kim: load test")]


def test_an_acknowledged_alert_gets_no_update_but_its_end_and_a_new_beginning(make_alert: Make) -> None:
    alert = make_alert()
    book = rig(decided(acked=alert.id))
    states = ["firing", "update", "update", "resolved", "firing", "resolved"]
    sent = [s for n, state in enumerate(states) for s in send(book, make_alert(seq=n, state=state))]
    assert sent == ["firing", "resolved", "firing", "resolved"]
    assert send(book, make_alert(rule="tokens"), make_alert(rule="tokens", seq=1, state="update")) == [
        "firing",
        "update",
    ]
