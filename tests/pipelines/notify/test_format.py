"""Words for people: numbers as they are read, and text that cannot hide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.notify import format as words
from pipelines.notify.plain import plain
from schemas.alerts import Alert, Window


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.4, "usd", "$12.40"),
        (0.00012345, "usd", "$0.0001234"),
        (12345.6, "usd", "$12,345.60"),
        (0.1234, "share", "12.3 %"),
        (1234567.0, "tokens", "1,234,567 tokens"),
        (3.14159, "ms", "3.142 ms"),
        (2.0, "", "2"),
    ],
)
def test_amounts_are_written_as_they_are_read(value: float, unit: str, text: str) -> None:
    assert words.amount(value, unit) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a\r\nb", "a b"),
        ("a\u202eb\u200bc\x1b[31m", "a b c [31m"),
        ("x" * 400, "x" * 299 + "…"),
        ("\ud800", ""),
        ("\u2028", ""),
    ],
)
def test_what_cannot_be_seen_is_taken_out(raw: str, text: str) -> None:
    assert words.clean(raw) == text


def test_cutting_never_leaves_half_an_entity() -> None:
    escaped = words.slack_escape("a & <b>" * 100)
    for limit in range(2, 200):
        cut = words.slack_cut(escaped, limit)
        assert len(cut) <= limit
        assert cut[:-1] == "" or escaped.startswith(cut[:-1])
        assert "&" not in cut[:-1].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")


def test_an_expectation_of_zero_gives_no_factor(make_alert: Callable[..., Alert]) -> None:
    assert words.comparison(make_alert(expected=0.0)) == "observed $12.40, expected $0"


AT = 1_782_900_160_000_000  # 2026-07-01T10:02:40Z


def test_the_plain_form_holds_all_an_engineer_needs(make_alert: Callable[..., Alert]) -> None:
    alert = make_alert()
    title, body = plain(alert, AT)
    assert title == (
        "🔴 FIRING · critical · shop · Cost of shop is 4 times what it is at this hour · since 10:00 UTC · tenant acme"
    )
    assert "Series: app=shop · tenant=acme\nObserved $12.40, expected $3.10 (×4)\nSince 10:00:00 UTC, 2 min ago" in body
    assert "- Rate-limit the user" in body
    assert "Calls: c-1, c-2" in body
    assert f"All of it: tailrace alerts show {alert.id[:8]}\n" in body


@pytest.mark.parametrize(
    ("start", "end", "state", "late", "text"),
    [
        ("2026-07-01T10:00:00.000Z", "2026-07-01T10:01:00Z", "firing", False, "since 10:00:00 UTC, 2 min ago"),
        ("2026-07-01T12:00:00+02:00", "", "update", False, "since 10:00:00 UTC, 2 min ago"),
        ("2026-07-01T10:02:40Z", "2026-07-01T10:02:41Z", "firing", False, "since 10:02:40 UTC, 0 s ago"),
        ("2026-07-01T10:03:00Z", "2026-07-01T10:04:00Z", "firing", False, "since 10:03:00 UTC"),
        ("2026-06-30T10:00:00Z", "2026-06-30T10:01:00Z", "firing", True,
         "since 2026-06-30 10:00:00 UTC, 24 h 2 min ago, found late"),
        ("2026-07-01T09:00:00Z", "2026-07-01T10:00:00Z", "resolved", False, "lasted 60 min, 09:00:00 to 10:00:00 UTC"),
        ("2026-06-30T23:00:00Z", "2026-07-01T01:30:00Z", "resolved", False,
         "lasted 2 h 30 min, 2026-06-30 23:00:00 UTC to 2026-07-01 01:30:00 UTC"),
        ("2026-06-24T10:00:00Z", "2026-06-24T10:00:30Z", "resolved", True,
         "lasted 30 s, 2026-06-24 10:00:00 to 10:00:30 UTC, over for 7 d, found late"),
        ("yesterday", "now\x1b", "firing", False, "yesterday to now"),
    ],
)  # fmt: skip
def test_when_is_told_in_whole_times_and_relative_to_the_delivery(
    make_alert: Callable[..., Alert], start: str, end: str, state: str, late: bool, text: str
) -> None:
    end = end or "2026-07-01T10:01:00Z"
    assert words.when(make_alert(window=Window(start, end), state=state, late=late), AT) == text


def test_without_a_clock_nothing_is_said_to_be_ago(make_alert: Callable[..., Alert]) -> None:
    assert words.when(make_alert()) == "since 2026-07-01 10:00:00 UTC"
