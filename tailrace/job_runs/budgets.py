"""From a command's context to the budgets of its settings: their spending, and their alerts on llm.alerts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from jobs.budgets import Budget, BudgetsReport, Position, budgets, positions, read_budgets
from pipelines.clock import now_us
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.job_runs.publish_alerts import publish
from warehouse.query.readonly import ReadOnlyLake


def configured(here: Context) -> tuple[Budget, ...]:
    """Return the budgets of the settings.

    Raises:
        SettingsError: one of them is wrong.
    """
    return read_budgets(here.settings.budgets)


def judge(here: Context, *, stop: Callable[[], bool] = lambda: False) -> BudgetsReport:
    """Judge all budgets now, and publish their alerts."""
    report = budgets(wiring.lake(here.settings), configured(here), _now(), stop=stop)
    if not stop():
        publish(here, report.alerts)
    return report


def current(here: Context) -> list[Position]:
    """Return the spending of every budget in its current period; without a budget no lake is opened.

    Raises:
        LakeMissingError: no lake there.
    """
    wanted = configured(here)
    if not wanted:
        return []
    with ReadOnlyLake.open(wiring.lake(here.settings)) as lake:
        return positions(lake, wanted, _now())


def _now() -> datetime:
    return datetime.fromtimestamp(now_us() / 1e6, UTC)
