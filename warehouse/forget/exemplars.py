"""Rollups of apps keep their sums, and lose the ids of calls that go from their exemplars."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from schemas import faults
from schemas.tables import ROLLUPS
from warehouse.forget.rewrite import rewrite
from warehouse.forget.who import Who
from warehouse.upkeep.pace import Pace

_CITED = """
FROM (SELECT filename, rowid, unnest(exemplars).call_id AS c FROM rollups WHERE exemplars IS NOT NULL)
WHERE c IN (SELECT id FROM gone_calls)
"""
_OTHERS = "list_filter(exemplars, lambda x: NOT list_contains($2::VARCHAR[], x.call_id))"


def citing(reader: duckdb.DuckDBPyConnection) -> int:
    """Return how many rollups have an exemplar among ``gone_calls``."""
    return int((reader.execute(f"SELECT count(DISTINCT rowid) {_CITED}").fetchone() or (0,))[0])


def drop_exemplars(pace: Pace, who: Who, calls: pa.Table) -> int:
    """Remove ``calls`` from the exemplars of rollups; return how many rollups changed."""
    with pace.lake.reading() as reader:
        who.bind(reader, calls)
        cited = reader.execute(f"SELECT filename, list(DISTINCT c) {_CITED} GROUP BY 1 ORDER BY 1").fetchall()
    changed = 0
    while cited and not pace.stopped:
        some, cited = cited[: pace.size], cited[pace.size :]
        body = _Update([file for file, _ in some], sorted({call for _, found in some for call in found}))
        pace.run(body)
        faults.point("forget.after_exemplars")
        rewrite(pace, ROLLUPS.name)
        changed += body.changed
    return changed


class _Update:
    """One slice."""

    def __init__(self, files: Sequence[str], calls: Sequence[str]) -> None:
        self._params = [list(files), list(calls)]
        self.changed = 0

    def __call__(self, connection: duckdb.DuckDBPyConnection) -> None:
        done = connection.execute(
            f"UPDATE rollups SET exemplars = {_OTHERS} "
            f"WHERE filename = ANY($1::VARCHAR[]) AND len({_OTHERS}) < len(exemplars)",
            self._params,
        )
        (self.changed,) = done.fetchone() or (0,)
