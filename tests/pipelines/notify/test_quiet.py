"""Quiet hours: what is not critical waits for the morning, and what is over by then is one message. No clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pipelines.notify.outcome import RetryPolicy
from pipelines.notify.quiet import parse
from pipelines.notify.spec import parse_channels
from pipelines.notify.state import ENDED_IN_QUIET, Book, ChannelRules
from schemas.alerts import Alert
from schemas.errors import SettingsError

Make = Callable[..., Alert]


def at(hour: int, minute: int = 0, *, day: int = 1, month: int = 7) -> int:
    return int(datetime(2026, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-07:00", [at(22), at(23, 59), at(0), at(6, 59)], [at(7), at(12), at(21, 59)]),
        ("12:00-13:30", [at(12), at(13, 29)], [at(11, 59), at(13, 30), at(0)]),
        ("22:00-07:00 Europe/Berlin", [at(20), at(4, 59)], [at(19, 59), at(5)]),  # summer: two hours ahead
        ("22:00-07:00 Europe/Berlin", [at(21, month=12)], [at(20, 59, month=12), at(6, month=12)]),
    ],
)
def test_they_are_by_the_clock_of_a_place_and_over_midnight(text: str, inside: list[int], outside: list[int]) -> None:
    hours = parse("x", text)
    assert [hours.at(now) for now in inside] == [True] * len(inside)
    assert [hours.at(now) for now in outside] == [False] * len(outside)


@pytest.mark.parametrize("text", ["22-7", "22:00-25:00", "22:00-07:00 Nowhere/City", "22:00-07:00 ../x", "07:00-07:00"])
def test_what_is_no_time_of_the_day_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"setting alert_channels\[0\]: quiet "):
        parse_channels([{"url": "slack://x", "quiet": text}])


def book(*, coalesces: bool = True) -> Book:
    quiet = parse_channels([{"url": "slack://x", "quiet": "22:00-07:00"}])[0].quiet
    assert quiet is not None
    rules = ChannelRules(lambda _: "", 4, coalesces, quiet.at)
    return Book({"slack": rules}, RetryPolicy(1.0, 120.0, 86_400.0))


def admit(found: Book, alert: Alert, now: int) -> None:
    found.admit(alert, alert.to_json(), now, now)


def due(found: Book, now: int) -> list[tuple[int, str]]:
    return [(item.alert.seq, item.alert.state) for item in found.due(now)[0]]


def test_a_warning_waits_for_the_morning_and_a_critical_alert_does_not(make_alert: Make) -> None:
    found = book()
    admit(found, make_alert(severity="warning"), at(23))
    admit(found, make_alert(severity="critical", rule="tokens"), at(23))
    assert [item.alert.rule for item in found.due(at(23))[0]] == ["tokens"]
    assert due(found, at(6, 59, day=2)) == []
    assert due(found, at(7, day=2)) == [(0, "firing")]


def test_a_warning_that_becomes_critical_in_the_night_is_sent_in_order(make_alert: Make) -> None:
    found = book(coalesces=False)
    admit(found, make_alert(severity="warning"), at(23))
    assert due(found, at(23)) == []
    admit(found, make_alert(severity="critical", seq=1, state="update"), at(23, 30))
    assert due(found, at(23, 30)) == [(0, "firing")]


def test_what_began_and_ended_in_the_night_is_one_message(make_alert: Make) -> None:
    found = book()
    for seq, state in enumerate(("firing", "update", "resolved")):
        admit(found, make_alert(severity="warning", seq=seq, state=state), at(23, seq))
    jobs, written = found.due(at(7, day=2))
    assert [(item.alert.seq, item.alert.state) for item in jobs] == [(2, "resolved")]
    assert [(d.seq, d.state) for d in written] == [(0, "silenced"), (1, "silenced")]
    assert written[0].detail == ENDED_IN_QUIET


def test_a_program_gets_every_state_in_the_morning(make_alert: Make) -> None:
    found = book(coalesces=False)
    admit(found, make_alert(severity="warning"), at(23))
    admit(found, make_alert(severity="warning", seq=1, state="resolved"), at(23, 1))
    assert due(found, at(7, day=2)) == [(0, "firing")]


def test_by_day_nothing_waits_and_both_states_are_sent(make_alert: Make) -> None:
    found = book()
    admit(found, make_alert(severity="warning"), at(12))
    admit(found, make_alert(severity="warning", seq=1, state="resolved"), at(12, 1))
    assert due(found, at(12, 2)) == [(0, "firing")]
