"""The calls to delete, some days at a time, so that their ids always fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import duckdb
import pyarrow as pa

from warehouse.forget.who import CALLS, Chosen

MOST = 1_000_000
"""Ids held at once: 100 bytes each."""
_PLACE = "(c._epoch, c._partition, c._offset)"


def days(connection: duckdb.DuckDBPyConnection, chosen: Chosen, *, most: int = MOST) -> list[list[date]]:
    """Return the days that have calls of ``chosen``, as groups of at most ``most`` calls, or of one day."""
    groups: list[list[date]] = []
    held = 0
    sql = f"SELECT day, count(*) FROM ({calls_sql(chosen)}) GROUP BY 1 ORDER BY 1"
    for day, calls in connection.execute(sql).fetchall():
        if not groups or held + calls > most:
            groups.append([])
            held = 0
        groups[-1].append(day)
        held += calls
    return groups


def calls_of(connection: duckdb.DuckDBPyConnection, chosen: Chosen, group: list[date]) -> pa.Table:
    """Return the calls of ``chosen`` on the days of ``group``: schema CALLS."""
    sql = (
        f"SELECT id::VARCHAR AS id, _epoch, _partition, _offset FROM ({calls_sql(chosen)}) WHERE day = ANY($1::DATE[])"
    )
    return connection.execute(sql, [group]).to_arrow_table().cast(CALLS)


def calls_sql(chosen: Chosen) -> str:
    """Return SQL for their calls and for late duplicates of these: a gateway's report has the texts and no user."""
    return f"""
    SELECT c.id, c.day, c._epoch, c._partition, c._offset FROM raw_calls AS c WHERE {chosen.calls}
    UNION
    SELECT c.id, c.day, c._epoch, c._partition, c._offset FROM raw_calls AS c
    WHERE {_PLACE} IN (
        SELECT (d._epoch, d._partition, d._offset) FROM late_duplicates AS d
        WHERE (d.kept_epoch, d.kept_partition, d.kept_offset) IN (
            SELECT (_epoch, _partition, _offset) FROM raw_calls WHERE {chosen.calls}
        )
    )
    """


def all_of(connection: duckdb.DuckDBPyConnection, chosen: Chosen) -> Iterator[pa.Table]:
    """Yield `calls_of` for every group of days, and one empty table where there are none."""
    chosen.bind(connection)
    groups = days(connection, chosen)
    for group in groups:
        yield calls_of(connection, chosen, group)
    if not groups:
        yield CALLS.empty_table()
