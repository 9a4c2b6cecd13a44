"""Bring a lake to what ``schemas/tables.py`` and ``warehouse/views`` declare: forward only, in one transaction."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import duckdb
import structlog

from schemas.tables import GOLDEN_CASES, TABLES, Table
from warehouse import ledger
from warehouse.comments import column_doc
from warehouse.errors import LakeNewerError, LakeOlderError, LakeRefusedError, first_line
from warehouse.query.shipped_views import VIEWS
from warehouse.storage.connect import LAKE, quoted

LAKE_VERSION = 1
"""Grows when a lake written by this Tailrace must not be written by an older one."""
log = structlog.get_logger(__name__)
_VERSIONS = (
    "CREATE TABLE IF NOT EXISTS lake_version (version INTEGER, digest VARCHAR, migrated_at TIMESTAMP WITH TIME ZONE)"
)


def migrate(connection: duckdb.DuckDBPyConnection, catalog: str, *, now: int) -> None:
    """Create what is missing, in the caller's transaction; nothing is written where the lake is up to date.

    Raises:
        LakeNewerError: a newer Tailrace wrote the lake.
        LakeRefusedError: a column changed its type in a way that DuckLake cannot follow.
    """
    have = columns(connection)
    here = digest()
    found = version(connection) if "lake_version" in have else (0, "")
    if found[0] > LAKE_VERSION:
        raise LakeNewerError(catalog, found[0], LAKE_VERSION)
    if found == (LAKE_VERSION, here):
        return
    for table in TABLES:
        if table.name not in have:
            _create(connection, table)
        else:
            _extend(connection, table, have[table.name], catalog)
    for question in VIEWS:
        connection.execute(question.statement)
        if not question.parameters:
            connection.execute(f"COMMENT ON VIEW {question.name} IS {quoted(question.doc)}")
    connection.execute(_VERSIONS)
    at = datetime.fromtimestamp(now / 1e6, UTC)
    connection.execute("INSERT INTO lake_version VALUES (?, ?, ?)", [LAKE_VERSION, here, at])
    log.info("lake_migrated", catalog=catalog, version=LAKE_VERSION, was=found[0])


def require_current(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Check, for readers, that the lake has every table and column that this Tailrace declares.

    Raises:
        LakeOlderError: an older Tailrace wrote it, and land has not brought it forward yet.
    """
    have = columns(connection)
    missing = [t.name for t in TABLES if not {c.name for c in t.columns} <= set(have.get(t.name, {}))]
    if missing:
        raise LakeOlderError(catalog, missing)


def set_options(connection: duckdb.DuckDBPyConnection) -> None:
    """Set what DuckLake keeps beside the tables; it takes no option for a table of the running transaction."""
    rows = connection.execute(
        f"SELECT option_name, value, scope_entry FROM ducklake_options('{LAKE}') WHERE scope IN ('GLOBAL', 'TABLE')"
    ).fetchall()
    have = {(name, entry): value for name, value, entry in rows}
    for name, value in (
        ("parquet_compression", "zstd"),
        ("parquet_compression_level", "1"),
        ("sort_on_insert", "false"),
    ):
        if have.get((name, None)) != value:
            connection.execute(f"CALL {LAKE}.set_option({quoted(name)}, {quoted(value)})")
    for table in TABLES:
        option = ("data_inlining_row_limit", f"main.{table.name}")
        if table.inlined and have.get(option) != str(ledger.INLINE_LIMIT):
            ledger.keep_inlined(connection, table.name)


def _create(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    connection.execute(ledger.create_table(table))
    if table.partition_by:
        connection.execute(_partitioned(table))
    _sort(connection, table)
    connection.execute(f"COMMENT ON TABLE {table.name} IS {quoted(table.doc)}")
    for column in table.columns:
        _comment(connection, table, column.name)


def _sort(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Set the sort order of merged files.

    Landed files are not sorted (``set_options``), so that maintain does the work and not land.
    """
    if not table.sorted_by:
        return
    meta = f"__ducklake_metadata_{LAKE}"
    have = connection.execute(
        f"SELECT e.expression FROM {meta}.ducklake_sort_expression AS e JOIN {meta}.ducklake_sort_info AS s "
        f"USING (sort_id, table_id) JOIN {meta}.ducklake_table AS t USING (table_id) "
        "WHERE t.table_name = ? AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL ORDER BY e.sort_key_index",
        [table.name],
    ).fetchall()
    if tuple(name for (name,) in have) != table.sorted_by:
        connection.execute(f"ALTER TABLE {table.name} SET SORTED BY ({', '.join(table.sorted_by)})")


def _partitioned(table: Table) -> str:
    return f"ALTER TABLE {table.name} SET PARTITIONED BY ({table.partition_by})"


def _partition(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Apply ``partition_by`` to files that are written from now on; of golden cases, which are few, to all.

    Their texts go by whole files (``golden_texts``): one that holds several versions would be merged again and again.
    """
    meta = f"__ducklake_metadata_{LAKE}"
    found = connection.execute(
        f"SELECT 1 FROM {meta}.ducklake_partition_column JOIN {meta}.ducklake_partition_info AS p "
        f"USING (partition_id, table_id) JOIN {meta}.ducklake_table AS t USING (table_id) "
        "WHERE t.table_name = ? AND t.end_snapshot IS NULL AND p.end_snapshot IS NULL",
        [table.name],
    ).fetchone()
    if found or not table.partition_by:
        return
    again = table.name == GOLDEN_CASES.name
    if again:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE unparted AS FROM {table.name}")
        connection.execute(f"DELETE FROM {table.name}")
    connection.execute(_partitioned(table))
    if again:
        connection.execute(f"INSERT INTO {table.name} BY NAME FROM unparted")
        connection.execute("DROP TABLE unparted")
    log.info("table_partitioned", table=table.name, by=table.partition_by)


def _extend(connection: duckdb.DuckDBPyConnection, table: Table, have: dict[str, str], catalog: str) -> None:
    for column in table.columns:
        if column.name not in have:
            connection.execute(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {column.duckdb}')
            log.info("column_added", table=table.name, column=column.name)
        elif have[column.name] != spelled(connection, column.duckdb):
            _widen(connection, table, column.name, column.duckdb, catalog)
        _comment(connection, table, column.name)
    _partition(connection, table)
    _sort(connection, table)


def _widen(connection: duckdb.DuckDBPyConnection, table: Table, column: str, kind: str, catalog: str) -> None:
    try:
        connection.execute(f'ALTER TABLE {table.name} ALTER COLUMN "{column}" SET DATA TYPE {kind}')
    except (duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
        action = f"change the type of {table.name}.{column} to {kind}"
        raise LakeRefusedError(catalog, action, first_line(error)) from error
    log.info("column_widened", table=table.name, column=column, kind=kind)


def _comment(connection: duckdb.DuckDBPyConnection, table: Table, column: str) -> None:
    if doc := column_doc(table, column):
        connection.execute(f'COMMENT ON COLUMN {table.name}."{column}" IS {quoted(doc)}')


def columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return table -> column -> type of the lake as it is."""
    have: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND NOT internal",
        [LAKE],
    ).fetchall():
        have.setdefault(table, {})[column] = kind
    return have


def spelled(connection: duckdb.DuckDBPyConnection, kind: str) -> str:
    """Return DuckDB's own spelling of ``kind``, to compare with what a table reports."""
    return str(connection.execute(f"SELECT typeof(NULL::{kind})").fetchone()[0])  # type: ignore[index]


def version(connection: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    """Return the version of the lake, and the digest of what the Tailrace declared that migrated it last."""
    row = connection.execute(
        "SELECT version, digest FROM lake_version ORDER BY version DESC, migrated_at DESC"
    ).fetchone()
    return (row[0], row[1]) if row else (0, "")


def digest() -> str:
    """Return a digest of everything that this Tailrace declares: tables, comments, views."""
    parts = [
        f"{t.name} {t.doc} {t.partition_by} {t.sorted_by} {c.name} {c.duckdb} {column_doc(t, c.name)}"
        for t in TABLES
        for c in t.columns
    ]
    parts += [question.statement for question in VIEWS]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
