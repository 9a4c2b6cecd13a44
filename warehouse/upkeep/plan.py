"""What retention would drop: counted, and nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from warehouse.errors import LakeUnavailableError, first_line
from warehouse.migrate import require_current
from warehouse.query.reading import reading
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep.retention import RETAINED


@dataclass(frozen=True)
class OldDays:
    """One table, and what of it is older than it is kept."""

    table: str
    keeps_days: int | None
    """None: without limit."""
    before: date | None
    """Days before this one would go."""
    days: int
    rows: int
    """Rows that would go."""
    left: int
    """Rows that would stay."""
    oldest: date | None
    """Oldest day that there is."""


def old_days(config: LakeConfig, retention_days: Mapping[str, int], *, today: date) -> list[OldDays]:
    """Return what `drop_old_days` would drop today, for every table that may have a retention.

    Raises:
        LakeMissingError: no lake there.
        LakeOlderError: no Tailrace of this version has written to it yet.
        LakeUnavailableError: it does not answer; retry.
    """
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            return [_of(connection, table, retention_days.get(table), today) for table in RETAINED]
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailableError(config.name, "count the days of", first_line(error)) from error


def _of(connection: duckdb.DuckDBPyConnection, table: str, kept: int | None, today: date) -> OldDays:
    before = None if kept is None else today - timedelta(days=kept)
    sql = (
        "SELECT count(DISTINCT day) FILTER (day < $1), count(*) FILTER (day < $1), count(*), min(day) "
        f"FROM {table} WHERE day IS NOT NULL"
    )
    days, rows, every, oldest = connection.execute(sql, [before or date.min]).fetchone() or (0, 0, 0, None)
    return OldDays(table, kept, before, days, rows, every - rows, oldest)
