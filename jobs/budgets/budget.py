"""A budget: a scope, an amount, a period. Periods are calendar days, weeks from Monday and months, in UTC. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

from schemas.errors import SettingsError

Kind = Literal["day", "week", "month"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEVELS = (0.5, 0.8, 1.0)
"""Shares of the amount that raise an alert, each once per period."""
SCOPES: Mapping[str, str] = {
    "app": "app",
    "feature": "feature",
    "team": "team",
    "tenant": "tenant_id",
    "user": "user_id",
    "provider": "provider",
    "model": "coalesce(response_model, model)",
}
"""Dimension of a scope -> expression over the view ``calls``; the same as in the view ``cost_daily``."""
_MOST_USD = Decimal(10) ** 9


@dataclass(frozen=True, order=True)
class Period:
    """One day, week or month: whole UTC days, [start, end)."""

    start: datetime
    end: datetime

    @staticmethod
    def at(kind: Kind, moment: datetime) -> Period:
        """Return the period of ``kind`` that holds ``moment``."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if kind == "day":
            return Period(day, day + timedelta(days=1))
        if kind == "week":
            monday = day - timedelta(days=day.weekday())
            return Period(monday, monday + timedelta(days=7))
        first = day.replace(day=1)
        return Period(first, (first + timedelta(days=32)).replace(day=1))

    def before(self, kind: Kind) -> Period:
        """Return the period of ``kind`` that ends where this one starts."""
        return Period.at(kind, self.start - timedelta(seconds=1))


@dataclass(frozen=True)
class Budget:
    """What the calls of a scope may cost in each period."""

    name: str
    """Unique; part of the identity of its alerts."""
    usd: Decimal
    kind: Kind
    scope: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Dimension -> value, all must hold; empty: all calls."""

    @property
    def series(self) -> dict[str, str]:
        """The series of its alerts."""
        return {"budget": self.name, **self.scope}

    @property
    def where(self) -> str:
        """The scope in words."""
        return ", ".join(f"{name} {value}" for name, value in self.scope.items()) or "all calls"


def read_budgets(tables: Sequence[Mapping[str, Any]]) -> tuple[Budget, ...]:
    """Return the budgets of the setting ``budgets``.

    Raises:
        SettingsError: a key, an amount, a period or a scope is wrong, or two budgets have one name.
    """
    found: dict[str, Budget] = {}
    for number, table in enumerate(tables, 1):
        where = f"budgets[{number}]"
        budget = _budget(where, table)
        if budget.name in found:
            raise SettingsError(f"{where}.name", f"two budgets are called {budget.name!r}", "name each of them")
        found[budget.name] = budget
    return tuple(found.values())


def _budget(where: str, table: Mapping[str, Any]) -> Budget:
    known = ("usd", "period", "name", *SCOPES)
    for key, value in table.items():
        if key not in known:
            raise SettingsError(f"{where}.{key}", "no such key", f"use {', '.join(known)}")
        if key != "usd" and not (isinstance(value, str) and value.strip()):
            raise SettingsError(f"{where}.{key}", f"cannot be {value!r}", "give a text that is not empty")
    kind = table.get("period", "month")
    if kind not in KINDS:
        raise SettingsError(f"{where}.period", f"cannot be {kind!r}", f"use one of {', '.join(KINDS)}")
    scope = {name: str(table[name]) for name in SCOPES if name in table}
    words = ", ".join(f"{name} {value}" for name, value in scope.items()) or "all calls"
    return Budget(str(table.get("name", f"{words}, a {kind}")), _usd(where, table.get("usd")), kind, scope)


def _usd(where: str, value: Any) -> Decimal:
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        usd = Decimal("NaN")
    if isinstance(value, bool) or not usd.is_finite() or not 0 < usd <= _MOST_USD:
        raise SettingsError(f"{where}.usd", f"cannot be {value!r}", "give an amount in USD above 0, such as 500")
    return usd
