"""The share of input tokens that the cache serves: found when it falls, silent when it only swings."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from pipelines.detect.detectors.cache import Cache
from tests.pipelines.detect.beside import Calls, play, series
from tests.pipelines.detect.counts import HOUR, SECOND, T0

TENANTS = [series(tenant=f"t{i}") for i in range(5)]


def served(share: float, *, from_hour: float = 3.0, until: float = 99.0, tenant: str = ""):
    """Calls of 1,000 tokens of which the cache serves 40 %; from an hour on ``share``, of one tenant or of all."""

    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        below = [TENANTS[i] for i in draws.integers(0, 5, count)]
        hit = np.where(draws.random(count) < 0.5, 0.8, 0.0)
        if from_hour <= hour < until:
            hit = np.where([tenant in ("", name) for name in below], hit * share / 0.4, hit)
        ones = np.ones(count)
        return Calls(below, 1000 * ones, 100 * ones, 1000 * hit, 500 * ones, 100 * ones)

    return make


def minutes(at: str) -> float:
    return (datetime.fromisoformat(at).timestamp() * SECOND - T0 - 3 * HOUR) / 60 / SECOND


def test_a_cache_that_serves_nothing_any_more_is_found_with_what_it_costs():
    told = play(served(0.0, until=3.5), 5, Cache(), rate=0.6)
    assert [(a.state, a.rule) for a in told if a.state != "update"] == [
        ("firing", "cache_hit_rate"),
        ("resolved", "cache_hit_rate"),
    ]
    first, last = told[0], told[-1]
    assert minutes(first.window.end) <= 5
    assert first.observed < 0.02
    assert first.expected == pytest.approx(0.4, abs=0.02)
    assert first.title.startswith("app bot: cache reads in ")
    assert "input tokens per call unchanged" in first.cause[0].text
    # 400 of 1,000 tokens a call, at 1e-6 USD each
    assert first.impact.usd_so_far == pytest.approx(first.impact.calls * 400 * 1e-6, rel=0.1)
    assert last.impact.calls == pytest.approx(0.6 * 1800, rel=0.1)
    assert last.impact.usd_so_far == pytest.approx(last.impact.calls * 400 * 1e-6, rel=0.1)
    assert first.evidence.sql.startswith("SELECT sum(coalesce(cache_read_tokens, 0))::DOUBLE / sum(input_tokens)")


def test_one_tenant_of_five_is_named():
    told = play(served(0.0, tenant=TENANTS[2]), 3.5, Cache(), rate=2.0)
    assert told[0].series == {"app": "bot", "tenant": "t2"}
    assert minutes(told[0].window.end) <= 6


def test_where_prices_are_not_known_the_money_is_not_either():
    told = play(served(0.0), 3.2, Cache(), rate=0.6, usd_per_token=None)
    assert [a.state for a in told] == ["firing"]
    assert (told[0].impact.usd_so_far, told[0].impact.usd_per_hour) == (None, None)
    assert "what it costs is not known" in told[0].cause[0].text


def test_a_day_of_chance_and_a_fall_by_a_tenth_are_silent():
    assert play(served(0.36), 24, Cache(), rate=0.3) == []


def test_a_small_loss_is_not_reported():
    assert play(served(0.0), 3.5, Cache(least_usd_per_hour=5.0), rate=0.6) == []


def test_the_minutes_of_an_incident_are_not_learned():
    told = play(served(0.0, until=5.0), 9, Cache(), rate=0.6)
    again = [a for a in told if a.state == "resolved"]
    assert len(again) == 1
    assert again[0].expected == pytest.approx(0.4, abs=0.02)
