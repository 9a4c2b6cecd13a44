"""Where a refresh looks: whole days, nothing twice that need not be, and nothing never."""

from __future__ import annotations

import random

import pytest

from jobs.golden.settings import FARTHEST_DAYS, GoldenSettings, window
from warehouse.golden.failed_calls import Window

DAY_US = 86_400_000_000
TODAY = 20_000 * DAY_US
AT = TODAY + 5 * 3_600_000_000


def since(looked: Window | None = None, *, at: int = AT, days: int = 7) -> int:
    """Return the first day that is looked at, counted from the day of ``at``."""
    found = window(GoldenSettings(days=days), at, looked)
    assert found.until == at
    assert found.since % DAY_US == 0
    return (found.since - (at - at % DAY_US)) // DAY_US


def ago(days: float, began: float = 0) -> Window:
    return Window(TODAY - int(began * DAY_US), AT - int(days * DAY_US))


@pytest.mark.parametrize(
    ("looked", "days", "expected"),
    [
        (None, 7, -7),
        (ago(7), 7, -7),
        (ago(1), 7, -7),
        (ago(9), 7, -9),  # found two days late
        (ago(14.3), 7, -15),  # a week was skipped
        (ago(34), 7, -34),
        (ago(100), 7, -FARTHEST_DAYS),
        (ago(100), 60, -60),
        (ago(9), 1, -9),
        (ago(3), 1, -3),
    ],
)
def test_it_looks_back_to_where_the_last_one_looked_up_to(looked: Window | None, days: int, expected: int) -> None:
    assert since(looked, days=days) == expected


@pytest.mark.parametrize("began", [7, 9, 20, 35])
def test_on_the_day_of_the_last_one_it_looks_at_the_same(began: int) -> None:
    for hours in (0, 1, 4):
        assert since(ago(hours / 24, began), days=7) == -began


def test_runs_at_whatever_times_leave_no_gap() -> None:
    rng = random.Random(5)
    for _ in range(200):
        at, looked, covered = AT, None, None
        for _ in range(12):
            found = window(GoldenSettings(days=rng.randint(1, 8)), at, looked)
            if covered is not None:
                assert found.since <= covered
            looked = found
            covered = found.until
            at += rng.choice([60_000_000, 3_600_000_000, DAY_US, 7 * DAY_US, 20 * DAY_US, 34 * DAY_US])


def test_daily_runs_do_not_look_farther_and_farther_back() -> None:
    looked = None
    for day in range(60):
        looked = window(GoldenSettings(), AT + day * DAY_US, looked)
    assert looked is not None
    assert looked.until - looked.since < 8 * DAY_US


def test_a_clock_that_went_back_hides_nothing() -> None:
    assert since(Window(TODAY, AT + 30 * DAY_US)) == -7
