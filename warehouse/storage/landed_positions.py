"""Kafka's time of the records that landed at given offsets of a topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import structlog

from schemas.tables import TABLES_OF
from warehouse.errors import LakeUnavailableError, first_line

log = structlog.get_logger(__name__)
_BROKEN_FILE = (duckdb.IOException, duckdb.InvalidInputException)
Spans = Mapping[int, tuple[int, int]]
"""Partition -> (first offset, offset to stop before)."""


def landed_times(
    connection: duckdb.DuckDBPyConnection, epochs: Mapping[str, int]
) -> Callable[[str, Spans], dict[int, dict[int, int]]]:
    """Return ``times`` as a function of topic and spans, under the current ``epochs`` of the topics."""
    return lambda topic, spans: times(connection, topic, epochs[topic], spans)


def times(connection: duckdb.DuckDBPyConnection, topic: str, epoch: int, spans: Spans) -> dict[int, dict[int, int]]:
    """Return partition -> offset -> Kafka's time (µs UTC) of what has landed in ``spans``, dead ones included.

    Where a log was cut before, a position has landed in more than one epoch: the latest one up to ``epoch`` counts. A
    table with a missing or damaged file is left out and logged, so that landing continues (row 26).

    Args:
        connection: the lake.
        topic: one that lands.
        epoch: the current one.
        spans: partition -> (from, to), to excluded.

    Raises:
        LakeUnavailableError: it does not answer; retry.
    """
    found: dict[int, dict[int, int]] = {partition: {} for partition in spans}
    if not spans:
        return found
    wanted = " OR ".join(
        f"(_partition = {p:d} AND _offset >= {a:d} AND _offset < {b:d})" for p, (a, b) in spans.items()
    )
    latest: dict[tuple[int, int], tuple[int, int]] = {}  # (partition, offset) -> (epoch, time)
    least, most = min(a for a, _ in spans.values()), max(b for _, b in spans.values())
    for name in (*TABLES_OF[topic], "dead"):
        sql = _times_of(name, wanted, least, most)
        try:
            rows = connection.execute(sql, [epoch, *([topic] if name == "dead" else [])]).fetchall()
        except _BROKEN_FILE as error:
            log.warning("table_not_compared", table=name, topic=topic, cause=first_line(error))
            continue
        except duckdb.Error as error:
            raise LakeUnavailableError(f"table {name}", "compare", first_line(error)) from error
        for partition, offset, landed_in, at in rows:
            known = latest.get((partition, offset), (-1, 0))
            latest[partition, offset] = max(known, (landed_in, at))
    for (partition, offset), (_, at) in latest.items():
        found[partition][offset] = at
    return found


def _times_of(table: str, wanted: str, least: int, most: int) -> str:
    """Return SQL of partition, offset, latest epoch and time of what ``table`` holds of the positions ``wanted``."""
    return (
        f"SELECT _partition, _offset, max(_epoch), arg_max(epoch_us(_kafka_time), _epoch) FROM {table} "
        f"WHERE _epoch <= $1 AND _offset >= {least:d} AND _offset < {most:d} AND ({wanted})"
        + (" AND topic = $2" if table == "dead" else "")
        + " GROUP BY 1, 2"
    )
