"""Costs of the calls of a budget's scope, as recorded in the lake at a moment. Values are bound, never part of the SQL.

The moment is a minute ago: rows that land is about to commit carry the earlier time at which they were decoded, and a
repeated query would return them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from jobs.budgets.budget import SCOPES, Budget, Period
from pipelines.alerts.evidence import literal
from warehouse.query.readonly import ReadOnlyLake

MANY = 40
"""Budgets of one query: as many sums are kept in one pass over the calls."""
HISTORY_DAYS = 28
_SAVED = """
cache_read_tokens * input_cost_usd / nullif(input_tokens - cache_read_tokens - coalesce(cache_write_tokens, 0), 0)
    - cache_read_cost_usd
"""
"""What reading from the provider's cache saved a call, at the price of its own uncached tokens."""


@dataclass(frozen=True)
class Spent:
    """Known costs of a scope in a period; calls without a known cost are counted, and are in no sum."""

    usd: Decimal
    calls: int
    unpriced_calls: int


@dataclass(frozen=True)
class Day:
    """One UTC day of a scope."""

    day: date
    usd: float
    saved_usd: float
    """What the provider's cache saved; 0 where nothing was read from it."""
    cache_rate: float | None
    """Input tokens read from the cache / input tokens; None without input tokens."""


def known_at(now: datetime) -> str:
    """Return the rows of ``calls`` as they were known a minute before ``now``, for FROM."""
    moment = now.astimezone(UTC) - timedelta(minutes=1)
    return f"calls_as_known_at(TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S.%f}+00')"


def spent(lake: ReadOnlyLake, wanted: Sequence[tuple[Budget, Period]], now: datetime) -> list[Spent]:
    """Return what each budget has spent in its period, by the days of ``cost_daily``."""
    found: list[Spent] = []
    for at in range(0, len(wanted), MANY):
        some = wanted[at : at + MANY]
        values: list[Any] = []
        columns = []
        for number, (budget, period) in enumerate(some):
            test = _test(budget, period, values)
            columns += [
                f"coalesce(sum(cost_usd) FILTER ({test}), 0) AS usd{number}",
                f"count(*) FILTER ({test}) AS calls{number}",
                f"count(*) FILTER ({test} AND cost_usd IS NULL) AS unpriced{number}",
            ]
        values += [min(p.start for _, p in some).date(), max(p.end for _, p in some).date()]
        days = f"day >= ${len(values) - 1} AND day < ${len(values)}"
        (row,) = lake.query(f"SELECT {', '.join(columns)} FROM {known_at(now)} WHERE {days}", values).to_pylist()
        found += [Spent(row[f"usd{n}"], row[f"calls{n}"], row[f"unpriced{n}"]) for n in range(len(some))]
    return found


def crossed_at(lake: ReadOnlyLake, budget: Budget, period: Period, usd: Decimal, now: datetime) -> datetime:
    """Return the end of the hour of event time in which the period's costs reached ``usd``; its end if they did not."""
    values: list[Any] = []
    test = _test(budget, period, values)
    values += [period.start.date(), period.end.date(), usd]
    rows = lake.query(
        f"WITH hours AS (SELECT date_trunc('hour', ts) AS hour, sum(cost_usd) AS usd FROM {known_at(now)} WHERE {test} "
        f"AND day >= ${len(values) - 2} AND day < ${len(values) - 1} GROUP BY ALL), "
        "sums AS (SELECT hour, sum(usd) OVER (ORDER BY hour) AS usd FROM hours) "
        f"SELECT min(hour) AS hour FROM sums WHERE usd >= ${len(values)}",
        values,
    ).to_pylist()
    hour = rows[0]["hour"]
    return period.end if hour is None else min(period.end, hour.astimezone(UTC) + timedelta(hours=1))


def histories(lake: ReadOnlyLake, wanted: Sequence[Budget], until: date) -> list[list[Day]]:
    """Return, for each budget, the days before ``until`` on which its scope had calls; the oldest first.

    No day is older than ``HISTORY_DAYS``.
    """
    midnight = datetime.combine(until, datetime.min.time(), UTC)
    span = Period(midnight - timedelta(days=HISTORY_DAYS), midnight)
    found: list[list[Day]] = []
    for at in range(0, len(wanted), MANY):
        some = wanted[at : at + MANY]
        values: list[Any] = []
        columns = []
        for number, budget in enumerate(some):
            test = _test(budget, span, values)
            columns += [
                f"count(*) FILTER ({test}) AS calls{number}",
                f"coalesce(sum(cost_usd) FILTER ({test}), 0)::DOUBLE AS usd{number}",
                f"coalesce(sum(({_SAVED})::DOUBLE) FILTER ({test}), 0) AS saved{number}",
                f"coalesce(sum(cache_read_tokens) FILTER ({test}), 0) AS cached{number}",
                f"sum(input_tokens) FILTER ({test}) AS input{number}",
            ]
        values += [span.start.date(), span.end.date()]
        days = f"day >= ${len(values) - 1} AND day < ${len(values)}"
        rows = lake.query(
            f"SELECT day, {', '.join(columns)} FROM calls WHERE {days} GROUP BY day ORDER BY day", values
        ).to_pylist()
        found += [[_day(row, n) for row in rows if row[f"calls{n}"]] for n in range(len(some))]
    return found


def _day(row: dict[str, Any], n: int) -> Day:
    rate = float(row[f"cached{n}"]) / float(row[f"input{n}"]) if row[f"input{n}"] else None
    return Day(row["day"], row[f"usd{n}"], max(0.0, row[f"saved{n}"]), rate)


def evidence(budget: Budget, period: Period, now: datetime) -> str:
    """Return SQL for what was spent in ``period`` as known at ``now``: later calls and prices do not change it."""
    parts = [f"{SCOPES[name]} = {literal(value)}" for name, value in budget.scope.items()]
    parts += [f"day >= DATE '{period.start:%Y-%m-%d}'", f"day < DATE '{period.end:%Y-%m-%d}'"]
    return f"SELECT coalesce(sum(cost_usd), 0)::DOUBLE AS observed FROM {known_at(now)} WHERE {' AND '.join(parts)}"


def _test(budget: Budget, period: Period, values: list[Any]) -> str:
    """The condition of a budget's calls; appends its values."""
    parts = []
    for name, value in budget.scope.items():
        values.append(value)
        parts.append(f"{SCOPES[name]} = ${len(values)}")
    values += [period.start.date(), period.end.date()]
    parts += [f"day >= ${len(values) - 1}", f"day < ${len(values)}"]
    return " AND ".join(parts)
