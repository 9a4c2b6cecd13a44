"""Rows of many days, a few days at a time: DuckDB buffers every partition that a statement writes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

DAYS = 32
"""Days of one statement. A file that is open takes about 2.5 MB of the memory limit for the columns of raw_calls alone:
20,000 calls of 400 days did not fit into 1 GB."""


def day_slices(batch: pa.Table, *, days: int = DAYS) -> Iterator[pa.Table]:
    """Yield the rows of ``batch``, of at most ``days`` different days at a time; as it is where it has no more."""
    found = distinct_days(batch)
    if len(found) <= days:
        yield batch
        return
    for first in range(0, len(found), days):
        yield batch.filter(pc.is_in(batch.column("day"), value_set=found.slice(first, days)))


def distinct_days(batch: pa.Table) -> pa.Array:
    """Return the different days of ``batch``, in order; none where it has no column ``day``."""
    if "day" not in batch.schema.names:
        return pa.array([], pa.date32())
    found = pc.unique(batch.column("day"))
    return found.take(pc.sort_indices(found))
