"""What must hold of the rows of a lake, each promise as a question that finds what breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from schemas.tables import TABLES_OF
from schemas.topics import EVENTS

_SHOWN = 20
_MANY_ROWS = {"rollups": "dims, series, second", "embeddings": "call_id, side"}
"""Tables with several rows per record, and the columns that distinguish the rows."""
_SPANS = """
WITH spans AS (
    SELECT DISTINCT source_epoch AS e, source_partition AS p, source_from AS a, source_to AS b FROM rollups
    WHERE source_partition IS NOT NULL
)
SELECT e, p, a, b,
    max(b) OVER (PARTITION BY e, p ORDER BY a, b ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS upto
FROM spans
"""
_HOLES = f"""
WITH holes AS (SELECT e, p, upto AS a, a AS b FROM spans WHERE a > upto)
SELECT h.e, h.p, h.a, h.b, count(*) AS calls
FROM raw_calls AS c ASOF JOIN holes AS h ON c._epoch = h.e AND c._partition = h.p AND c._offset >= h.a
WHERE c._offset < h.b AND NOT coalesce(c._dup, false) GROUP BY ALL ORDER BY 1, 2, 3 LIMIT {_SHOWN}
"""
_ADJUSTED_DAYS = "SELECT DISTINCT day FROM cost_adjustments ORDER BY 1"
_COSTS = f"""
WITH adjusted AS (
    SELECT _epoch, _partition, _offset, sum(delta_usd) AS delta_usd, arg_max(cost_usd, adjusted_at) AS cost_usd
    FROM cost_adjustments WHERE day = $1 GROUP BY ALL
), landed AS (
    SELECT _epoch, _partition, _offset, id, cost_usd FROM raw_calls WHERE day = $1
)
SELECT a._epoch, a._partition, a._offset, c.id IS NULL, coalesce(c.cost_usd, 0) + a.delta_usd, a.cost_usd
FROM adjusted AS a LEFT JOIN landed AS c USING (_epoch, _partition, _offset)
WHERE c.id IS NULL OR coalesce(c.cost_usd, 0) + a.delta_usd <> a.cost_usd
ORDER BY 1, 2, 3 LIMIT {_SHOWN}
"""


@dataclass(frozen=True)
class Problem:
    """One promise that does not hold."""

    check: str
    """positions, doubles, ledger, tiles, costs or files."""
    where: str
    detail: str


@dataclass(frozen=True)
class PartitionReport:
    """One partition of one topic in one epoch."""

    topic: str
    epoch: int
    partition: int
    start: int
    next: int
    landed: int
    """Positions with a good row."""
    dead: int
    lost: int
    """Positions in ``gaps``."""
    retired: int
    """Positions whose rows retention has dropped since."""
    no_record: int = 0
    """Positions that the log has no record for, as ``no_record_ranges`` has them."""


def _landed(topic: str) -> str:
    """Return SQL for the (kind, _epoch, _partition, _offset) of every position that has a row."""
    parts = [
        f"SELECT {'DISTINCT' if name in _MANY_ROWS else ''} 'landed' AS kind, _epoch, _partition, _offset FROM {name}"
        for name in TABLES_OF[topic]
    ]
    parts.append(f"SELECT 'dead' AS kind, _epoch, _partition, _offset FROM dead WHERE topic = '{topic}'")
    return " UNION ALL ".join(f"({part})" for part in parts)


def partitions(connection: duckdb.DuckDBPyConnection, topics: Sequence[str]) -> list[PartitionReport]:
    """Count the rows of every partition of ``topics``, epoch by epoch."""
    reports = []
    for topic in topics:
        rows = connection.execute(
            f"""
            WITH landed AS (
                SELECT _epoch, _partition, count(*) FILTER (kind = 'landed') AS landed,
                    count(*) FILTER (kind = 'dead') AS dead
                FROM ({_landed(topic)}) GROUP BY ALL
            ), lost AS (
                SELECT _epoch, partition, sum(to_offset - from_offset)::BIGINT AS lost FROM gaps
                WHERE topic = $1 GROUP BY ALL
            ), retired AS (
                SELECT _epoch, _partition, sum(positions)::BIGINT AS retired FROM retired_days
                WHERE topic = $1 GROUP BY ALL
            ), empty AS (
                SELECT _epoch, _partition, sum(to_offset - from_offset)::BIGINT AS no_record FROM no_record_ranges
                WHERE topic = $1 GROUP BY ALL
            )
            SELECT l.topic, l.epoch, l.partition, l.start_offset, l.next_offset, coalesce(n.landed, 0),
                coalesce(n.dead, 0), coalesce(g.lost, 0), coalesce(r.retired, 0), coalesce(e.no_record, 0)
            FROM ledger AS l
            LEFT JOIN landed AS n ON n._epoch = l.epoch AND n._partition = l.partition
            LEFT JOIN lost AS g ON g._epoch = l.epoch AND g.partition = l.partition
            LEFT JOIN retired AS r ON r._epoch = l.epoch AND r._partition = l.partition
            LEFT JOIN empty AS e ON e._epoch = l.epoch AND e._partition = l.partition
            WHERE l.topic = $1 ORDER BY 2, 3
            """,
            [topic],
        ).fetchall()
        reports += [PartitionReport(*row) for row in rows]
    return reports


def positions(connection: duckdb.DuckDBPyConnection, reports: Sequence[PartitionReport]) -> list[Problem]:
    """For llm.events every position is accounted for; of other topics, positions without a record are not kept."""
    problems = []
    for report in reports:
        where = f"{report.topic}[{report.partition}] epoch {report.epoch}"
        consumed = report.next - report.start
        found = report.landed + report.dead + report.lost + report.retired + report.no_record
        if found > consumed or (report.topic == EVENTS and found != consumed):
            # which positions a retired day held is not kept, only how many
            spans = _missing(connection, report) if report.topic == EVENTS and not report.retired else []
            detail = (
                f"{consumed} consumed, {report.landed} landed + {report.dead} dead + {report.lost} lost "
                f"+ {report.retired} retired + {report.no_record} without a record = {found}"
            )
            problems.append(Problem("positions", where, detail + (f"; without a row: {spans}" if spans else "")))
    return problems


def _missing(connection: duckdb.DuckDBPyConnection, report: PartitionReport) -> list[str]:
    rows = connection.execute(
        f"""
        WITH covered AS (
            SELECT _offset AS a, _offset + 1 AS b FROM ({_landed(EVENTS)}) WHERE _epoch = $1 AND _partition = $2
            UNION ALL SELECT from_offset, to_offset FROM gaps WHERE topic = $5 AND _epoch = $1 AND partition = $2
            UNION ALL SELECT from_offset, to_offset FROM no_record_ranges
            WHERE topic = $5 AND _epoch = $1 AND _partition = $2
            UNION ALL SELECT $3, $3 UNION ALL SELECT $4, $4
        ), ordered AS (
            SELECT a, max(b) OVER (ORDER BY a, b ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS upto FROM covered
        )
        SELECT upto, a FROM ordered WHERE a > upto ORDER BY 1 LIMIT {_SHOWN}
        """,
        [report.epoch, report.partition, report.start, report.next, EVENTS],
    ).fetchall()
    return [f"{a}..{b - 1}" for a, b in rows]


def doubles(connection: duckdb.DuckDBPyConnection, topics: Sequence[str]) -> list[Problem]:
    """A position has one row, or, where a record is many rows, each of them once."""
    problems = []
    for topic in topics:
        # a position may be in one table only, and once
        rows = connection.execute(
            f"SELECT _epoch, _partition, _offset, count(*) FROM ({_landed(topic)}) "
            f"GROUP BY 1, 2, 3 HAVING count(*) > 1 ORDER BY 1, 2, 3 LIMIT {_SHOWN}"
        ).fetchall()
        problems += [Problem("doubles", f"{topic}[{p}]@{o} epoch {e}", f"{n} rows") for e, p, o, n in rows]
        for name in TABLES_OF[topic]:
            if name not in _MANY_ROWS:
                continue
            rows = connection.execute(
                f"SELECT _epoch, _partition, _offset, count(*) FROM {name} "
                f"GROUP BY 1, 2, 3, {_MANY_ROWS[name]} HAVING count(*) > 1 ORDER BY 1, 2, 3 LIMIT {_SHOWN}"
            ).fetchall()
            problems += [
                Problem("doubles", f"{name} {topic}[{p}]@{o}", f"the same row {n} times") for _, p, o, n in rows
            ]
    return problems


def ranges(connection: duckdb.DuckDBPyConnection) -> list[Problem]:
    """A position without a record has no row, and is in one range: else a lost row and it would cancel out."""
    if connection.execute("SELECT count(*) FROM no_record_ranges").fetchone() == (0,):
        return []
    overlaps = connection.execute(
        f"""
        WITH spans AS (
            SELECT _epoch AS e, _partition AS p, from_offset AS a, to_offset AS b FROM no_record_ranges
            WHERE topic = $1
            UNION ALL SELECT _epoch, partition, from_offset, to_offset FROM gaps
            WHERE topic = $1 AND to_offset > from_offset
        )
        SELECT e, p, a, b - 1, 'in two ranges' FROM spans
        QUALIFY a < max(b) OVER (PARTITION BY e, p ORDER BY a, b ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ORDER BY 1, 2, 3 LIMIT {_SHOWN}
        """,
        [EVENTS],
    ).fetchall()
    rows = connection.execute(
        f"""
        SELECT n._epoch, n._partition, n._offset, n._offset, 'a row, and in a range without records'
        FROM ({_landed(EVENTS)}) AS n ASOF JOIN (FROM no_record_ranges WHERE topic = $1) AS r
            ON n._epoch = r._epoch AND n._partition = r._partition AND n._offset >= r.from_offset
        WHERE n._offset < r.to_offset ORDER BY 1, 2, 3 LIMIT {_SHOWN}
        """,
        [EVENTS],
    ).fetchall()
    return [Problem("doubles", f"{EVENTS}[{p}]@{a}..{b} epoch {e}", why) for e, p, a, b, why in [*overlaps, *rows]]


def ledger(connection: duckdb.DuckDBPyConnection, topics: Sequence[str]) -> list[Problem]:
    """The ledger is not below a landed position, and every row has a partition in the ledger."""
    problems = []
    for topic in topics:
        rows = connection.execute(
            f"""
            SELECT n._epoch, n._partition, n.first, n.last, l.start_offset, l.next_offset
            FROM (SELECT _epoch, _partition, min(_offset) AS first, max(_offset) AS last
                  FROM ({_landed(topic)}) GROUP BY ALL) AS n
            LEFT JOIN ledger AS l ON l.topic = $1 AND l.epoch = n._epoch AND l.partition = n._partition
            WHERE l.next_offset IS NULL OR n.last >= l.next_offset OR n.first < l.start_offset
            """,
            [topic],
        ).fetchall()
        problems += [
            Problem("ledger", f"{topic}[{p}] epoch {e}", f"rows at {first}..{last}, the ledger says {start}..{upto}")
            for e, p, first, last, start, upto in rows
        ]
    twice = connection.execute(
        "SELECT topic, epoch, partition, count(*) FROM ledger GROUP BY ALL HAVING count(*) > 1"
    ).fetchall()
    problems += [Problem("ledger", f"{t}[{p}] epoch {e}", f"{n} ledger rows") for t, e, p, n in twice]
    return problems


def tiles(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[Problem]]:
    """Source spans of rollups may not overlap; a hole between two may hold no call that counts.

    Spans are many, one a batch and partition of meter: they stay in DuckDB, which has a memory limit.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE spans AS {_SPANS}")
    (count,) = connection.execute("SELECT count(*) FROM spans").fetchone() or (0,)
    overlaps = connection.execute(
        f"SELECT e, p, a, least(b, upto) - 1 FROM spans WHERE a < upto ORDER BY 1, 2, 3 LIMIT {_SHOWN}"
    ).fetchall()
    holes = connection.execute(_HOLES).fetchall()
    connection.execute("DROP TABLE spans")
    problems = [(e, p, f"rollups count {a}..{b} twice") for e, p, a, b in overlaps]
    problems += [(e, p, f"{calls} calls of {a}..{b - 1} in no rollup") for e, p, a, b, calls in holes]
    return count, [Problem("tiles", f"{EVENTS}[{p}] epoch {e}", detail) for e, p, detail in problems][:_SHOWN]


def costs(connection: duckdb.DuckDBPyConnection) -> list[Problem]:
    """A re-priced call exists, and its adjustments add up to the recorded cost."""
    problems = []
    for (day,) in connection.execute(_ADJUSTED_DAYS).fetchall():
        for epoch, partition, offset, gone, found, recorded in connection.execute(_COSTS, [day]).fetchall():
            detail = "no such call" if gone else f"{found} USD with its adjustments, the last of them says {recorded}"
            problems.append(Problem("costs", f"{EVENTS}[{partition}]@{offset} epoch {epoch}", detail))
    return problems[:_SHOWN]
