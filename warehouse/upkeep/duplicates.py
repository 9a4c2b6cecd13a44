"""Events whose id occurs more than once, where land could not detect it: farther apart, or in another partition.

Land and meter mark what occurred among the 65,536 positions before (``_dup``). Here every id that landed since the
last look is compared with all ids of the lake, and every answer of a provider with those of the days around it
(``answers``). What is found becomes a row of ``late_duplicates``, which the public views leave out; no row of an event
is ever changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from schemas.tables import DUPLICATE_CHECKS, EVENT_TABLES, LATE_DUPLICATES, Table
from schemas.topics import EVENTS
from warehouse.lake import Lake
from warehouse.storage.connect import quoted
from warehouse.upkeep.answers import found_answers

Place = tuple[int, int]
"""(epoch, partition)."""
_PLACES = " UNION ALL ".join(f"(SELECT id, day, _epoch, _partition, _offset FROM {t.name})" for t in EVENT_TABLES)
# constants, not a join: only they let DuckDB skip files by their statistics
_FRESH = f"""
INSERT INTO fresh SELECT id FROM ({_PLACES}) WHERE _epoch = $1 AND _partition = $2 AND _offset >= $3 AND _offset < $4
"""
# only ids that occur twice: rows are wide, and mostly there are no duplicates
_TWICE = f"""
CREATE OR REPLACE TEMP TABLE twice AS SELECT id, list(DISTINCT day) AS days FROM ({_PLACES}) SEMI JOIN fresh USING (id)
GROUP BY id HAVING count(*) > 1
"""
_DAYS = "SELECT DISTINCT unnest(days) AS day FROM twice ORDER BY 1"


def _rows(table: Table, days: str) -> str:
    """Return SQL for the rows of ids that occur twice, with a hash of what the app sent."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns if column.path)
    return (
        "(SELECT id, day, _epoch, _partition, _offset, _kafka_time, coalesce(_dup, false) AS near, "
        f"hash({columns}) AS content_hash FROM {table.name} WHERE day IN ({days}) AND id IN (SELECT id FROM twice))"
    )


# the first position counts: by the brokers' time, then by place
_FOUND = """
WITH kept AS (
    SELECT id, _epoch, _partition, _offset, content_hash FROM rows WHERE NOT near
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY _kafka_time, _epoch, _partition, _offset) = 1
)
SELECT r.id::VARCHAR AS id, r.day, r._epoch, r._partition, r._offset, k._epoch AS kept_epoch,
    k._partition AS kept_partition, k._offset AS kept_offset, r.near, r.content_hash <> k.content_hash AS conflict
FROM rows AS r JOIN kept AS k USING (id)
WHERE (r._epoch, r._partition, r._offset) <> (k._epoch, k._partition, k._offset)
    AND (NOT r.near OR r.content_hash <> k.content_hash)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d._epoch = r._epoch AND d._partition = r._partition AND d._offset = r._offset
    )
"""


@dataclass(frozen=True)
class Look:
    """What one slice of positions showed."""

    positions: int
    """Compared with everything; 0 = nothing had landed since the last look."""
    late: int = 0
    """Events that no longer count, because their id or their answer's id occurred earlier."""
    conflicts: int = 0
    """Of all duplicates, near ones too: those whose content is not that of the event that counts."""


def find_duplicates(lake: Lake, *, at: datetime, most: int = 1_000_000) -> Look:
    """Compare the next ``most`` positions that were not looked at, and record what is found, in one transaction.

    Args:
        lake: opened with ``lander=False``.
        at: when this is found, for ``calls_as_known_at``.
        most: positions; their ids are held in memory, 16 bytes each and what DuckDB adds.

    Raises:
        LakeBusyError: others held the catalog for too long.
        LakeUnavailableError: the catalog or a file does not answer.
    """
    with lake.reading() as reader:
        reader.execute("BEGIN TRANSACTION")  # one snapshot for all that is read
        before = _looked(reader)
        spans = _next_spans(reader, before, most)
        found = _found(reader, spans) if spans else None
        reader.execute("ROLLBACK")
    if found is None:
        return Look(0)
    tables = _recorded(found, spans, at)
    ours = False

    def record(connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal ours
        ours = _looked(connection) == before  # else another run recorded the same
        if ours:
            lake.put(connection, tables)

    lake.transact(record)
    if not ours:
        return find_duplicates(lake, at=at, most=most)
    near, conflicts = sum(found["near"].to_pylist()), sum(found["conflict"].to_pylist())
    return Look(sum(b - a for a, b in spans.values()), found.num_rows - near, conflicts)


def _recorded(found: pa.Table, spans: Mapping[Place, tuple[int, int]], at: datetime) -> dict[str, pa.Table]:
    """Return the rows to write: the duplicates with the time ``at``, and the positions that were compared."""
    times = pa.array([at] * found.num_rows, LATE_DUPLICATES.schema.field("found_at").type)
    checks = [
        {"checked_at": at, "_epoch": e, "_partition": p, "from_offset": a, "to_offset": b}
        for (e, p), (a, b) in spans.items()
    ]
    return {
        LATE_DUPLICATES.name: found.append_column("found_at", times),
        DUPLICATE_CHECKS.name: pa.Table.from_pylist(checks, schema=DUPLICATE_CHECKS.schema),
    }


def _looked(connection: duckdb.DuckDBPyConnection) -> dict[Place, int]:
    rows = connection.execute("SELECT _epoch, _partition, max(to_offset) FROM duplicate_checks GROUP BY ALL").fetchall()
    return {(epoch, partition): upto for epoch, partition, upto in rows}


def _next_spans(
    connection: duckdb.DuckDBPyConnection, looked: Mapping[Place, int], most: int
) -> dict[Place, tuple[int, int]]:
    """Return the spans to look at, each partition's from where the last look ended."""
    positions = connection.execute(
        "SELECT epoch, partition, start_offset, next_offset FROM ledger WHERE topic = ? ORDER BY 1, 2", [EVENTS]
    ).fetchall()
    waiting = [(e, p, max(start, looked.get((e, p), start)), upto) for e, p, start, upto in positions]
    waiting = [row for row in waiting if row[2] < row[3]]
    each = max(1, most // max(1, len(waiting)))
    return {(e, p): (start, min(upto, start + each)) for e, p, start, upto in waiting}


def _found(connection: duckdb.DuckDBPyConnection, spans: Mapping[Place, tuple[int, int]]) -> pa.Table:
    connection.execute("CREATE OR REPLACE TEMP TABLE fresh (id UUID)")
    for (epoch, partition), (start, upto) in spans.items():
        connection.execute(_FRESH, [epoch, partition, start, upto])
    connection.execute(_TWICE)
    days = ", ".join(f"DATE {quoted(str(day))}" for (day,) in connection.execute(_DAYS).fetchall()) or "NULL"
    rows = " UNION ALL ".join(_rows(table, days) for table in EVENT_TABLES)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS {rows}")
    by_id = connection.execute(_FOUND).to_arrow_table()
    answers = found_answers(connection, spans, by_id)
    return pa.concat_tables([by_id, answers.cast(by_id.schema)])
