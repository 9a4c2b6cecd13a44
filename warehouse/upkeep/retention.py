"""Rows that are too old, by whole days: their files are dropped, none is rewritten."""

from __future__ import annotations

from datetime import date

import structlog

from schemas.tables import DEAD_BYTES, EMBEDDINGS, ROLLUPS, TICKS
from warehouse.upkeep.pace import Pace, Statement

log = structlog.get_logger(__name__)
RETAINED = tuple(table.name for table in (ROLLUPS, TICKS, EMBEDDINGS, DEAD_BYTES))
"""Tables that may lose old days. Calls, feedback, evals and dead stay: ``verify`` counts every position in them."""


def drop_old_days(pace: Pace, table: str, *, before: date) -> int:
    """Delete the days of ``table`` before ``before``, oldest first, a day a slice; return how many rows went.

    Raises:
        ValueError: a table whose rows prove positions, or one without days.
    """
    if table not in RETAINED:
        raise ValueError(f"cannot drop days of {table}: only {', '.join(RETAINED)} have a retention")
    gone = 0
    days = pace.lake.query(f"SELECT day, count(*) AS n FROM {table} WHERE day < $1 GROUP BY 1 ORDER BY 1", [before])
    for row in days.to_pylist():
        if pace.stopped:
            break
        pace.run(Statement(f"DELETE FROM {table} WHERE day = $1", [row["day"]]))
        gone += row["n"]
        log.info("day_dropped", table=table, day=str(row["day"]), rows=row["n"])
    return gone
