"""Alerts of budgets: one incident a budget and period, which moves up the levels and is over with the period. Pure.

The alert fires at the first level that is reached, is updated at each further one, and is resolved when the period has
ended. Levels that are found late are emitted too, marked ``late``; of several levels only the highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from jobs.budgets.budget import LEVELS, Budget, Period
from jobs.budgets.forecast import Forecast
from jobs.budgets.spend import Spent
from schemas.alerts import Alert, Evidence, Impact, Severity, Window, alert_id, fingerprint, time_text

DETECTOR, RULE = "budget", "budget"
NO_FORECAST = "no forecast yet: fewer than four days of calls are known"
LATE = timedelta(hours=1)
"""After the end of the hour in which a level was reached."""
_SEVERITY: dict[float, Severity] = {0.5: "info", 0.8: "warning", 1.0: "critical"}
_LEVEL_OF = {severity: level for level, severity in _SEVERITY.items()}


@dataclass(frozen=True)
class Level:
    """A level that a budget has reached in a period and for which no alert was emitted."""

    budget: Budget
    period: Period
    share: float
    before: Alert | None
    """The newest state of the period's alert."""

    @property
    def usd(self) -> Decimal:
        """The amount that was reached."""
        return self.budget.usd * Decimal(str(self.share))


def id_of(budget: Budget, period: Period) -> str:
    """Return the id of the alert of ``budget`` in ``period``."""
    return alert_id(RULE, budget.series, int(period.start.timestamp()) * 1_000_000)


def reached(budget: Budget, period: Period, spent: Spent, before: Alert | None) -> Level | None:
    """Return the highest level that is reached, where it is above the emitted one: in USD, or as a share.

    The two differ after the amount of a budget was changed within a period.
    """
    share = spent.usd / budget.usd
    top = max((level for level in LEVELS if share >= Decimal(str(level))), default=None)
    if top is None or (before is not None and before.state == "resolved"):
        return None
    if before is not None and _usd(budget, top) <= before.expected and top <= _LEVEL_OF[before.severity]:
        return None
    return Level(budget, period, top, before)


def firing(
    level: Level, spent: Spent, expected: Forecast | None, *, sql: str, crossed: datetime, now: datetime
) -> Alert:
    """Return the alert of a level that was reached.

    Args:
        level: the level that was reached.
        spent: in the period so far.
        expected: costs at the end of the period; None where there is too little history.
        sql: returns what was spent, as it is known now.
        crossed: when the level was reached.
        now: of the run.
    """
    budget, period, before = level.budget, level.period, level.before
    series = budget.series
    unpriced = f", {spent.unpriced_calls:,} calls without a price" if spent.unpriced_calls else ""
    return Alert(
        id=id_of(budget, period),
        seq=0 if before is None else before.seq + 1,
        fingerprint=fingerprint(RULE, series),
        detector=DETECTOR,
        rule=RULE,
        severity=_SEVERITY[level.share],
        state="firing" if before is None else "update",
        series=series,
        window=Window(time_text(period.start), time_text(period.end)),
        observed=float(spent.usd),
        expected=_usd(budget, level.share),
        score=float(spent.usd / budget.usd),
        unit="USD",
        impact=Impact(calls=spent.calls, usd_so_far=float(spent.usd)),
        evidence=Evidence(sql),
        runbook=_steps(budget, expected),
        late=now - crossed > LATE or now >= period.end,
        detected_at=time_text(now),
        title=(
            f"budget {budget.name}: {float(spent.usd / budget.usd):.0%} spent, {money(spent.usd)} of "
            f"{money(budget.usd)}{unpriced}; {_ending(expected, period, now)}"
        ),
    )


def resolved(budget: Budget, period: Period, spent: Spent, before: Alert, now: datetime) -> Alert:
    """Return the end of the alert ``before``, of a period that is over."""
    return replace(
        before,
        seq=before.seq + 1,
        state="resolved",
        observed=float(spent.usd),
        score=float(spent.usd / budget.usd),
        impact=Impact(calls=spent.calls, usd_so_far=float(spent.usd)),
        evidence=Evidence(),
        runbook=(),
        late=False,
        detected_at=time_text(now),
        title=(
            f"over: budget {budget.name}: the {budget.kind} from {period.start:%Y-%m-%d} ended with "
            f"{money(spent.usd)} of {money(budget.usd)}"
        ),
    )


def is_over(period: Period, before: Alert | None, now: datetime) -> bool:
    """Whether the alert of a period must be resolved."""
    return before is not None and before.state != "resolved" and now >= period.end


def outlook(expected: Forecast) -> str:
    """Return a forecast in words, without its day."""
    return f"{money(expected.usd)} ({money(expected.low)} to {money(expected.high)})"


def low_cache(expected: Forecast) -> str:
    """Return the forecast for a prompt cache that is read less, in words; empty where there is none."""
    if expected.low_cache_usd is None:
        return ""
    return f"{money(expected.low_cache_usd)} if the prompt cache is read as rarely as on the worst of ten days"


def _ending(expected: Forecast | None, period: Period, now: datetime) -> str:
    if now >= period.end:
        return f"the period ended on {period.end:%Y-%m-%d}"
    if expected is None:
        return NO_FORECAST
    return f"forecast until {period.end:%Y-%m-%d} {outlook(expected)}"


def _steps(budget: Budget, expected: Forecast | None) -> tuple[str, ...]:
    cache = low_cache(expected) if expected else ""
    return (
        *([f"Keep in mind: {cache}."] if cache else []),
        'See who spends: `tailrace sql "SELECT day, app, feature, model, sum(cost_usd) AS usd FROM cost_daily '
        'GROUP BY ALL ORDER BY day DESC, usd DESC LIMIT 20"`.',
        "Compare all budgets and their forecasts: `tailrace budgets`.",
        "Look for a cause: `tailrace alerts list` shows spikes of cost per app, feature and user.",
        f"Where it is meant to be so: raise usd of the budget {budget.name} in the settings.",
    )


def _usd(budget: Budget, share: float) -> float:
    return float(budget.usd * Decimal(str(share)))


def money(usd: Decimal | float) -> str:
    """Return an amount in words: cents from 1 USD on, two digits below."""
    value = float(usd)
    return f"{value:,.2f} USD" if value >= 1 or value == 0 else f"{value:.2g} USD"
