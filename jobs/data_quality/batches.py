"""The batches that expectations judge: rows of one hour, and measures over all of them, as Arrow.

DuckDB counts over all rows in bounded memory. Only the columns that expectations name are read row by row, and at most
``max_rows`` rows: above that a sample by position, the same at every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from jobs.data_quality.suite import Suite, Window
from warehouse.query.readonly import ReadOnlyLake

_STEPS = 1_000_000


@dataclass(frozen=True)
class Batch:
    """What one validation judges."""

    table: pa.Table
    rows: int
    """Rows that there are; more than ``table.num_rows`` where it is a sample."""


def read_rows(lake: ReadOnlyLake, suite: Suite, window: Window, *, max_rows: int) -> Batch:
    """Return the rows of ``window`` with the columns that the suite's expectations name.

    Raises:
        QueryFailedError: a column is not there, or a file of the user holds SQL that DuckDB refuses.
        QueryRefusedError: that SQL does more than read.
    """
    names = tuple(dict.fromkeys(name for check in suite.rows for name in check.columns))
    if suite.sql:
        source, where = f"({suite.sql})", "true"
    else:
        more = "".join(f', {expression} AS "{name}"' for name, expression in suite.also.items())
        source, where = f"(SELECT *{more} FROM {suite.table} WHERE {suite.where})", "true"
    count = lake.query(window.sql(f"SELECT count(*) AS n FROM {source}"))["n"][0].as_py()
    sampled = count > max_rows
    if sampled and _has_position(suite):
        share = max_rows * _STEPS // count
        where = f"hash(_epoch, _partition, _offset) % {_STEPS} < {share}"
    limit = f" LIMIT {max_rows}" if sampled else ""
    columns = ", ".join(_plain(name) for name in names) or "1 AS one"
    return Batch(lake.query(window.sql(f"SELECT {columns} FROM {source} WHERE {where}{limit}")), count)


def read_measures(lake: ReadOnlyLake, suite: Suite, window: Window) -> Batch:
    """Return the measures of ``window``, a row a scope."""
    table = lake.query(window.sql(suite.measures))
    rows = table["rows"][0].as_py() if table.num_rows else 0
    return Batch(table, int(rows or 0))


def _has_position(suite: Suite) -> bool:
    return not suite.sql and suite.table != "golden_cases"


def _plain(name: str) -> str:
    """Return the SELECT item of a column: decimals as doubles, because a decimal a row is a Python object."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{quoted}::DOUBLE AS {quoted}" if name.endswith("_usd") else quoted
