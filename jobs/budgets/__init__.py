"""Budgets: what a scope may cost a day, week or month, and who is told when a share of it is spent.

Path: ``budget`` reads the settings → ``spend`` sums the landed calls → ``forecast`` says where the period will end →
``alerts`` decides what is told. ``job`` runs them.
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
