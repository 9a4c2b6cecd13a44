"""Split a batch that does not fit into one commit in two, by positions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.land import no_record
from schemas.records import Move
from schemas.tables import NO_RECORD_RANGES
from schemas.topics import ALERTS, DELIVERIES, EMBEDDINGS, EVENTS, LOG, ROLLUPS

TOPIC_OF = {
    "raw_calls": EVENTS,
    "raw_feedback": EVENTS,
    "raw_evals": EVENTS,
    "rollups": ROLLUPS,
    "ticks": ROLLUPS,
    "embeddings": EMBEDDINGS,
    "alerts": ALERTS,
    "deliveries": DELIVERIES,
    "log_records": LOG,
}
MOST_DAYS = 200
"""Days that one commit writes to, where the order of the events allows it: each is a file in every table, about 10 ms.
History may span years."""
Batch = tuple[dict[str, pa.Table], list[Move]]


def split_batch(tables: Mapping[str, pa.Table], moves: Sequence[Move]) -> tuple[Batch, Batch] | None:
    """Return two batches that together are this one, the earlier first; None for a single position."""
    moves = [m for m in moves if m.end > m.start]
    if len(moves) > 1:  # by partitions: rows of one span stay together
        middle = len(moves) // 2
        first, second = moves[:middle], moves[middle:]
    elif moves and moves[0].end - moves[0].start > 1:
        m = moves[0]
        cut = _median(tables, m) or (m.start + m.end) // 2
        first, second = [Move(m.topic, m.partition, m.start, cut)], [Move(m.topic, m.partition, cut, m.end)]
    else:
        return None
    return (_within(tables, first), first), (_within(tables, second), second)


def days(tables: Mapping[str, pa.Table]) -> int:
    """Return the number of days of the table that has the most."""
    counts = (pc.count_distinct(t.column("day")).as_py() for t in tables.values() if "day" in t.schema.names)
    return max(counts, default=0)


def by_days(tables: Mapping[str, pa.Table], moves: Sequence[Move]) -> tuple[Batch, Batch] | None:
    """Return a batch of more than MOST_DAYS in two, where each has fewer days; None for any other batch.

    Each partition is cut at its middle: history in the order of its time lands in transactions of seconds, so that a
    kill repeats seconds. History in no order has all its days in each half, too: cut up, it would become a file for
    every event.
    """
    whole = days(tables)
    if whole <= MOST_DAYS:
        return None
    first, second = [], []
    for m in moves:
        cut = _median(tables, m) or (m.start + m.end) // 2
        first += [Move(m.topic, m.partition, m.start, cut)] if cut > m.start else []
        second += [Move(m.topic, m.partition, cut, m.end)] if m.end > cut else []
    parts = (_within(tables, first), first), (_within(tables, second), second)
    return parts if first and second and sum(days(part) for part, _ in parts) <= whole * 1.25 else None


def _median(tables: Mapping[str, pa.Table], move: Move) -> int:
    """Return an offset with about as many rows before it as after it; 0 where there are no rows."""
    rows = [t for t in _within(tables, [move]).values() if "_offset" in t.schema.names]
    columns = [t.column("_offset").combine_chunks() for t in rows]
    if not columns:
        return 0
    offsets = pc.sort_indices(joined := pa.concat_arrays([c.cast(pa.int64()) for c in columns]))
    cut = int(joined[offsets[len(joined) // 2].as_py()].as_py())
    return cut if move.start < cut < move.end else 0


def _within(tables: Mapping[str, pa.Table], moves: Sequence[Move]) -> dict[str, pa.Table]:
    kept = {}
    for name, table in tables.items():
        if name == NO_RECORD_RANGES.name:
            if (rows := no_record.within(table, moves)).num_rows:
                kept[name] = rows
            continue
        mask = pa.repeat(pa.scalar(False), table.num_rows)
        for move in moves:
            offset, partition = table.column("_offset"), table.column("_partition")
            here = pc.and_(pc.equal(partition, move.partition), pc.greater_equal(offset, move.start))
            here = pc.and_(here, pc.less(offset, move.end))
            if name in TOPIC_OF:
                here = here if TOPIC_OF[name] == move.topic else pa.repeat(pa.scalar(False), table.num_rows)
            else:
                here = pc.and_(here, pc.equal(table.column("topic"), move.topic))
            mask = pc.or_(mask, here)
        if (rows := table.filter(mask)).num_rows:
            kept[name] = rows
    return kept
