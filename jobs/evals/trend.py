"""The means of earlier runs beside those of this one, as points of a chart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jobs.evals.lines import MIN_CALLS
from jobs.evals.summary import Summary


@dataclass(frozen=True)
class Week:
    """One scorer in one run."""

    since: date
    scorer: str
    version: str
    mean: float
    n: int


def trend_of(rows: Sequence[Mapping[str, Any]], summary: Summary, weeks: int) -> tuple[Week, ...]:
    """Return the means of the scorers of ``summary`` up to its period, in runs over as many days.

    Args:
        rows: of ``warehouse.evals.scores.trend``; of several versions in one run the one with most scores is first.
        summary: the report.
        weeks: the latest runs.
    """
    period, scorers = summary.period, {line.scorer for line in summary.lines}
    found: dict[tuple[str, str], Week] = {}
    for row in rows:
        since, until = date.fromisoformat(row["since"]), date.fromisoformat(row["until"])
        same = until - since == period.until - period.since and since <= period.since
        if same and row["name"] in scorers and row["n"] >= MIN_CALLS:
            week = Week(since, row["name"], row["version"] or "", row["mean"], row["n"])
            found.setdefault((row["since"], row["name"]), week)
    kept = sorted({week.since for week in found.values()})[-weeks:]
    return tuple(week for week in found.values() if week.since in kept)
