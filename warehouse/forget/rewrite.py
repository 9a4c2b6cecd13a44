"""Files without the rows that were deleted from them, and a catalog that keeps no value of these."""

from __future__ import annotations

import duckdb

from schemas.tables import TABLES
from warehouse.storage.connect import LAKE
from warehouse.upkeep.merge import META, TARGET_BYTES
from warehouse.upkeep.pace import Pace

_TABLE = f"(SELECT table_id FROM {META}.ducklake_table WHERE table_name = $1 AND end_snapshot IS NULL)"
_DELETED = f"""
SELECT count(*) AS n FROM {META}.ducklake_delete_file WHERE end_snapshot IS NULL AND table_id = {_TABLE}
"""
_STALE = f"""
WITH files AS (
    SELECT s.column_id, min(s.min_value) AS least, max(s.max_value) AS greatest
    FROM {META}.ducklake_file_column_stats AS s JOIN {META}.ducklake_data_file AS f USING (data_file_id)
    WHERE f.table_id = {_TABLE} AND f.end_snapshot IS NULL GROUP BY 1
)
SELECT count(*) AS n FROM {META}.ducklake_table_column_stats AS t
JOIN {META}.ducklake_column AS c ON c.table_id = t.table_id AND c.column_id = t.column_id AND c.end_snapshot IS NULL
LEFT JOIN files AS f ON f.column_id = t.column_id
WHERE t.table_id = {_TABLE} AND c.column_type = 'varchar' AND t.min_value IS NOT NULL
    AND (f.least IS NULL OR t.min_value < f.least OR t.max_value > f.greatest)
"""
_FIRST = {table.name: table.columns[0].name for table in TABLES}


def rewrite(pace: Pace, table: str) -> None:
    """Write the files of ``table`` that have deleted rows again, without these.

    DuckLake computes the least and greatest values of the whole table afresh with it (tried on 1.5.5); an insert, a
    deletion or a merge only widens them.
    """
    if not pace.lake.query(_DELETED, [table])["n"][0].as_py():
        return

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"SET ducklake_target_file_size = '{TARGET_BYTES:d}B'")
        connection.execute(f"FROM ducklake_rewrite_data_files('{LAKE}', '{table}', delete_threshold => 0)").fetchall()

    pace.run(body)


def renew(pace: Pace, table: str) -> None:
    """Let the catalog compute the least and greatest values of ``table`` afresh, where they are no row's any more.

    A file of which every row is deleted ends without a rewrite. Then one row of the smallest other file is replaced by
    itself, so that there is a file to write again.
    """
    if not pace.lake.query(_STALE, [table])["n"][0].as_py():
        return
    by_size = f"SELECT data_file FROM ducklake_list_files('{LAKE}', '{table}') ORDER BY data_file_size_bytes LIMIT 1"
    files = pace.lake.query(by_size)["data_file"].to_pylist()

    def touch(connection: duckdb.DuckDBPyConnection) -> None:
        row = f"SELECT min(rowid) FROM {table} WHERE filename = $1"
        first = _FIRST[table]
        by_itself = f'UPDATE {table} SET "{first}" = "{first}" WHERE filename = $1 AND rowid = ({row})'
        connection.execute(by_itself, files).fetchall()

    if files:
        pace.run(touch)
        rewrite(pace, table)
