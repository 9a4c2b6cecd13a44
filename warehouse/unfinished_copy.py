"""Whether a lake is a copy that did not finish: rows without positions. Nothing may land there."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from schemas.errors import FatalError
from schemas.tables import TABLES

_LANDED = tuple(table.name for table in TABLES if any(column.name == "_offset" for column in table.columns))


class LakeUnfinishedError(FatalError):
    """A lake has rows of records, and its ledger is empty: `lake move` or `lake restore` was interrupted."""

    def __init__(self, catalog: str, table: str) -> None:
        self.catalog, self.table = catalog, table
        super().__init__(
            f"cannot land into lake {catalog}: {table} has rows, and the ledger has no position; a copy into this lake "
            "did not finish: run `tailrace lake move` or `tailrace lake restore` again, and start land after it"
        )


def first_with_rows(connection: duckdb.DuckDBPyConnection, names: Mapping[str, str]) -> str:
    """Return the first table of landed records that has a row; "" where none has. ``names``: table -> as SQL has it."""
    for table in _LANDED:
        if table in names and connection.execute(f"SELECT 1 FROM {names[table]} LIMIT 1").fetchone():
            return table
    return ""


def require_whole(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Refuse a lake without positions that has rows of records.

    Raises:
        LakeUnfinishedError: a copy into it did not finish.
    """
    if table := first_with_rows(connection, {name: name for name in _LANDED}):
        raise LakeUnfinishedError(catalog, table)
