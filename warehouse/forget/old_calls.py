"""Deletes calls of one app that are too old, with the rows that belong to them.

Files hold other apps too, so they are rewritten.

A retention by table drops whole days and bounds this one: it runs first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa

from schemas.tables import DEAD, DEAD_BYTES, EMBEDDINGS, RAW_CALLS, RAW_EVALS, RAW_FEEDBACK
from warehouse.errors import LakeUnavailableError, first_line
from warehouse.forget import rules
from warehouse.forget.calls import all_of
from warehouse.forget.erase import Eraser
from warehouse.forget.rewrite import rewrite
from warehouse.forget.who import CALLS
from warehouse.migrate import require_current
from warehouse.query.reading import reading
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep.pace import Pace

OTHERS = "*"
"""Name for every app that is not named."""
_OF_APP = "app = getvariable('old_app')"  # of one alone DuckDB skips files
_OF_APPS = "list_contains(getvariable('old_apps'), app)"
_OF_OTHERS = "app IS NOT NULL AND NOT list_contains(getvariable('named_apps'), app)"
_BY_AGE = (RAW_CALLS.name, RAW_FEEDBACK.name, RAW_EVALS.name, EMBEDDINGS.name, DEAD.name)
"""Tables whose rows go by their own app and day; the others follow them."""


@dataclass(frozen=True)
class OldCalls:
    """Calls of some apps before a day. A `Chosen`: DuckDB folds the variables, so that it skips files by them."""

    apps: tuple[str, ...]
    """Names of apps, or `OTHERS` alone."""
    before: date
    named: tuple[str, ...] = ()
    """Apps that are not among the others."""
    since: date = date.min
    """Calls of earlier days are left out: a retention by table takes them."""

    @property
    def old(self) -> str:
        """SQL for whether a row with an app and a day is too old."""
        which = _OF_OTHERS if self.apps == (OTHERS,) else _OF_APP if len(self.apps) == 1 else _OF_APPS
        return f"(day < getvariable('old_before') AND {which})"

    @property
    def calls(self) -> str:
        """SQL for whether a row of raw_calls goes."""
        return f"({self.old} AND day >= getvariable('old_since'))"

    def bind(self, connection: duckdb.DuckDBPyConnection, calls: pa.Table | None = None) -> None:
        """Give ``connection`` what the SQL names, and ``calls`` as ``gone_calls``."""
        connection.execute("SET VARIABLE old_app = $1::VARCHAR", [self.apps[0]])
        connection.execute("SET VARIABLE old_apps = $1::VARCHAR[]", [list(self.apps)])
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
    """Days before this one are deleted."""
    rows: dict[str, int] = field(default_factory=dict)
    """Table -> rows that would go. What hangs on calls of another app is counted with both."""


def invalid_app_retention(apps: Mapping[str, int], days: Mapping[str, int]) -> list[str]:
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
    # bytes are found by their dead letters
    floors[DEAD_BYTES.name] = max(floors.get(each.name, date.min) for each in (DEAD, DEAD_BYTES))
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            connection.execute("BEGIN TRANSACTION")  # one snapshot
            return [
                OldApp(app, kept, old.before, _count(connection, old, floors))
                for app, kept in sorted(apps.items())
                for old in _all({app: kept}, today, named=apps, since=floors.get(RAW_CALLS.name, date.min))
            ]
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailableError(config.name, "count the days of", first_line(error)) from error


def _all(apps: Mapping[str, int], today: date, *, named: Collection[str], since: date = date.min) -> Iterator[OldCalls]:
    """Yield those that are kept equally long together: their rows are in the same files."""
    together: dict[tuple[int, bool], list[str]] = {}
    for app, kept in sorted(apps.items()):
        together.setdefault((kept, app == OTHERS), []).append(app)
    others = tuple(sorted(app for app in named if app != OTHERS))
    for (kept, _), alike in together.items():
        yield OldCalls(tuple(alike), today - timedelta(days=kept), others, since)


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
    """Delete rows older than the retention of their app; return apps -> table -> deleted rows. Safe to kill anywhere.

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
    _finish(pace)
    found = _all(apps, today, named=apps)
    return {", ".join(old.apps): _drop(pace, old, at) for old in found if not pace.stopped}


def _finish(pace: Pace) -> None:
    """Write the files again that a killed run left with deleted rows."""
    for table in sorted({table for rule in (*rules.aged("true"), *rules.hanging()) for table in rule.tables}):
        rewrite(pace, table)


def _drop(pace: Pace, old: OldCalls, at: datetime) -> dict[str, int]:
    eraser = Eraser(pace, old, at=at)
    with pace.lake.reading() as reader:
        there = old.any_in(reader)
    if there:
        for rule in rules.aged(old.old):
            eraser.erase(rule)
        for calls in eraser.groups():
            for rule in rules.hanging():
                eraser.erase(rule, calls)
    return {table: rows for table, rows in eraser.rows.items() if rows}
