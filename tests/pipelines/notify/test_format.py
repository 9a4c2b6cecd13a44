"""Words for people: numbers as they are read, and text that cannot hide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.notify import format as words
from schemas.alerts import Alert


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


def test_the_plain_form_holds_all_an_engineer_needs(make_alert: Callable[..., Alert]) -> None:
    title, body = words.plain(make_alert())
    assert title == "🔴 FIRING · critical · Cost of shop is 4 times what it is at this hour"
    assert "Series: app=shop · tenant=acme\nObserved $12.40, expected $3.10 (×4)" in body
    assert "- Rate-limit the user" in body
    assert "Calls: c-1, c-2" in body
