"""Append times and ticks of a file."""

from __future__ import annotations

import json

import pytest

from pipelines.backtest.timeline import SECOND, appended, pieces, ticks, time_of


def line(seconds: float) -> bytes:
    return json.dumps({"ts": int(seconds * 1000), "text": "x"}).encode()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('{"ts": 1500}', 1_500_000),
        ('{"ts": "1970-01-01T00:00:02Z", "more": {"ts": 1}}', 2_000_000),
        ('{"ts": "1970-01-01T00:00:02"}', None),
        ('{"ts": -5}', None),
        ('{"ts": 99999999999999999999}', None),
        ('{"ts": null}', None),
        ("{}", None),
        ("no JSON", None),
    ],
)
def test_the_time_of_a_line(text: str, at: int | None) -> None:
    assert time_of(text.encode()) == at


def seconds(*values: bytes) -> list[float]:
    return [each.at / SECOND for each in appended(values)]


def test_lines_come_at_their_event_time_and_never_before_the_one_before() -> None:
    assert seconds(line(10), line(11), line(9), line(12)) == [10, 10, 10, 12]


def test_a_time_ahead_of_its_successor_is_not_believed() -> None:
    assert seconds(line(10), line(9e9), line(11), line(12)) == [10, 11, 11, 12]


def test_a_line_without_a_time_comes_with_its_neighbours() -> None:
    assert seconds(b"x", line(10), b"y", line(11)) == [0, 10, 10, 11]
    assert seconds(line(10), *[b"x"] * 3000, line(20))[-1] == 20
    assert [each.value for each in appended([b"x"])] == [b"x"]


def test_pieces_end_where_a_tick_comes() -> None:
    times = [int(s * SECOND) for s in (0.5, 1.0, 1.1, 1.9, 5.0)]
    assert pieces(times, 7, SECOND) == [(9, 1 * SECOND), (11, 2 * SECOND), (12, 5 * SECOND)]


def test_ticks_come_every_second_and_seldom_where_nothing_comes() -> None:
    assert list(ticks(0, 0, 4 * SECOND, SECOND)) == [1 * SECOND, 2 * SECOND, 3 * SECOND]
    year = 365 * 86_400 * SECOND
    found = list(ticks(0, 0, year, SECOND))
    assert len(found) < 2_000
    assert found[:30] == [i * SECOND for i in range(1, 31)]
