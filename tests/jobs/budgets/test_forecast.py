"""The forecast: what is known is counted as it is, and the interval holds what it says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from jobs.budgets import Period, forecast
from jobs.budgets.forecast import COVERAGE, MIN_DAYS
from jobs.budgets.spend import Day

NOW = datetime(2026, 11, 16, tzinfo=UTC)
MONTH = Period.at("month", NOW)


def days(costs, *, rates=None, saved=0.0):
    first = NOW.date() - timedelta(days=len(costs))
    rates = rates or [None] * len(costs)
    return [Day(first + timedelta(days=n), cost, saved, rates[n]) for n, cost in enumerate(costs)]


def rng(seed=1):
    return np.random.default_rng(seed)


def test_equal_days_go_on_as_they_are():
    found = forecast(150.0, days([10.0] * 28), MONTH, NOW, rng=rng())
    assert (found.usd, found.low, found.high) == pytest.approx((300.0, 300.0, 300.0))
    assert found.low_cache_usd is None


def test_today_counts_by_what_is_left_of_it():
    found = forecast(154.0, days([10.0] * 28), MONTH, NOW + timedelta(hours=6), rng=rng())
    assert found.usd == pytest.approx(154.0 + 10 * 0.75 + 14 * 10)


def test_weekends_are_expected_to_be_weekends():
    first = NOW.date() - timedelta(days=28)
    costs = [0.0 if (first + timedelta(days=n)).weekday() >= 5 else 10.0 for n in range(28)]
    week = Period.at("week", NOW)
    monday = forecast(0.0, days(costs), week, NOW, rng=rng())
    assert 45 < monday.usd < 55
    saturday = forecast(50.0, days(costs), week, NOW + timedelta(days=5), rng=rng())
    assert saturday.usd - 50 < 6


def test_days_without_a_call_between_others_cost_nothing():
    known = [Day(date(2026, 11, n), 20.0, 0.0, None) for n in (2, 4, 6, 8, 10, 12, 14)]
    assert forecast(0.0, known, MONTH, NOW, rng=rng()).usd == pytest.approx(15 * 20 * 7 / 13, rel=0.1)


def test_too_few_days_are_no_forecast_and_a_period_that_is_over_is_known():
    assert forecast(1.0, days([1.0] * (MIN_DAYS - 1)), MONTH, NOW, rng=rng()) is None
    assert forecast(1.0, [], MONTH, NOW, rng=rng()) is None
    over = forecast(7.0, [], MONTH, MONTH.end, rng=rng())
    assert (over.usd, over.low, over.high) == (7.0, 7.0, 7.0)


def test_a_cache_that_is_read_less_costs_what_it_saves_now():
    rates = [0.5] * 20 + [0.0] * 8
    found = forecast(0.0, days([10.0] * 28, rates=rates, saved=5.0), MONTH, NOW, rng=rng())
    assert found.low_cache_usd == pytest.approx(found.usd * 1.5)  # the cache is not read on the worst of ten days
    steady = forecast(0.0, days([10.0] * 28, rates=[0.5] * 28, saved=5.0), MONTH, NOW, rng=rng())
    assert steady.low_cache_usd == pytest.approx(steady.usd)


@pytest.mark.parametrize(("spread", "weekly", "least"), [(0.15, 0.0, 0.87), (0.4, 0.0, 0.83), (0.2, 0.2, 0.72)])
def test_the_interval_covers_what_comes(spread, weekly, least):
    """Months of days with a weekly shape, noise, and weeks that are expensive as a whole."""
    draws, covered, runs = rng(7), 0, 300
    shape = np.array([1.2, 1.2, 1.1, 1.1, 1.0, 0.4, 0.3])
    for _ in range(runs):
        weeks = np.repeat(np.exp(draws.normal(0, weekly, 7)), 7)[:43]
        base = np.array([shape[(NOW.date() + timedelta(days=n - 28)).weekday()] for n in range(43)])
        costs = 10 * base * weeks * np.exp(draws.normal(0, spread, 43))
        found = forecast(0.0, days(list(costs[:28])), MONTH, NOW, rng=draws)
        covered += found.low <= costs[28:].sum() <= found.high
    assert covered / runs >= least
    assert least < COVERAGE
