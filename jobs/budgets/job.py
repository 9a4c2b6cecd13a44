"""One run over all budgets: spending and alerts. The same lake at the same time gives the same alerts."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import structlog

from jobs.alert_report import AlertReport
from jobs.budgets import alerts
from jobs.budgets.alerts import DETECTOR
from jobs.budgets.budget import Budget, Period
from jobs.budgets.forecast import Forecast, forecast
from jobs.budgets.spend import Spent, crossed_at, evidence, histories, spent
from jobs.landed_alerts import newest_alerts
from schemas.alerts import Alert
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

log = structlog.get_logger(__name__)
KNOWN_FOR = timedelta(days=70)
"""How long alerts are looked back for: longer than two months, the longest period and the one before it."""
FOUND_LATE = timedelta(days=3)
"""Time after the end of a period in which levels reached in it still raise an alert, where no run saw them before."""


@dataclass(frozen=True)
class Position:
    """The spending of a budget in its current period."""

    budget: Budget
    period: Period
    spent: Spent
    forecast: Forecast | None
    """None: too little is known."""

    @property
    def share(self) -> float:
        """Of the amount, what is spent."""
        return float(self.spent.usd / self.budget.usd)

    def row(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "budget": self.budget.name,
            "scope": dict(self.budget.scope),
            "period": self.budget.kind,
            "start": self.period.start.isoformat(),
            "end": self.period.end.isoformat(),
            "usd": str(self.budget.usd),
            "spent_usd": str(self.spent.usd),
            "share": round(self.share, 6),
            "calls": self.spent.calls,
            "unpriced_calls": self.spent.unpriced_calls,
            "forecast": None if self.forecast is None else msgspec.to_builtins(self.forecast),
        }


@dataclass(frozen=True)
class BudgetsReport(AlertReport):
    """What one run found."""

    budgets: int
    alerts: tuple[Alert, ...]
    """State changes, to be published."""
    took_s: float

    @property
    def counts(self) -> str:
        """What was judged, in words."""
        return f"{self.budgets} budgets"

    def text(self) -> str:
        """Return the run in words."""
        head = f"ok in {self.took_s:.1f} s: {self.counts}, {len(self.alerts)} alerts"
        return "\n".join([head, *(f"  {alert.severity} {alert.title}" for alert in self.alerts)])


def budgets(
    config: LakeConfig, wanted: Sequence[Budget], now: datetime, *, stop: Callable[[], bool] = lambda: False
) -> BudgetsReport:
    """Return the alerts that the budgets ``wanted`` lead to at ``now``; nothing is sent.

    Raises:
        LakeMissingError: no lake there.
        LakeUnavailableError: the catalog or a file does not answer.
    """
    began = time.monotonic()
    found: list[Alert] = []
    if wanted:
        with ReadOnlyLake.open(config) as lake:
            found = list(_changes(lake, wanted, now, stop))
    took_s = round(time.monotonic() - began, 3)
    log.info("budgets_judged", budgets=len(wanted), alerts=len(found), took_s=took_s)
    return BudgetsReport(len(wanted), tuple(found), took_s)


def positions(lake: ReadOnlyLake, wanted: Sequence[Budget], now: datetime) -> list[Position]:
    """Return the spending of every budget, with its forecast."""
    judged = [(budget, Period.at(budget.kind, now)) for budget in wanted]
    sums = spent(lake, judged, now)
    forecasts = _forecasts(lake, judged, sums, now)
    return [
        Position(budget, period, each, expected)
        for (budget, period), each, expected in zip(judged, sums, forecasts, strict=True)
    ]


def _changes(lake: ReadOnlyLake, wanted: Sequence[Budget], now: datetime, stop: Callable[[], bool]) -> list[Alert]:
    known = _known(lake, now)
    judged = [(budget, period) for budget in wanted for period in _periods(budget, now, known)]
    newest = {at: known.get(alerts.id_of(*at)) for at in judged}
    sums = dict(zip(judged, spent(lake, judged, now), strict=True))
    levels = {at: level for at in judged if (level := alerts.reached(*at, sums[at], newest[at]))}
    forecasts = dict(zip(levels, _forecasts(lake, list(levels), [sums[at] for at in levels], now), strict=True))
    changes: list[Alert] = []
    for at in judged:
        if stop():
            break
        before = newest[at]
        if level := levels.get(at):
            crossed = crossed_at(lake, *at, level.usd, now)
            sql = evidence(*at, now)
            before = alerts.firing(level, sums[at], forecasts[at], sql=sql, crossed=crossed, now=now)
            changes.append(before)
        if before is not None and alerts.is_over(at[1], before, now):
            changes.append(alerts.resolved(*at, sums[at], before, now))
    return changes


def _periods(budget: Budget, now: datetime, known: dict[str, Alert]) -> list[Period]:
    """The current period, and earlier ones that may still raise an alert."""
    period = Period.at(budget.kind, now)
    found, earlier = [period], period.before(budget.kind)
    while now - earlier.end < FOUND_LATE or _is_open(known.get(alerts.id_of(budget, earlier))):
        found.append(earlier)
        earlier = earlier.before(budget.kind)
    return found[::-1]


def _is_open(alert: Alert | None) -> bool:
    return alert is not None and alert.state != "resolved"


def _known(lake: ReadOnlyLake, now: datetime) -> dict[str, Alert]:
    since = (now - KNOWN_FOR).date()
    return {alert.id: alert for alert in newest_alerts(lake, DETECTOR, since=since)}


def _forecasts(
    lake: ReadOnlyLake, judged: Sequence[tuple[Budget, Period]], sums: Sequence[Spent], now: datetime
) -> list[Forecast | None]:
    past = histories(lake, [budget for budget, _ in judged], now.astimezone(UTC).date())
    return [
        forecast(float(each.usd), days, period, now, rng=_rng(budget, period))
        for (budget, period), each, days in zip(judged, sums, past, strict=True)
    ]


def _rng(budget: Budget, period: Period) -> np.random.Generator:
    """The same for the same budget and period, so that a repeated run gives the same forecast."""
    return np.random.default_rng(zlib.crc32(f"{budget.name} {period.start.isoformat()}".encode()))
