"""Rows that are too old, by whole days: their files are dropped, none is rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import duckdb
import structlog

from schemas.tables import (
    DEAD,
    DEAD_BYTES,
    EMBEDDINGS,
    EVENT_TABLES,
    NO_RECORD_RANGES,
    RAW_CALLS,
    ROLLUPS,
    TICKS,
)
from schemas.topics import EVENTS
from warehouse.upkeep.pace import Pace

log = structlog.get_logger(__name__)
_TOPIC_OF = {
    **{table.name: f"'{EVENTS}'" for table in EVENT_TABLES},
    DEAD.name: "topic",
    NO_RECORD_RANGES.name: "topic",
}
"""Tables whose rows prove positions -> SQL for the topic of a row."""
RETAINED = (*(table.name for table in (ROLLUPS, TICKS, EMBEDDINGS, DEAD_BYTES)), *_TOPIC_OF)
"""Tables that may lose old days."""


def invalid_retention(days: Mapping[str, int]) -> list[str]:
    """Return which of these retentions cannot be: of a table that has none, or one that would take today's rows."""
    return sorted(table for table, kept in days.items() if table not in RETAINED or kept < 1)


def drop_old_days(pace: Pace, table: str, *, before: date, at: datetime) -> int:
    """Delete the days of ``table`` before ``before``, oldest first, a day a slice; return how many rows went.

    What goes from calls, feedback, evals and dead is recorded in ``retired_days`` by the same transaction, so that
    ``verify`` can still account for every position.

    Raises:
        ValueError: a table without days.
    """
    if table not in RETAINED:
        raise ValueError(f"cannot drop days of {table}: only {', '.join(RETAINED)} have a retention")
    gone = 0
    days = pace.lake.query(f"SELECT day, count(*) AS n FROM {table} WHERE day < $1 GROUP BY 1 ORDER BY 1", [before])
    for row in days.to_pylist():
        if pace.stopped:
            break
        pace.run(_Day(table, row["day"], at))
        gone += row["n"]
        log.info("day_dropped", table=table, day=str(row["day"]), rows=row["n"])
    if table == RAW_CALLS.name and not pace.stopped:
        _drop_corrections(pace, before)
    return gone


def _drop_corrections(pace: Pace, before: date) -> None:
    """Drop what was corrected with what it corrected, also what a re-pricing wrote while its day was dropped."""
    if pace.lake.query("SELECT count(*) AS n FROM cost_adjustments WHERE day < $1", [before])["n"][0].as_py():
        pace.run(lambda connection: _drop(connection, "cost_adjustments", "day < $1", before))


def _drop(connection: duckdb.DuckDBPyConnection, table: str, which: str, day: date) -> None:
    connection.execute(f"DELETE FROM {table} WHERE {which}", [day]).fetchall()


def _counted(table: str) -> str:
    """Return SQL for the number of positions of the rows of ``table``, the first, and the one after the last."""
    if table == NO_RECORD_RANGES.name:
        return "sum(to_offset - from_offset)::BIGINT, min(from_offset), max(to_offset)"
    return "count(*), min(_offset), max(_offset) + 1"


class _Day:
    """One day of one table as the body of a slice."""

    def __init__(self, table: str, day: date, at: datetime) -> None:
        self._table, self._day, self._at = table, day, at

    def __call__(self, connection: duckdb.DuckDBPyConnection) -> None:
        if topic := _TOPIC_OF.get(self._table):
            connection.execute(
                'INSERT INTO retired_days (topic, "table", day, _epoch, _partition, positions, from_offset, to_offset, '
                "retired_at) "
                f"SELECT {topic}, $1, day, _epoch, _partition, {_counted(self._table)}, $3 "
                f"FROM {self._table} WHERE day = $2 GROUP BY ALL",
                [self._table, self._day, self._at],
            )
        _drop(connection, self._table, "day = $1", self._day)
        if self._table == RAW_CALLS.name:  # in the same transaction: verify finds no correction without its call
            _drop(connection, "cost_adjustments", "day = $1", self._day)
