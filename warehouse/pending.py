"""What an upgrade would change in a lake: compared with what this Tailrace declares, and nothing changed."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from schemas.tables import TABLES
from warehouse import migrate
from warehouse.errors import LakeNewerError, LakeUnavailableError, first_line
from warehouse.query.reading import reading
from warehouse.query.shipped_views import VIEWS
from warehouse.storage.connect import LAKE, LakeConfig


@dataclass(frozen=True)
class Pending:
    """How a lake differs from what this Tailrace declares."""

    found: int
    """Version of the lake."""
    known: int
    """Version that this Tailrace writes."""
    current: bool
    """Whether `land` would change nothing."""
    tables: tuple[str, ...]
    """Tables to be made."""
    columns: tuple[str, ...]
    """``table.column`` to be added; NULL in the rows that there are."""
    types: tuple[str, ...]
    """``table.column: FROM to TO`` to be widened."""
    views: tuple[str, ...]
    """Views to be made; views that there are may change as well."""


def pending(config: LakeConfig) -> Pending:
    """Return what the next start of land would change in the lake of ``config``.

    Raises:
        LakeMissingError: no lake there.
        LakeNewerError: a newer Tailrace wrote it: this one must not.
        LakeUnavailableError: it does not answer; retry.
    """
    with reading(config) as (connection, _):
        try:
            return _compared(connection, config.name)
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailableError(config.name, "read the tables of", first_line(error)) from error


def _compared(connection: duckdb.DuckDBPyConnection, name: str) -> Pending:
    have = migrate.columns(connection)
    version, digest = migrate.version(connection) if "lake_version" in have else (0, "")
    if version > migrate.LAKE_VERSION:
        raise LakeNewerError(name, version, migrate.LAKE_VERSION)
    there = [(table, have[table.name]) for table in TABLES if table.name in have]
    views = {
        view
        for (view,) in connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE database_name = ?", [LAKE]
        ).fetchall()
    }
    return Pending(
        version,
        migrate.LAKE_VERSION,
        current=(version, digest) == (migrate.LAKE_VERSION, migrate.digest()),
        tables=tuple(table.name for table in TABLES if table.name not in have),
        columns=tuple(f"{t.name}.{c.name}" for t, known in there for c in t.columns if c.name not in known),
        types=tuple(
            f"{table.name}.{column.name}: {known[column.name]} to {column.duckdb}"
            for table, known in there
            for column in table.columns
            if column.name in known and known[column.name] != migrate.spelled(connection, column.duckdb)
        ),
        views=tuple(q.name for q in VIEWS if not q.parameters and q.name not in views),
    )
