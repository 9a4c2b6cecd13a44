"""The ledger: the next offset to land, per topic, epoch and partition. SQL inside the caller's transaction.

The current epoch of a topic is its greatest; rows of older epochs stay, so that verify can still prove them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import duckdb

from schemas.records import Move
from schemas.tables import LEDGER, Table
from warehouse.storage.connect import quoted

INLINE_LIMIT = 10_000
"""Rows of the ledger stay in the catalog while there are fewer: must exceed the number of partitions."""
_NEXT = "{}_next"

# one UPDATE for all partitions: twelve separate ones took ten times as long (docs/engine-notes.md)
_MOVE = """
UPDATE ledger SET next_offset = m.upto
FROM (SELECT unnest($1::VARCHAR[]) AS topic, unnest($2::INTEGER[]) AS epoch, unnest($3::INTEGER[]) AS partition,
             unnest($4::BIGINT[]) AS start, unnest($5::BIGINT[]) AS upto) AS m
WHERE ledger.topic = m.topic AND ledger.epoch = m.epoch AND ledger.partition = m.partition
  AND ledger.next_offset = m.start
"""
_CURRENT = """
SELECT topic, topic_id, epoch, partition, next_offset FROM ledger
QUALIFY epoch = max(epoch) OVER (PARTITION BY topic)
"""
_STARTS = """
SELECT epoch, topic_id, partition, start_offset FROM ledger WHERE topic = $1 QUALIFY epoch = max(epoch) OVER ()
"""


def create_table(table: Table, name: str = "") -> str:
    """Return the CREATE statement of ``table``."""
    columns = ", ".join(f'"{column.name}" {column.duckdb}' for column in table.columns)
    return f"CREATE TABLE {name or table.name} ({columns})"


def read(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int, int, int]]:
    """Return (topic, topic id, epoch, partition, next offset) of every partition of the current epochs."""
    return connection.execute(_CURRENT).fetchall()


class Epoch(NamedTuple):
    """The current epoch of a topic; the default values are those before the first epoch."""

    number: int = 0
    topic_id: str = ""
    starts: Mapping[int, int] = {}
    """Partition -> first offset."""


def current(connection: duckdb.DuckDBPyConnection, topic: str) -> Epoch:
    """Return the current epoch of ``topic``."""
    rows = connection.execute(_STARTS, [topic]).fetchall()
    if not rows:
        return Epoch()
    number, topic_id, *_ = rows[0]
    return Epoch(number, topic_id, {partition: start for *_, partition, start in rows})


def move(connection: duckdb.DuckDBPyConnection, moves: Sequence[Move], epochs: Mapping[str, int]) -> bool:
    """Compare and set: move all partitions at once; False where any of them was at another offset (roll back then)."""
    columns = [
        [m.topic for m in moves],
        [epochs.get(m.topic, -1) for m in moves],
        [m.partition for m in moves],
        [m.start for m in moves],
        [m.end for m in moves],
    ]
    (moved,) = connection.execute(_MOVE, columns).fetchone() or (0,)
    return bool(moved == len(moves))


def add(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[str, str, int, int, int]], *, alone: bool) -> None:
    """Insert (topic, topic id, epoch, partition, start) rows; the first position of a partition is its start.

    Of two processes that do so at the same time one is refused: both change the rows of the table too. Before its first
    one they change another table: an insert fences nothing (docs/engine-notes.md), and two rows a partition could never
    be moved.

    Args:
        connection: in the caller's transaction.
        rows: to insert.
        alone: whether a lock excludes other land processes.
    """
    if not alone and connection.execute("SELECT count(*) FROM ledger").fetchone() == (0,):
        connection.execute("UPDATE lake_version SET version = version")
    _touch(connection, LEDGER)
    topic, topic_id, epoch, partition, start = (list(column) for column in zip(*rows, strict=True))
    connection.execute(
        "INSERT INTO ledger SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), unnest($3::INTEGER[]), "
        "unnest($4::INTEGER[]), unnest($5::BIGINT[]), unnest($5::BIGINT[])",
        [topic, topic_id, epoch, partition, start],
    )


def keep_inlined(connection: duckdb.DuckDBPyConnection, name: str = LEDGER.name) -> None:
    """Keep the rows of table ``name`` in the catalog: with limit 0 every move would write a file and a delete file."""
    connection.execute(f"CALL lake.set_option('data_inlining_row_limit', {INLINE_LIMIT}, table_name => {quoted(name)})")


def prepare_replacement(connection: duckdb.DuckDBPyConnection, table: Table = LEDGER) -> None:
    """Create the empty successor. Apart from ``replace``: DuckLake sets no option on a transaction's own table."""
    following = _NEXT.format(table.name)
    connection.execute(f"DROP TABLE IF EXISTS {following}")
    connection.execute(create_table(table, following))
    keep_inlined(connection, following)


def replace(connection: duckdb.DuckDBPyConnection, table: Table = LEDGER) -> None:
    """Put the successor in the place of the ledger, or of another inlined ``table``, in the caller's transaction.

    Every UPDATE leaves a dead inlined row that snapshot expiry does not remove: 300,000 of them make a commit
    0.38 s, a million 1.1 s. A writer that read the old table is refused at its commit. One that committed since this
    transaction began refuses this one: DuckLake 1.5.5 lets a DROP pass over the UPDATE of another, and on PostgreSQL,
    where no lock keeps them apart, its move would be undone and its rows land twice.
    """
    following = _NEXT.format(table.name)
    _touch(connection, table)
    connection.execute(f"INSERT INTO {following} FROM {table.name}")
    connection.execute(f"DROP TABLE {table.name}")
    connection.execute(f"ALTER TABLE {following} RENAME TO {table.name}")


def _touch(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Change every row to what it is: two transactions that change rows of one table never both commit."""
    column = table.columns[-1].name
    connection.execute(f'UPDATE {table.name} SET "{column}" = "{column}"')


def dead_rows(connection: duckdb.DuckDBPyConnection, table: Table = LEDGER) -> int:
    """Return how many rows the ledger, or another inlined ``table``, holds in the catalog, living and dead."""
    meta = "__ducklake_metadata_lake"
    names = connection.execute(
        f"SELECT i.table_name FROM {meta}.ducklake_inlined_data_tables AS i JOIN {meta}.ducklake_table AS t "
        f"USING (table_id) WHERE t.table_name = '{table.name}' AND t.end_snapshot IS NULL"
    ).fetchall()
    rows = 0
    for (name,) in names:
        if not name.replace("_", "").isalnum():
            continue
        rows += (connection.execute(f'SELECT count(*) FROM {meta}."{name}"').fetchone() or (0,))[0]
    return rows
