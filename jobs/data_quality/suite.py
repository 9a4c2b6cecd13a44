"""What is expected of a table, and what one run found. Values only; Great Expectations is not imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from schemas.alerts import Severity

HOUR_US = 3_600_000_000
State = Literal["passed", "failed", "unknown", "error"]
"""unknown: there was nothing to judge, such as no rows or too little history. error: it could not be judged."""


@dataclass(frozen=True)
class Window:
    """Rows that landed from ``since`` until before ``until``, judged at ``now``; µs UTC."""

    since: int
    until: int
    now: int

    @staticmethod
    def before(now: int) -> Window:
        """Return the last whole hour."""
        until = now // HOUR_US * HOUR_US
        return Window(until - HOUR_US, until, now)

    @staticmethod
    def at(hour: int, now: int) -> Window:
        """Return the whole hour that holds ``hour``, as if judged when it was over for 12 minutes, at most ``now``."""
        since = hour // HOUR_US * HOUR_US
        return Window(since, since + HOUR_US, min(now, since + HOUR_US + HOUR_US // 5))

    def sql(self, text: str) -> str:
        """Return ``text`` with its times: ``$since``, ``$until`` and ``$now`` become literals."""
        for name in ("since", "until", "now"):
            text = text.replace(f"${name}", f"TIMESTAMPTZ '{_moment(getattr(self, name))}'")
        return text


@dataclass(frozen=True)
class Check:
    """One expectation: a type of Great Expectations with its arguments."""

    name: str
    """Unique in its suite; part of the fingerprint of the alert."""
    description: str
    """What holds where all is well, one sentence."""
    type: str
    """Such as ``expect_column_values_to_not_be_null``."""
    kwargs: Mapping[str, Any]
    severity: Severity = "warning"
    failing: str = ""
    """SELECT of what fails, whose first column is the observed number; empty: made from type and kwargs."""
    unit: str = "rows"
    """Of the observed number."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the batch that the expectation reads."""
        named = [self.kwargs.get(key) for key in ("column", "column_A", "column_B", "ignore_row_if_column")]
        for key in ("column_list", "column_set"):
            named += list(self.kwargs.get(key) or ())
        return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


@dataclass(frozen=True)
class Suite:
    """What is expected of one table: of its rows one by one, and of measures over all of them."""

    name: str
    """Name of the table for people: calls, feedback, ..."""
    table: str
    """Table of the lake whose rows are judged."""
    rows: tuple[Check, ...] = ()
    where: str = "_landed_at >= $since AND _landed_at < $until AND NOT coalesce(_dup, false)"
    """Which rows are judged."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the batch: name -> SQL expression."""
    measures: str = ""
    """SELECT of one row a scope: ``scope`` (empty: everything, else an app) and the measures. NULL is not judged."""
    measured: tuple[Check, ...] = ()
    sql: str = ""
    """SELECT that makes the batch of rows; empty: the rows of ``table``."""
    file: str = ""
    """File of the user that declares it; empty: shipped."""


@dataclass(frozen=True)
class Outcome:
    """What one run found of one expectation."""

    suite: str
    check: str
    description: str
    type: str
    severity: Severity
    state: State
    failing: int | None
    """Rows or scopes that fail; None: not counted."""
    judged: int
    """Rows or scopes that were judged."""
    rows: int
    """Rows or scopes that there are."""
    observed: float | None
    """What the SQL returns in its first column, where the expectation failed."""
    unit: str
    sampled: bool = False
    """Whether a sample of the rows was judged."""
    scopes: tuple[str, ...] = ()
    """Apps that fail, where measures are judged app by app."""
    sql: str = ""
    """Returns the failing rows."""
    detail: str = ""
    """Why it could not be judged, or what was observed."""

    @property
    def key(self) -> str:
        """Name that settings and alerts use."""
        return f"{self.suite}.{self.check}"


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%S.%f+00}"
