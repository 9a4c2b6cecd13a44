"""Compares two variants by their landed calls: one comparison for each measure, and which of them may end a release.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.evals.scorers import INFORM_ONLY
from jobs.gate.sequential import Comparison, compare
from jobs.gate.verdict import LIMIT

BUDGET = 0.2
"""Share by which cost and latency may rise."""
ANSWERS = "replied"
_BUDGETS = ("cost_usd", "latency_ms")
Rows = Sequence[Mapping[str, Any]]


def comparisons(calls: Rows, quality: Rows, *, stages: int = 1) -> list[Comparison]:
    """Return the comparison of each measure.

    Args:
        calls: a row a side and unit.
        quality: a row a side, score and unit.
        stages: stages of a release, each of which repeats the comparison; the bound of a regress is corrected for their
            number.
    """

    def of(name: str, rows: Rows) -> tuple[list[float], list[float]]:
        known = [(row["side"], float(row[name])) for row in rows if row[name] is not None]
        return [value for side, value in known if side == "a"], [value for side, value in known if side == "b"]

    scores = sorted({row["name"] for row in quality})
    checks = stages * (1 + len(_BUDGETS) + sum(name not in INFORM_ONLY for name in scores))
    found = [compare(ANSWERS, *of(ANSWERS, calls), LIMIT, checks=checks)]
    for name in scores:
        rows = [row for row in quality if row["name"] == name]
        found.append(compare(name, *of("score", rows), LIMIT, checks=checks))
    for name in _BUDGETS:
        sides = of(name, calls)
        found.append(compare(name, *sides, BUDGET, relative=True, higher_is_better=False, checks=checks))
    return found


def counts(found: Comparison) -> bool:
    """Return whether a measure adds to the verdict: scorers that only inform, and scores of too few users, do not."""
    known = found.measure == ANSWERS or not math.isnan(found.estimate)
    return known and found.measure not in INFORM_ONLY


def facts(found: Comparison) -> dict[str, Any]:
    """Return ``found`` for JSON; what is not known is None."""
    names = ("measure", "verdict", "units", "a", "b", "estimate", "lower", "upper", "limit", "relative")
    values = {name: getattr(found, name) for name in (*names, "higher_is_better")}
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def line(found: Comparison) -> str:
    """Return the comparison of a measure, in words."""
    unit = " %" if found.relative else " points"
    users = f"{found.units[0]} and {found.units[1]} users{'  (inform)' if found.measure in INFORM_ONLY else ''}"
    if math.isnan(found.estimate):
        return f"{found.verdict.value:9}  {found.measure}  too few: {users} with a known value"
    bounds = f"[{found.lower * 100:+.1f}, {found.upper * 100:+.1f}]"
    return f"{found.verdict.value:9}  {found.measure}  {found.estimate * 100:+.1f}{unit} {bounds}, {users}"
