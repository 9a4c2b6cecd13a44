"""Small files into larger ones, a table and day partition at a time.

Merging changes no row: a merged file has the snapshot of every row, so that older snapshots read the same.
On a SQLite catalog DuckLake cannot commit a merge when another writer committed since it began (``database is
locked``), so a merge is cut into slices that fit under the commit lock: few files, and few bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import structlog

from schemas.tables import LEDGER, TABLES
from warehouse.errors import LakeBusyError
from warehouse.lake import Lake
from warehouse.storage.connect import LAKE
from warehouse.upkeep.pace import Pace

log = structlog.get_logger(__name__)
META = f"__ducklake_metadata_{LAKE}"
TARGET_BYTES = 8 << 20
"""A file this large is left alone: about what one slice reads and writes (8 MiB is 20,000 calls of 2 KB text)."""
_LEAST_BYTES = 256 << 10
# the groups are DuckLake's own: schema version and partition; a file with deletes never merges
_GROUPS = f"""
WITH versions AS (SELECT begin_snapshot, schema_version FROM {META}.ducklake_schema_versions WHERE table_id = $1),
days AS (
    SELECT data_file_id, string_agg(partition_value, '/' ORDER BY partition_key_index) AS day
    FROM {META}.ducklake_file_partition_value WHERE table_id = $1 GROUP BY ALL
),
files AS (
    SELECT f.data_file_id, f.file_size_bytes AS bytes, v.schema_version, f.partition_id, d.day
    FROM {META}.ducklake_data_file AS f
    ASOF LEFT JOIN versions AS v ON f.begin_snapshot >= v.begin_snapshot
    LEFT JOIN days AS d USING (data_file_id)
    WHERE f.table_id = $1 AND f.end_snapshot IS NULL AND f.file_size_bytes < $2 AND f.begin_snapshot <= $4
      AND NOT EXISTS (FROM {META}.ducklake_delete_file AS x WHERE x.data_file_id = f.data_file_id)
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY schema_version, partition_id, day ORDER BY bytes) AS nth FROM files
)
SELECT count(*)::BIGINT AS files, least(sum(bytes) FILTER (nth <= $3), $2)::BIGINT AS target FROM ranked
GROUP BY schema_version, partition_id, day HAVING count(*) >= 2
"""


@dataclass(frozen=True)
class Merged:
    """What merging did to one table."""

    table: str
    files_before: int
    files_after: int
    slices: int
    done: bool
    """False where the caller stopped it, or others left it no time; the rest is the next run's."""


def merge(pace: Pace, table: str, *, target_bytes: int = TARGET_BYTES) -> Merged:
    """Merge the small files that ``table`` has now, until a day has at most one below ``target_bytes``.

    Where others commit too often for even two files to be merged in between, smaller ones only, or none: ``done`` is
    False then, and the next run continues.

    Raises:
        ValueError: not a table of ours, or the ledger: its inlined rows are never flushed.
    """
    if table not in {t.name for t in TABLES if t is not LEDGER}:
        raise ValueError(f"cannot merge {table}: not a table that has files")
    table_id = _table_id(pace, table)
    before, slices = _files(pace, table_id), pace.slices
    # what lands from now on is the next run's: else a merge under load never ends
    newest = pace.lake.query(f"SELECT max(snapshot_id) AS n FROM {META}.ducklake_snapshot")["n"][0].as_py()
    done, wanted = False, target_bytes
    while not pace.stopped:
        rows = pace.lake.query(_GROUPS, [table_id, target_bytes, pace.size, newest]).to_pylist()
        if not rows:
            done = target_bytes == wanted
            break
        try:
            moved = _slice(pace, table, min(row["target"] for row in rows))
        except LakeBusyError as error:
            # two files of half the size are half the work; larger ones are merged when the load is lower
            target_bytes //= 2
            if target_bytes < _LEAST_BYTES:
                log.warning("merge_postponed", table=table, cause=str(error))
                break
            continue
        if not moved:
            log.warning("merge_stood_still", table=table, groups=len(rows))
            break
    after = _files(pace, table_id) if pace.slices > slices else before
    if pace.slices > slices:
        log.info("files_merged", table=table, before=before, after=after, slices=pace.slices - slices)
    return Merged(table, before, after, pace.slices - slices, done)


def count_files(lake: Lake) -> int:
    """Return how many data files the newest snapshot reads."""
    sql = f"SELECT count(*) AS n FROM {META}.ducklake_data_file WHERE end_snapshot IS NULL"
    return int(lake.query(sql)["n"][0].as_py())


def _slice(pace: Pace, table: str, target: int) -> bool:
    """Write one file out of those below ``target`` bytes; return whether there was anything to do.

    DuckLake takes files in the order they came until they make up ``target``; ``target`` is the sum of the smallest
    files of one group, so no group gives more of them than a slice takes.
    """
    found: list[bool] = []

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        found.clear()
        connection.execute(f"SET ducklake_target_file_size = '{target:d}B'")
        sql = f"FROM ducklake_merge_adjacent_files('{LAKE}', '{table}', max_compacted_files => 1)"
        found.append(bool(connection.execute(sql).fetchall()))

    return not pace.attempt(body) or any(found)


def _table_id(pace: Pace, table: str) -> int:
    sql = f"SELECT table_id FROM {META}.ducklake_table WHERE table_name = $1 AND end_snapshot IS NULL"
    return int(pace.lake.query(sql, [table])["table_id"][0].as_py())


def _files(pace: Pace, table_id: int) -> int:
    sql = f"SELECT count(*) AS n FROM {META}.ducklake_data_file WHERE table_id = $1 AND end_snapshot IS NULL"
    return int(pace.lake.query(sql, [table_id])["n"][0].as_py())
