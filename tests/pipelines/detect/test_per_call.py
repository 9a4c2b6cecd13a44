"""Tokens and cost per call at low traffic: a rise of one client is found, a day of chance and another mix are not."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from pipelines.detect.detectors.per_call import PerCall
from schemas.alerts import Alert
from tests.pipelines.detect.beside import Calls, Make, play, series
from tests.pipelines.detect.counts import HOUR, SECOND, T0

TENANTS = [series(tenant=f"t{i}") for i in range(4)]
SHARES = [0.5, 0.3, 0.14, 0.06]
BEGIN = 12.0
"""Hour of the rise."""


def calls_of(
    draws: np.random.Generator, count: int, *, tokens: float = 1.0, usd: float = 1.0, tenant: str = "", mix: float = 1.0
) -> Calls:
    """Calls with about 1,000 tokens, of which the second tenant has four times as many."""
    shares = np.array([1, mix, 1, 1]) * SHARES
    below = [TENANTS[i] for i in draws.choice(4, count, p=shares / shares.sum())]
    mine = np.array([tenant in ("", name) for name in below])
    size = 1000 * draws.lognormal(0, 0.6, count) * np.where([name == TENANTS[1] for name in below], 4.0, 1.0)
    size = np.floor(size * np.where(mine, tokens, 1.0)) + 1
    cost = size * 5e-6 * np.where(mine, usd, 1.0)
    return Calls(below, size, np.full(count, 100), 0 * size, 0 * size + 500, 0 * size + 100, cost)


def rising(until: float = 99.0, **change: float | str) -> Make:
    """Calls as they are until BEGIN, and changed from then on."""

    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        return calls_of(draws, count, **(change if BEGIN <= hour < until else {}))  # type: ignore[arg-type]

    return make


def minutes(alert: Alert) -> float:
    at = datetime.fromisoformat(alert.window.end).timestamp()
    return (at * SECOND - T0 - BEGIN * HOUR) / 60 / SECOND


def test_a_prompt_that_grew_is_found_at_some_calls_a_minute_with_its_tenant_and_what_it_costs():
    told = play(rising(BEGIN + 1, tokens=3.0, tenant=TENANTS[2]), BEGIN + 3, PerCall(), rate=0.6)
    assert [a.state for a in told if a.state != "update"] == ["firing", "resolved"]
    first, last = told[0], told[-1]
    assert first.rule in ("tokens_per_call", "cost_per_call")
    assert first.series == {"app": "bot", "tenant": "t2"}
    assert minutes(first) <= 10
    assert first.observed > 1.8 * first.expected
    assert first.evidence.sql.startswith("SELECT sum(c")
    assert (first.cause[0].dimension, first.cause[0].value) == ("tenant", "t2")
    assert first.impact.usd_per_hour is not None
    # 2,000 tokens and 0.01 USD a call more
    assert last.impact.usd_so_far == pytest.approx(last.impact.calls * 0.012, rel=0.3)


def test_a_day_of_chance_is_silent():
    assert play(rising(), 24, PerCall(), rate=0.4) == []


def test_another_mix_of_tenants_is_no_rise_of_the_app_or_its_models():
    assert play(rising(mix=20.0), BEGIN + 2, PerCall(), rate=0.6) == []


def test_a_rise_of_some_cents_a_day_is_not_reported():
    assert play(rising(tokens=3.0), BEGIN + 1, PerCall(least_usd_per_day=1e5), rate=0.6) == []


def test_a_model_that_is_new_and_expensive_is_found_after_two_calls():
    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        found = calls_of(draws, count)
        moved = (draws.random(count) < 0.02) & (hour >= BEGIN)
        assert found.usd is not None
        found.usd = np.where(moved, 20 * found.usd, found.usd)
        found.below = [series(model="large" if m else "small") for m in moved]
        return found

    told = play(make, BEGIN + 0.5, PerCall(), rate=0.6)
    assert [(a.state, a.rule) for a in told if a.state != "update"] == [("firing", "new_model_cost")]
    assert told[0].series == {"app": "bot", "model": "large"}
    assert told[0].impact.calls >= 2
    assert told[0].observed > 5 * told[0].expected
    assert "a model that is new" in told[0].cause[0].text
