"""Cut a batch that does not fit into memory in two, by positions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import Move
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
Batch = tuple[dict[str, pa.Table], list[Move]]


def halves(tables: Mapping[str, pa.Table], moves: Sequence[Move]) -> tuple[Batch, Batch] | None:
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


def _median(tables: Mapping[str, pa.Table], move: Move) -> int:
    """Return a cut with about as many rows before it as behind; 0 where rows say nothing."""
    columns = [
        t.column("_offset").combine_chunks() for t in tables.values() if t.num_rows and "_offset" in t.schema.names
    ]
    if not columns:
        return 0
    offsets = pc.sort_indices(joined := pa.concat_arrays([c.cast(pa.int64()) for c in columns]))
    cut = int(joined[offsets[len(joined) // 2].as_py()].as_py())
    return cut if move.start < cut < move.end else 0


def _within(tables: Mapping[str, pa.Table], moves: Sequence[Move]) -> dict[str, pa.Table]:
    kept = {}
    for name, table in tables.items():
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
