"""Budgets of the settings, and the periods they count in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.budgets import Period, read_budgets
from jobs.budgets.budget import KINDS
from schemas.errors import SettingsError

MOMENTS = st.integers(0, 15 * 365 * 86_400).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=s))


def test_a_budget_is_a_scope_an_amount_and_a_period():
    bot, everything = read_budgets([{"app": "bot", "tenant": "acme", "usd": 12.5, "period": "day"}, {"usd": "500"}])
    assert (bot.name, bot.usd, bot.kind) == ("app bot, tenant acme, a day", Decimal("12.5"), "day")
    assert bot.series == {"budget": bot.name, "app": "bot", "tenant": "acme"}
    assert (everything.name, everything.usd, everything.kind, everything.scope) == (
        "all calls, a month",
        Decimal(500),
        "month",
        {},
    )


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({}, "usd"),
        ({"usd": 0}, "usd"),
        ({"usd": -1}, "usd"),
        ({"usd": "many"}, "usd"),
        ({"usd": float("nan")}, "usd"),
        ({"usd": True}, "usd"),
        ({"usd": 10**12}, "usd"),
        ({"usd": 1, "period": "year"}, "period"),
        ({"usd": 1, "period": 7}, "period"),
        ({"usd": 1, "app": ""}, "app"),
        ({"usd": 1, "app": 3}, "app"),
        ({"usd": 1, "aap": "bot"}, "aap"),
    ],
)
def test_a_wrong_budget_is_refused_by_its_key(table, where):
    with pytest.raises(SettingsError, match=rf"budgets\[2\]\.{where}"):
        read_budgets([{"usd": 1, "name": "fine"}, table])


def test_two_budgets_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="two budgets are called"):
        read_budgets([{"usd": 1}, {"usd": 2}])


def test_weeks_begin_on_monday_and_months_have_their_lengths():
    sunday = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    assert Period.at("week", sunday).start == datetime(2026, 2, 23, tzinfo=UTC)
    assert Period.at("month", sunday - timedelta(days=1)) == Period(
        datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    )
    assert Period.at("month", datetime(2026, 12, 31, tzinfo=UTC)).end == datetime(2027, 1, 1, tzinfo=UTC)


@given(MOMENTS, st.sampled_from(KINDS))
def test_periods_hold_their_moment_and_join(moment, kind):
    period = Period.at(kind, moment)
    assert period.start <= moment < period.end
    assert period.before(kind).end == period.start
    assert Period.at(kind, period.end).before(kind) == period
    assert Period.at(kind, period.start) == period
