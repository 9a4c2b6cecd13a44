"""Copy a lake, catalog and data, into another: to PostgreSQL and a bucket, into a backup, and back out of one.

The source is read at one snapshot and never written to. The target gets table after table, day after day, a
transaction each, and every one is compared row by row after its commit. Run again, it passes over what is there and
equal, and continues. The ledger comes last: before it, nothing lands in the target. Snapshots for time travel stay
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import duckdb

from schemas.errors import FatalError
from schemas.faults import point
from schemas.tables import LEDGER, TABLES, Table
from warehouse.errors import LakeUnavailableError, first_line, without_password
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, attach_statement, configure, load_extensions
from warehouse.unfinished_copy import first_with_rows

ORIGIN = "origin"
Progress = Callable[[str, int], None]
"""Called after every part with its name and its rows."""


class LakeDiffersError(FatalError):
    """The target has rows that the source has not, or others in their place."""

    def __init__(self, target: str, part: str, cause: str) -> None:
        super().__init__(f"cannot copy {part} into {target}: {cause}; name an empty catalog and an empty folder")


class LakeIncompleteError(FatalError):
    """The source is a copy that did not finish."""

    def __init__(self, source: str, table: str) -> None:
        super().__init__(
            f"lake {source} is not whole: {table} has rows, and no position has landed; the copy that made it did not "
            "finish: run that again, or name another backup"
        )


@dataclass(frozen=True)
class Part:
    """What one transaction copies: a table, or one day of it."""

    table: Table
    day: date | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.table.name} {self.day}" if self.day else self.table.name

    @property
    def where(self) -> str:
        """Its rows."""
        if self.table.partition_by != "day":
            return ""
        return f" WHERE day = DATE '{self.day}'" if self.day else " WHERE day IS NULL"


@dataclass
class Copied:
    """What was done."""

    snapshot: int
    parts: int = 0
    rows: int = 0
    copied: int = 0
    """Rows that were written; the others were there and equal."""


def copy_lake(
    source: LakeConfig, target: LakeConfig, *, now: Callable[[], int], progress: Progress = lambda part, rows: None
) -> Copied:
    """Copy every table of ``source`` into ``target``, which is new, or what an earlier try began.

    Raises:
        LakeDiffersError: the target holds something else, or land began to write there.
        LakeIncompleteError: the source is itself a copy that did not finish.
        LakeUnavailableError: one of the two does not answer; run it again.
        LakeMissingError: there is no source.
    """
    with Lake.open(target, now=now) as lake:
        _attach(lake.connection, source)
        snapshot = _snapshot(lake.connection)
        done = Copied(snapshot)
        _refuse_half(lake.connection, source, snapshot)
        _refuse_another(lake, snapshot)
        for part in (*_parts(lake.connection, snapshot), Part(LEDGER)):
            try:
                rows, written = _copy(lake, source, part, snapshot)
            except duckdb.Error as error:
                raise LakeUnavailableError(target.name, f"copy {part.name} into", _plain(error)) from error
            done.parts, done.rows, done.copied = done.parts + 1, done.rows + rows, done.copied + written
            progress(part.name, rows)
    return done


def _attach(connection: duckdb.DuckDBPyConnection, source: LakeConfig) -> None:
    """Attach the source beside the target, read-only."""
    load_extensions(connection, source)
    configure(connection, source, name="origin_bucket")
    try:
        connection.execute(attach_statement(source, read_only=True, name=ORIGIN))
    except duckdb.Error as error:
        raise LakeUnavailableError(source.name, "attach", _plain(error)) from error


def _snapshot(connection: duckdb.DuckDBPyConnection) -> int:
    (found,) = connection.execute(f"SELECT max(snapshot_id) FROM ducklake_snapshots('{ORIGIN}')").fetchone() or (0,)
    return int(found)


def _parts(connection: duckdb.DuckDBPyConnection, snapshot: int) -> Iterator[Part]:
    sql = "SELECT table_name FROM duckdb_tables() WHERE database_name = ?"
    there = {name for (name,) in connection.execute(sql, [ORIGIN]).fetchall()}
    for table in TABLES:
        if table.name not in there or table.name == LEDGER.name:
            continue
        if table.partition_by != "day":
            yield Part(table)
            continue
        days = connection.execute(f"SELECT DISTINCT day FROM {_origin(table, snapshot)} ORDER BY day").fetchall()
        for (day,) in days:
            yield Part(table, day)


def _refuse_another(lake: Lake, snapshot: int) -> None:
    """Refuse a target that something else landed in."""
    if not lake.ledger():
        return
    if _differing(lake.connection, Part(LEDGER), snapshot):
        raise LakeDiffersError(lake.config.name, LEDGER.name, "events have landed there")


def _refuse_half(connection: duckdb.DuckDBPyConnection, source: LakeConfig, snapshot: int) -> None:
    """Refuse a source that an interrupted copy left: its ledger, which comes last, is not there."""
    if _count(connection, _origin(LEDGER, snapshot)):
        return
    tables = [part.table for part in _parts(connection, snapshot)]
    if table := first_with_rows(connection, {t.name: _origin(t, snapshot) for t in tables}):
        raise LakeIncompleteError(source.name, table)


def _copy(lake: Lake, source: LakeConfig, part: Part, snapshot: int) -> tuple[int, int]:
    """Copy one part and compare it; return its rows, and how many were written."""
    rows = _count(lake.connection, f"{_origin(part.table, snapshot)}{part.where}")
    have = _count(lake.connection, f"{part.table.name}{part.where}")
    written = 0
    if rows == have == 0:
        return 0, 0
    if have == 0:
        if part.table is not LEDGER:
            _refuse_another(lake, snapshot)  # land was started between the two
        columns = ", ".join(f'"{name}"' for name in _columns(lake.connection, part.table))
        order = f" ORDER BY {', '.join(part.table.sorted_by)}" if part.table.sorted_by else ""
        sql = (
            f"INSERT INTO {part.table.name} ({columns}) SELECT {columns} "
            f"FROM {_origin(part.table, snapshot)}{part.where}{order}"
        )
        lake.transact(
            lambda connection: _insert(connection, source, sql), was_committed=lambda: _landed(lake, part, rows)
        )
        point("copy.after_commit")
        written = rows
        _attach_again(lake.connection, source)
    if differing := _differing(lake.connection, part, snapshot):
        raise LakeDiffersError(lake.config.name, part.name, f"{differing} rows there differ from those of the source")
    return rows, written


def _insert(connection: duckdb.DuckDBPyConnection, source: LakeConfig, sql: str) -> None:
    _attach_again(connection, source)
    connection.execute(sql)
    point("copy.after_insert")


def _attach_again(connection: duckdb.DuckDBPyConnection, source: LakeConfig) -> None:
    """Attach the source where the session has another connection since an error."""
    known = connection.execute("SELECT 1 FROM duckdb_databases() WHERE database_name = ?", [ORIGIN]).fetchone()
    if not known:
        _attach(connection, source)


def _landed(lake: Lake, part: Part, rows: int) -> bool:
    return _count(lake.connection, f"{part.table.name}{part.where}") == rows


def _differing(connection: duckdb.DuckDBPyConnection, part: Part, snapshot: int) -> int:
    """Count rows that only one of the two has, each as often as it occurs."""
    columns = ", ".join(f'"{name}"' for name in _columns(connection, part.table))
    here = f"SELECT {columns} FROM {part.table.name}{part.where}"
    there = f"SELECT {columns} FROM {_origin(part.table, snapshot)}{part.where}"
    return _count(connection, f"(({here}) EXCEPT ALL ({there}))") + _count(
        connection, f"(({there}) EXCEPT ALL ({here}))"
    )


def _columns(connection: duckdb.DuckDBPyConnection, table: Table) -> list[str]:
    """Return the columns of ``table`` that the source has; a newer Tailrace may have more."""
    sql = "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND table_name = ?"
    there = {row[0] for row in connection.execute(sql, [ORIGIN, table.name]).fetchall()}
    return [column.name for column in table.columns if column.name in there]


def _origin(table: Table, snapshot: int) -> str:
    return f"{ORIGIN}.{table.name} AT (VERSION => {snapshot})"


def _count(connection: duckdb.DuckDBPyConnection, what: str) -> int:
    return int((connection.execute(f"SELECT count(*) FROM {what}").fetchone() or (0,))[0])


def _plain(error: Exception) -> str:
    return without_password(first_line(error))
