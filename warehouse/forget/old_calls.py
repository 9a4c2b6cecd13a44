"""Calls of one app that are too old leave, with what hangs on them: files hold other apps too, so they are rewritten.

A retention by table drops whole days and bounds this one: it runs first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa

from schemas.tables import DEAD, DEAD_BYTES, EMBEDDINGS, RAW_CALLS, RAW_EVALS, RAW_FEEDBACK
from warehouse.connect import LakeConfig
from warehouse.errors import LakeUnavailableError, first_line
from warehouse.forget import rules
from warehouse.forget.calls import all_of
from warehouse.forget.erase import Eraser
from warehouse.forget.who import CALLS
from warehouse.migrate import require_current
from warehouse.reading import reading
from warehouse.upkeep.pace import Pace

OTHERS = "*"
"""Stands for every app that is not named."""
_OF_APP = "app = getvariable('old_app')"
_OF_OTHERS = "app IS NOT NULL AND NOT list_contains(getvariable('named_apps'), app)"
_BY_AGE = (RAW_CALLS.name, RAW_FEEDBACK.name, RAW_EVALS.name, EMBEDDINGS.name, DEAD.name)
"""Tables whose rows go by their own app and day; the others follow them."""


@dataclass(frozen=True)
class OldCalls:
    """Calls of an app before a day. A `Chosen`: DuckDB folds the variables, so that it skips files by them."""

    app: str
    """Name of an app, or `OTHERS`."""
    before: date
    named: tuple[str, ...] = ()
    """Apps that are not among the others."""
    since: date = date.min
    """Calls of earlier days are left out: a retention by table takes them."""

    @property
    def old(self) -> str:
        """SQL for whether a row with an app and a day is too old."""
        return f"(day < getvariable('old_before') AND {_OF_OTHERS if self.app == OTHERS else _OF_APP})"

    @property
    def calls(self) -> str:
        """SQL for whether a row of raw_calls goes."""
        return f"({self.old} AND day >= getvariable('old_since'))"

    def bind(self, connection: duckdb.DuckDBPyConnection, calls: pa.Table | None = None) -> None:
        """Give ``connection`` what the SQL names, and ``calls`` as ``gone_calls``."""
        connection.execute("SET VARIABLE old_app = $1::VARCHAR", [self.app])
        connection.execute("SET VARIABLE named_apps = $1::VARCHAR[]", [list(self.named)])
        connection.execute("SET VARIABLE old_before = $1::DATE", [self.before])
        connection.execute("SET VARIABLE old_since = $1::DATE", [self.since])
        connection.register("gone_calls", CALLS.empty_table() if calls is None else calls)

    def any_in(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether there is a row that is too old."""
        self.bind(connection)
        tables = (f"EXISTS (FROM {table} WHERE {self.old})" for table in _BY_AGE)
        return bool((connection.execute(f"SELECT {' OR '.join(tables)}").fetchone() or (False,))[0])


@dataclass(frozen=True)
class OldApp:
    """What of one app is older than it is kept."""

    app: str
    keeps_days: int
    before: date
    """Days before this one go."""
    rows: dict[str, int] = field(default_factory=dict)
    """Table -> rows that would go. What hangs on calls of another app is counted with both."""


def unkeepable_apps(apps: Mapping[str, int], days: Mapping[str, int]) -> list[str]:
    """Return what of ``apps`` cannot be: nameless, below a day, or longer than the table of calls keeps any app."""
    longest = days.get(RAW_CALLS.name)
    return sorted(app for app, kept in apps.items() if not app or kept < 1 or (longest is not None and kept > longest))


def old_apps(config: LakeConfig, apps: Mapping[str, int], days: Mapping[str, int], *, today: date) -> list[OldApp]:
    """Return what `drop_old_calls` would drop today, app by app, after the retentions by table ran.

    Args:
        config: where the lake is.
        apps: app, or `OTHERS` -> days that it is kept.
        days: table -> days that it is kept.
        today: UTC.

    Raises:
        LakeMissingError: no lake there.
        LakeOlderError: no Tailrace of this version has written to it yet.
        LakeUnavailableError: it does not answer; retry.
    """
    floors = {table: today - timedelta(days=kept) for table, kept in days.items()}
    # bytes are found by their letters
    floors[DEAD_BYTES.name] = max(floors.get(each.name, date.min) for each in (DEAD, DEAD_BYTES))
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            connection.execute("BEGIN TRANSACTION")  # one snapshot
            return [
                OldApp(old.app, apps[old.app], old.before, _count(connection, old, floors))
                for old in _all(apps, today, since=floors.get(RAW_CALLS.name, date.min))
            ]
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailableError(config.name, "count the days of", first_line(error)) from error


def _all(apps: Mapping[str, int], today: date, *, since: date = date.min) -> list[OldCalls]:
    named = tuple(sorted(app for app in apps if app != OTHERS))
    return [OldCalls(app, today - timedelta(days=kept), named, since) for app, kept in sorted(apps.items())]


def _count(connection: duckdb.DuckDBPyConnection, old: OldCalls, floors: Mapping[str, date]) -> dict[str, int]:
    found: Counter[str] = Counter()

    def add(rule: rules.Rule, besides: str = "") -> None:
        sql = f"SELECT count(*) FROM {rule.table} WHERE {rule.which}{besides} AND day >= $1"
        found[rule.table] += (connection.execute(sql, [floors.get(rule.table, date.min)]).fetchone() or (0,))[0]

    if old.any_in(connection):
        for rule in rules.aged(old.old):
            add(rule)
        for calls in all_of(connection, old):
            old.bind(connection, calls)
            for rule in rules.hanging():
                add(rule, "" if rule.table == RAW_CALLS.name else f" AND NOT coalesce({old.old}, false)")
    return {table: rows for table, rows in found.items() if rows}


def drop_old_calls(pace: Pace, apps: Mapping[str, int], *, today: date, at: datetime) -> dict[str, dict[str, int]]:
    """Remove what is older than its app is kept; return app -> table -> rows that went. Safe to kill anywhere.

    Calls go with feedback, evals, embeddings, corrections of their cost and reports of the same calls by others;
    feedback, evals, embeddings and dead letters of the app also by their own day. Other tables stay.

    Args:
        pace: of a lake opened with ``lander=False``; on a SQLite catalog under the lock of upkeep.
        apps: app, or `OTHERS` -> days that it is kept.
        today: UTC.
        at: when, for ``retired_days``.

    Raises:
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog or a file does not answer.
    """
    return {old.app: _drop(pace, old, at) for old in _all(apps, today) if not pace.stopped}


def _drop(pace: Pace, old: OldCalls, at: datetime) -> dict[str, int]:
    aged, hanging = rules.aged(old.old), rules.hanging()
    eraser = Eraser(pace, old, at=at, tables={table for rule in (*aged, *hanging) for table in rule.tables})
    eraser.rewrite_all()
    with pace.lake.reading() as reader:
        there = old.any_in(reader)
    if there:
        for rule in aged:
            eraser.erase(rule)
        for calls in eraser.groups():
            for rule in hanging:
                eraser.erase(rule, calls)
    return {table: rows for table, rows in eraser.rows.items() if rows}
