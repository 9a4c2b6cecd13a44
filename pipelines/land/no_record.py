"""Positions without a record in the log: transaction markers, aborted records, records that compaction removed. Pure.

The consumer passes them without a record. They land as ranges, in the transaction that moves the ledger over them, so
that verify distinguishes them from positions whose rows are lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from schemas.records import Move, Records
from schemas.tables import NO_RECORD_RANGES

_START = datetime(1970, 1, 1, tzinfo=UTC)


def ranges(records: Records) -> Iterator[Move]:
    """Yield the spans of ``records.positions`` in which there is no record: at most one more than there are records."""
    if sum(end - start for start, end in records.positions.values()) == len(records):
        return
    partitions, offsets = np.asarray(records.partitions, np.int64), np.asarray(records.offsets, np.int64)
    for partition, (start, end) in sorted(records.positions.items()):
        here = offsets[partitions == partition]
        before = np.concatenate([[start], here + 1])
        behind = np.concatenate([here, [end]])
        for i in np.flatnonzero(before < behind).tolist():
            yield Move(records.topic, partition, int(before[i]), int(behind[i]))


def rows(records: Records, *, epoch: int, landed_at: int) -> dict[str, pa.Table]:
    """Return the rows of ``no_record_ranges`` for a batch; nothing where every position has a record."""
    at = _START + timedelta(microseconds=landed_at)
    found = [
        {
            "topic": span.topic,
            "_epoch": epoch,
            "_partition": span.partition,
            "from_offset": span.start,
            "to_offset": span.end,
            "day": at.date(),
            "_landed_at": at,
        }
        for span in ranges(records)
    ]
    return {NO_RECORD_RANGES.name: pa.Table.from_pylist(found, schema=NO_RECORD_RANGES.schema)} if found else {}


def within(table: pa.Table, moves: Sequence[Move]) -> pa.Table:
    """Return the parts of the ranges of ``table`` that lie in ``moves``."""
    kept = []
    for row in table.to_pylist():
        for move in moves:
            start, end = max(row["from_offset"], move.start), min(row["to_offset"], move.end)
            if (row["topic"], row["_partition"]) == (move.topic, move.partition) and start < end:
                kept.append({**row, "from_offset": start, "to_offset": end})
    return pa.Table.from_pylist(kept, schema=table.schema)
