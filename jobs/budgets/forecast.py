"""Forecast of the costs of a period: what is spent, and what the rest of it will cost by the last four weeks. Pure.

A day is expected to cost the mean of its weekday, shrunk towards the mean of all days where few of that weekday are
known. The interval comes from a block bootstrap (Kuensch 1989) of the ratios between what days cost and what was
expected of them: blocks of up to seven days keep a week that was expensive as a whole. The current day counts by the
share of it that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from jobs.budgets.budget import Period
from jobs.budgets.spend import Day

MIN_DAYS = 4
"""Known days below which nothing is forecast."""
COVERAGE = 0.9
DRAWS = 2000
SHRINK = 2.0
"""Days of all weekdays that count in the expectation of one weekday."""
LOW_CACHE = 0.1
"""Quantile of the daily cache rates of the second forecast."""
_DAY_S = 86_400.0
_LEAST_LEVEL = 0.1


@dataclass(frozen=True)
class Forecast:
    """Costs of the whole period, USD; ``low`` and ``high`` hold ``COVERAGE`` of what may come."""

    usd: float
    low: float
    high: float
    low_cache_usd: float | None
    """The same if the provider's cache is read as rarely as on the worst of ten days; None where it is not used."""
    days: int
    """Days that it was learned from."""


def forecast(
    spent_usd: float, days: Sequence[Day], period: Period, now: datetime, *, rng: np.random.Generator
) -> Forecast | None:
    """Forecast the costs of ``period``.

    Args:
        spent_usd: costs of the period so far.
        days: whole days before today; a day without calls between two of them cost nothing.
        period: the period that holds ``now``.
        now: event time up to which ``spent_usd`` counts.
        rng: of the bootstrap.

    Returns:
        None with fewer than ``MIN_DAYS`` days.
    """
    if now >= period.end:
        return Forecast(spent_usd, spent_usd, spent_usd, None, len(days))
    costs, weekdays = _filled(days)
    if len(costs) < MIN_DAYS:
        return None
    rest = _ahead(_by_weekday(costs, weekdays), period, now)
    ratios = _ratios(costs, weekdays)
    # the expectation is itself estimated from a sample of days: it is resampled with the same draw
    level = _draws(ratios, len(costs), rng).mean(axis=1, keepdims=True)
    sums = (_draws(ratios, len(rest), rng) / np.maximum(level, _LEAST_LEVEL)) @ rest
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(sums, [tail, 1 - tail])
    return Forecast(
        spent_usd + float(rest.sum()),
        spent_usd + float(low),
        spent_usd + float(high),
        _with_low_cache(spent_usd, float(rest.sum()), days),
        len(costs),
    )


def _filled(days: Sequence[Day]) -> tuple[np.ndarray, np.ndarray]:
    """Costs and weekdays of all days from the first known one on."""
    if not days:
        return np.zeros(0), np.zeros(0, int)
    known = {each.day: each.usd for each in days}
    span = [days[0].day + timedelta(days=n) for n in range((days[-1].day - days[0].day).days + 1)]
    return np.asarray([known.get(day, 0.0) for day in span]), np.asarray([day.weekday() for day in span])


def _by_weekday(costs: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
    sums = np.bincount(weekdays, costs, minlength=7)
    counts = np.bincount(weekdays, minlength=7)
    return np.asarray((sums + SHRINK * costs.mean()) / (counts + SHRINK))


def _ahead(expected: np.ndarray, period: Period, now: datetime) -> np.ndarray:
    """Costs that are expected of the rest of today and of each later day of ``period``; ``expected``: by weekday."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    ahead, at = [], today
    while at < period.end:
        share = 1 - (now - today).total_seconds() / _DAY_S if at == today else 1.0
        ahead.append(expected[at.weekday()] * share)
        at += timedelta(days=1)
    return np.asarray(ahead)


def _ratios(costs: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
    """What each day cost, as a share of what the other days made one expect of it; their mean is 1."""
    expected = np.empty_like(costs)
    for at in range(len(costs)):
        others = np.arange(len(costs)) != at
        expected[at] = _by_weekday(costs[others], weekdays[others])[weekdays[at]]
    ratios = np.divide(costs, expected, out=np.ones_like(costs), where=expected > 0)
    return ratios / mean if (mean := ratios.mean()) > 0 else np.ones_like(costs)


def _draws(ratios: np.ndarray, days: int, rng: np.random.Generator) -> np.ndarray:
    """Ratios of ``days`` days, drawn as blocks that follow each other; (DRAWS, days)."""
    size = min(7, max(1, len(ratios) // 2), days)
    blocks = -(-days // size)
    starts = rng.integers(0, len(ratios), (DRAWS, blocks))
    at = (starts[:, :, None] + np.arange(size)).reshape(DRAWS, -1)[:, :days] % len(ratios)
    return np.asarray(ratios[at])


def _with_low_cache(spent_usd: float, rest_usd: float, days: Sequence[Day]) -> float | None:
    """The costs where the cache saves less, in proportion to the rate at which it is read."""
    rates = [each.cache_rate for each in days if each.cache_rate is not None]
    usd, saved = sum(each.usd for each in days), sum(each.saved_usd for each in days)
    if not rates or not usd or not saved:
        return None
    mean = float(np.mean(rates))
    lost = max(0.0, 1 - float(np.quantile(rates, LOW_CACHE)) / mean)
    return spent_usd + rest_usd * (1 + saved / usd * lost)
