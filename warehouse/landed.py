"""What the lake knows of single positions of a topic."""

from __future__ import annotations

import duckdb

from schemas.tables import TABLES_OF


def times(
    connection: duckdb.DuckDBPyConnection, topic: str, epoch: int, partition: int, start: int, end: int
) -> dict[int, int]:
    """Return offset -> Kafka's time (µs UTC) of the landed positions ``start`` to ``end`` - 1, dead ones included.

    Raises:
        KeyError: nothing of ``topic`` lands.
    """
    found: dict[int, int] = {}
    for name in (*TABLES_OF[topic], "dead"):
        rows = connection.execute(
            f"SELECT _offset, epoch_us(_kafka_time) FROM {name} "
            "WHERE _epoch = $1 AND _partition = $2 AND _offset >= $3 AND _offset < $4"
            + (" AND topic = $5" if name == "dead" else ""),
            [epoch, partition, start, end, *([topic] if name == "dead" else [])],
        ).fetchall()
        found |= dict(rows)
    return found
