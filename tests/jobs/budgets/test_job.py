"""Budgets over a real lake: sums by scope, alerts with SQL that returns their number, forecasts, and once each."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from jobs.budgets import budgets, positions, read_budgets
from jobs.budgets.budget import SCOPES
from schemas.alerts import Alert
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
HOSTILE = "o'brien'); DROP TABLE raw_calls; --"
TABLES = [
    {"name": "all", "usd": 2000, "period": "month"},
    {"name": "bot", "usd": 100, "app": "bot", "period": "day"},
    {"name": "hostile", "usd": 1, "tenant": HOSTILE, "period": "week"},
    {"name": "idle", "usd": 5, "app": "nobody", "period": "day"},
]


def call(number, at, **changes):
    return made.call(number, at, **changes)


def lake_of(folder):
    """20 days of 2 USD an hour of one app, and today 60 calls of 1 USD of another one."""
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    start = NOW - timedelta(days=20)
    steady = [call(n, start + timedelta(hours=n), app="steady", cost_usd=Decimal(2)) for n in range(20 * 24)]
    today = NOW.replace(hour=1)
    bot = [call(1000 + n, today + timedelta(minutes=n), app="bot", cost_usd=Decimal(1)) for n in range(60)]
    tenant = [call(2000 + n, today, app="other", tenant_id=HOSTILE, cost_usd=Decimal("0.3")) for n in range(3)]
    free = [call(3000, today, app="bot", cost_usd=None, cost_status="unpriced")]
    made.land(config, NOW - timedelta(minutes=5), raw_calls=[*steady, *bot, *tenant, *free])
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A lake to read."""
    return lake_of(tmp_path_factory.mktemp("lake"))


def test_sums_are_of_the_scope_and_the_period(config):
    with ReadOnlyLake.open(config) as lake:
        found = {p.budget.name: p for p in positions(lake, read_budgets(TABLES), NOW)}
    month = (NOW - datetime(2026, 11, 1, tzinfo=UTC)).total_seconds() / 3600
    assert found["all"].spent.usd == Decimal(2) * int(month) + 60 + Decimal("0.9")
    assert (found["bot"].spent.usd, found["bot"].spent.calls, found["bot"].spent.unpriced_calls) == (60, 61, 1)
    assert found["hostile"].spent.usd == Decimal("0.9")
    assert (found["idle"].spent.usd, found["idle"].spent.calls) == (0, 0)
    assert found["idle"].forecast is None
    assert found["all"].forecast.low <= found["all"].forecast.usd <= found["all"].forecast.high
    assert 48 * 30 * 0.8 < found["all"].forecast.usd < 48 * 30 * 1.4


def test_every_scope_is_a_column_of_calls(config):
    wanted = read_budgets([{"usd": 1, name: "x"} for name in SCOPES])
    with ReadOnlyLake.open(config) as lake:
        assert [p.spent.calls for p in positions(lake, wanted, NOW)] == [0] * len(SCOPES)


def test_alerts_come_once_each_and_their_sql_returns_their_number(tmp_path):
    config = lake_of(tmp_path)
    wanted = read_budgets(TABLES)
    first = budgets(config, wanted, NOW).alerts
    assert {(a.series["budget"], a.severity, a.state) for a in first} == {
        ("bot", "info", "firing"),
        ("hostile", "warning", "firing"),
    }
    made.land_alerts(config, NOW, first, 0)
    assert budgets(config, wanted, NOW + timedelta(minutes=5)).alerts == ()
    at = NOW + timedelta(minutes=1)
    more = [call(5000 + n, at, app="bot", cost_usd=Decimal(1)) for n in range(50)]
    made.land(config, NOW + timedelta(minutes=1), raw_calls=more)
    with ReadOnlyLake.open(config) as lake:
        for alert in first:  # later calls do not change what was found
            (row,) = lake.query(alert.evidence.sql).to_pylist()
            assert row["observed"] == alert.observed
    (second,) = budgets(config, wanted, NOW + timedelta(minutes=10)).alerts
    assert (second.series["budget"], second.state, second.seq, second.severity) == ("bot", "update", 1, "critical")
    made.land_alerts(config, NOW, [second], 10)
    tomorrow = NOW.replace(hour=0) + timedelta(days=1, minutes=1)
    (over,) = budgets(config, wanted, tomorrow).alerts
    assert (over.id, over.state, over.seq, over.observed) == (second.id, "resolved", 2, 110.0)
    made.land_alerts(config, NOW, [over], 20)
    assert budgets(config, wanted, tomorrow + timedelta(minutes=5)).alerts == ()


def test_a_level_that_is_found_after_its_period_is_told_late_and_is_over(config):
    wanted = read_budgets(TABLES[1:2])
    firing, over = budgets(config, wanted, NOW + timedelta(days=2)).alerts
    assert (firing.state, firing.late, firing.observed) == ("firing", True, 60.0)
    assert (over.id, over.seq, over.state) == (firing.id, 1, "resolved")
    assert budgets(config, wanted, NOW + timedelta(days=6)).alerts == ()


def test_the_same_lake_at_the_same_time_gives_the_same_alerts(config):
    wanted = read_budgets(TABLES)
    assert budgets(config, wanted, NOW).alerts == budgets(config, list(wanted), NOW).alerts
    assert [a.seq for a in budgets(config, wanted, NOW).alerts] == [0, 0]


def test_more_budgets_than_one_query_takes(config):
    names = [{"usd": 1_000_000, "name": str(n), "app": random.Random(n).choice(["bot", "steady"])} for n in range(90)]
    with ReadOnlyLake.open(config) as lake:
        found = positions(lake, read_budgets(names), NOW)
    assert {p.spent.usd for p in found if p.budget.scope["app"] == "bot"} == {Decimal(60)}
    assert len(found) == 90


def test_alerts_are_whole_on_the_wire(config):
    for alert in budgets(config, read_budgets(TABLES), NOW).alerts:
        assert Alert.from_json(alert.to_json()) == alert
