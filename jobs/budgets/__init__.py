"""Budgets: what a scope may cost per day, week or month, and alerts when a share of it is spent.

Path: ``budget`` reads the settings → ``spend`` sums the landed calls → ``forecast`` estimates the end of the period →
``alerts`` decides which alerts are emitted. ``job`` runs them.
"""

from jobs.budgets.budget import LEVELS, Budget, Period, read_budgets
from jobs.budgets.forecast import Forecast, forecast
from jobs.budgets.job import BudgetsReport, Position, budgets, positions

__all__ = [
    "LEVELS",
    "Budget",
    "BudgetsReport",
    "Forecast",
    "Period",
    "Position",
    "budgets",
    "forecast",
    "positions",
    "read_budgets",
]
