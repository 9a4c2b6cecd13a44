"""One incident a budget and period: each level once, the highest when found late, over with the period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from jobs.budgets import Forecast, Period, read_budgets
from jobs.budgets.alerts import firing, id_of, is_over, reached, resolved
from jobs.budgets.spend import Spent
from pipelines.notify.format import headline

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)
MONTH = Period.at("month", NOW)
(BUDGET,) = read_budgets([{"app": "bot", "usd": 100, "name": "bot"}])


def spent(usd, unpriced=0):
    return Spent(Decimal(str(usd)), 10, unpriced)


def alert(usd, before=None, *, now=NOW, budget=BUDGET, crossed=None, expected=None, unpriced=0):
    level = reached(budget, MONTH, spent(usd, unpriced), before)
    if level is None:
        return None
    return firing(level, spent(usd, unpriced), expected, sql="SELECT 1", crossed=crossed or now, now=now)


def test_each_level_is_told_once():
    assert alert(49.99) is None
    half = alert(50)
    assert (half.state, half.seq, half.severity, half.expected, half.observed) == ("firing", 0, "info", 50.0, 50.0)
    assert alert(79, half) is None
    most = alert(80, half)
    assert (most.id, most.state, most.seq, most.severity) == (half.id, "update", 1, "warning")
    assert alert(99, most) is None
    all_ = alert(130, most)
    assert (all_.id, all_.seq, all_.severity, all_.score) == (half.id, 2, "critical", 1.3)
    assert alert(1000, all_) is None


def test_levels_that_were_passed_meanwhile_are_one_alert():
    found = alert(95)
    assert (found.state, found.seq, found.severity) == ("firing", 0, "warning")


def test_what_is_found_late_says_so():
    assert not alert(50, crossed=NOW - timedelta(minutes=50)).late
    assert alert(50, crossed=NOW - timedelta(hours=3)).late
    assert alert(50, now=MONTH.end + timedelta(minutes=1), crossed=MONTH.end).late


def test_it_is_over_with_its_period_and_the_next_one_is_another():
    half = alert(50)
    assert not is_over(MONTH, half, MONTH.end - timedelta(seconds=1))
    assert is_over(MONTH, half, MONTH.end)
    over = resolved(BUDGET, MONTH, spent(70), half, MONTH.end)
    assert (over.id, over.seq, over.state, over.observed) == (half.id, 1, "resolved", 70.0)
    assert not is_over(MONTH, over, MONTH.end)
    assert alert(120, over) is None
    assert id_of(BUDGET, MONTH) != id_of(BUDGET, Period.at("month", MONTH.end))


def test_an_amount_that_is_changed_in_mid_period_is_told_by_its_new_levels():
    all_ = alert(100)
    (raised,) = read_budgets([{"app": "bot", "usd": 1000, "name": "bot"}])
    assert alert(600, all_, budget=raised).severity == "info"
    half = alert(50)
    (lowered,) = read_budgets([{"app": "bot", "usd": 60, "name": "bot"}])
    assert alert(50, half, budget=lowered).severity == "warning"


def test_the_message_says_how_much_of_what_until_when():
    expected = Forecast(170.0, 150.0, 190.5, 200.0, 28)
    words = headline(alert(85, expected=expected, unpriced=3))
    for part in (
        "budget bot: 85% spent",
        "85.00 USD of 100.00 USD, 3 calls without a price",
        "until 2026-12-01 170.00 USD",
    ):
        assert part in words
    assert "(150.00 USD to 190.50 USD)" in words
    assert "200.00 USD if the prompt cache" in alert(85, expected=expected).runbook[0]
    assert "no forecast yet" in alert(85).title


@given(st.lists(st.floats(0, 3), max_size=40))
def test_any_growth_is_at_most_three_alerts_in_rising_order(steps):
    usd, before, sent = Decimal(0), None, []
    for step in steps:
        usd += Decimal(str(round(step * 10, 6)))
        found = alert(usd, before)
        if found is not None:
            sent.append(found)
            before = found
    assert [a.seq for a in sent] == list(range(len(sent)))
    assert [a.expected for a in sent] == sorted({a.expected for a in sent})
    assert len(sent) <= 3
    assert bool(sent) == (usd >= 50)
