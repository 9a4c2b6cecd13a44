"""Calls, failures, latency and cost by slice over two weeks, beside the scores. Counted over all calls, no sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from jobs.evals.lines import DIMENSIONS

SQL = """
WITH mine AS (
    SELECT app, feature, model, prompt_name, prompt_version, variant, status, latency_ms, ttft_ms, cost_usd, user_facing
    FROM calls WHERE day BETWEEN $1 AND $2 AND app <> $3
), numbers AS (
    SELECT app, feature, model, prompt_name, prompt_version, variant,
        grouping(app) = 0 AS by_app, grouping(feature) = 0 AS by_feature, grouping(model) = 0 AS by_model,
        grouping(prompt_version) = 0 AS by_prompt, grouping(variant) = 0 AS by_variant,
        count(*) AS calls, count(*) FILTER (status = 'error') AS failed,
        quantile_cont(latency_ms, 0.95) AS latency_p95_ms, quantile_cont(ttft_ms, 0.95) AS ttft_p95_ms,
        sum(cost_usd) AS cost_usd, count(*) FILTER (cost_usd IS NULL) AS unpriced
    FROM mine
    GROUP BY GROUPING SETS ((app, user_facing), (app, feature, user_facing), (model, user_facing),
        (prompt_name, prompt_version, user_facing), (app, variant))
    HAVING user_facing OR grouping(variant) = 0
)
SELECT * EXCLUDE (by_app, by_feature, by_model, by_prompt, by_variant),
    CASE WHEN by_feature THEN 'feature' WHEN by_variant THEN 'variant' WHEN by_app THEN 'app' WHEN by_model THEN 'model'
        ELSE 'prompt' END AS dimension
FROM numbers
WHERE NOT (by_feature AND feature IS NULL OR by_variant AND variant IS NULL OR by_prompt AND prompt_version IS NULL)
QUALIFY row_number() OVER (PARTITION BY dimension ORDER BY calls DESC, app, feature, model, prompt_name, prompt_version,
    variant) <= 200
ORDER BY calls DESC, app, feature, model, prompt_name, prompt_version, variant
"""
"""Parameters: first and last day, and the app to leave out: the judge's own calls. Shadow and
canary calls are in the rows of their variants only. One row a slice of a dimension,
named as in ``lines.DIMENSIONS``."""
MOST_SLICES = 20
"""Of a dimension, those with most calls."""


@dataclass(frozen=True)
class Numbers:
    """One slice in one week; None is "not reported"."""

    calls: int
    failed: int
    latency_p95_ms: float | None
    ttft_p95_ms: float | None
    cost_usd: Decimal | None
    """Of the priced calls."""
    unpriced: int

    @property
    def cost_per_call(self) -> Decimal | None:
        """USD; None where a call has no price."""
        return None if self.unpriced or self.cost_usd is None or not self.calls else self.cost_usd / self.calls

    def cost_per_success(self, share: float | None) -> Decimal | None:
        """USD for each good answer, where ``share`` of the calls is good; None where that is not known or 0."""
        cost = self.cost_per_call
        return cost / Decimal(str(share)) if cost is not None and share else None


@dataclass(frozen=True)
class Operations:
    """One slice in this week and in the week before."""

    dimension: str
    slice: str
    now: Numbers
    before: Numbers | None
    good: float | None = None
    """Share of good answers this week, estimated; None: not known."""
    good_before: float | None = None


def compare(
    now: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    good: Mapping[tuple[str, str], float] | None = None,
    good_before: Mapping[tuple[str, str], float] | None = None,
) -> tuple[Operations, ...]:
    """Return the slices with most calls of this week, by dimension.

    Args:
        now: rows of ``SQL``.
        before: rows of ``SQL`` for the week before; empty: there is none.
        good: (dimension, slice) -> share of good answers.
        good_before: the same, of the week before.
    """
    old = {_key(row): row for row in before}
    found = []
    for dimension in DIMENSIONS:
        rows = [row for row in now if row["dimension"] == dimension][:MOST_SLICES]
        for row in rows:
            key = _key(row)
            was = _numbers(old[key]) if key in old else None
            found.append(Operations(*key, _numbers(row), was, (good or {}).get(key), (good_before or {}).get(key)))
    return tuple(found)


def shown(found: Operations) -> dict[str, Any]:
    """Return the cells of one row of the table, as text."""
    now, before = _cells(found.now, found.good), _cells(found.before, found.good_before) if found.before else None
    return {
        "slice": found.slice,
        "cells": [{"now": cell, "before": before[i] if before else ""} for i, cell in enumerate(now)],
    }


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["dimension"], DIMENSIONS[row["dimension"]](row) or ""


def _numbers(row: Mapping[str, Any]) -> Numbers:
    fields = ("calls", "failed", "latency_p95_ms", "ttft_p95_ms", "cost_usd", "unpriced")
    return Numbers(**{name: row[name] for name in fields})


def _cells(numbers: Numbers, good: float | None) -> list[str]:
    failed = f"{100 * numbers.failed / numbers.calls:.1f} %" if numbers.calls else ""
    return [
        f"{numbers.calls:,}",
        failed,
        _duration(numbers.latency_p95_ms),
        _duration(numbers.ttft_p95_ms),
        _usd(numbers.cost_per_call),
        _usd(numbers.cost_per_success(good)),
    ]


def _duration(ms: float | None) -> str:
    return "not reported" if ms is None else f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _usd(value: Decimal | None) -> str:
    """Return the cost of 1,000 as text, so that apps can be compared easily."""
    if value is None:
        return "unknown"
    thousand = 1000 * value
    return f"{thousand:,.2f} USD" if thousand >= 1 or not thousand else f"{thousand:.2g} USD"
