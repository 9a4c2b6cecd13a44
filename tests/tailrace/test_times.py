"""Moments, spans and days as people write them."""

from __future__ import annotations

from datetime import date

import pytest

from tailrace.times import NotATimeError, day, distance, moment, span

NOW = 1_795_244_400_000_000  # 2026-11-21T07:00:00Z


def test_what_says_when_is_read():
    assert NOW - moment("2h", NOW) == span("2h") == span(" 120 m ") == 7_200_000_000
    assert moment("2026-11-21T07:00:00Z", 0) == moment("2026-11-21T07:00:00", 0) == NOW
    assert moment("2026-11-21T08:00:00+01:00", 0) == NOW
    assert day("2026-11-21") == date(2026, 11, 21)


@pytest.mark.parametrize("read", [lambda text: moment(text, NOW), span, day])
@pytest.mark.parametrize("text", ["yesterday", "", "-2h", "2 weeks", "2026-13-01", "'; DROP TABLE calls"])
def test_anything_else_is_refused_with_what_was_expected(read, text):
    with pytest.raises(NotATimeError, match="expected"):
        read(text)


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31T23:59:59Z", "999999d"])
def test_before_1970_is_no_time(text):
    with pytest.raises(NotATimeError, match="since 1970"):
        moment(text, NOW)


def test_a_time_is_no_span_and_a_span_no_day():
    for read, text in ((span, "2026-11-21"), (day, "7d")):
        with pytest.raises(NotATimeError):
            read(text)


def test_a_distance_is_given_in_the_largest_unit_that_it_holds_twice():
    assert distance(89 * 86_400_000_000 + 5) == "89 days"
    assert distance(-3 * 3_600_000_000) == "3 hours"
    assert distance(86_400_000_000) == "24 hours"
    assert distance(119_000_000) == "119 seconds"
    assert distance(130_000_000_000_000_000) == "1,504,629 days"
