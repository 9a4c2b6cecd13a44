"""The detectors over history: landed rollups and ticks, read back in the order in which detect received them.

The landed records are those that detect read, so the judgement is the same: the same alerts, with the same texts and
ids. Only earlier records are missing, so some time is judged first without alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.detect.items import Batch, TickAt, batch
from pipelines.detect.judge import Judge, PartitionState
from schemas.alerts import Alert
from schemas.rollups import COUNTS, MAYBE_BUCKETS, MAYBE_SUMS, SPAN_KEY, TOKENS, SourceTick, Tick

Query = Callable[[str, Sequence[object]], pa.Table]
"""Runs SQL on the lake."""
PAGE, PAGE_ROWS = 20_000, 50_000
"""Positions and rows of rollups read at a time: an answer of the lake is bounded."""
_SPANS = """
WITH places AS (
    SELECT _partition, _epoch, _offset, day, _kafka_time FROM ticks
    UNION ALL SELECT _partition, _epoch, _offset, day, _kafka_time FROM rollups
)
SELECT _partition, _epoch, min(_offset) AS first, max(_offset) + 1 AS upto FROM places
WHERE epoch_us(_kafka_time) >= $1 AND epoch_us(_kafka_time) < $2 AND day >= $3 AND day <= $4
GROUP BY ALL ORDER BY ALL
"""
_IN_RANGE = "_partition = $1 AND _epoch = $2 AND _offset >= $3 AND _offset < $4"
_TICKS = f"""
SELECT _offset, epoch_us(_kafka_time) AS kafka_time, epoch_us(wall) AS wall, slot, sources FROM ticks WHERE {_IN_RANGE}
ORDER BY _offset
"""
_SIZES = f"""
SELECT _offset, count(*) AS rows FROM (
    SELECT _offset FROM ticks WHERE {_IN_RANGE}
    UNION ALL SELECT _offset FROM rollups WHERE {_IN_RANGE} AND "key" <> '{SPAN_KEY}'
) GROUP BY 1 ORDER BY 1
"""
_FIRSTS = """
SELECT (SELECT epoch_us(min(_kafka_time)) FROM rollups) AS rollup,
    (SELECT epoch_us(min(_kafka_time)) FROM ticks) AS tick
"""
_LISTS = ("guardrails", "signals", "exemplars", "error_types", "latency", "ttft", *MAYBE_BUCKETS)
_READ = ("series", "second", *COUNTS, *TOKENS, "cost_nanousd", *MAYBE_SUMS, *_LISTS)
"""What detectors read of a rollup row."""
# rows of one message keep the order in which they were sent: merging does not change it
_ROLLUPS = f"""
SELECT {", ".join(f'"{name}"' for name in _READ)}, _offset, "key", source_partition, source_to, source_epoch,
    epoch_us(_kafka_time) AS kafka_time
FROM rollups WHERE {_IN_RANGE} AND "key" <> '{SPAN_KEY}' AND ($5::VARCHAR IS NULL OR "key" = $5) ORDER BY _offset, rowid
"""


_MESSAGE = ("key", "source_partition", "source_to", "source_epoch", "kafka_time")


@dataclass(frozen=True)
class OffsetRange:
    """Positions of one partition of llm.rollups under one epoch, to be judged."""

    partition: int
    epoch: int
    first: int
    upto: int


def ranges(query: Query, *, since: int, until: int) -> list[OffsetRange]:
    """Return what landed between two moments (Kafka's time, µs UTC), by partition and epoch."""
    rows = query(_SPANS, [since, until, _day(since), _day(until)]).to_pylist()
    return [OffsetRange(row["_partition"], row["_epoch"], row["first"], row["upto"]) for row in rows]


def firsts(query: Query) -> tuple[int | None, int | None]:
    """Return when the first rollup and the first tick that are kept came (Kafka's time, µs UTC); None: there is none.

    Without ticks no window closes: before the first of them nothing can be judged again.
    """
    (row,) = query(_FIRSTS, []).to_pylist()
    return row["rollup"], row["tick"]


def judge(
    query: Query,
    ranges: Sequence[OffsetRange],
    judge: Judge,
    *,
    progress: Callable[[int], None] = lambda positions: None,
) -> Iterator[Alert]:
    """Yield the alerts of ``ranges``, which are those of ``ranges()``, partition by partition.

    Args:
        query: on the lake.
        ranges: what to judge, those of one partition in the order of their epochs.
        judge: detectors and timing, as the live stage has them.
        progress: called after each page with the number of offsets judged in it.
    """
    state, partition = PartitionState(), -1
    for stretch in ranges:
        if stretch.partition != partition:
            state, partition = PartitionState(), stretch.partition
        judge.learn(state)
        state.restart_at(stretch.first)
        for first, upto in pages(query, stretch):
            for offset, item in items(query, stretch.partition, stretch.epoch, first, upto):
                for alerts in judge.apply(state, offset, item):
                    yield from alerts
            progress(upto - first)


def pages(query: Query, stretch: OffsetRange) -> Iterator[tuple[int, int]]:
    """Split a range into pages of at most PAGE_ROWS rows and PAGE positions; one message may be more by itself."""
    parameters = [stretch.partition, stretch.epoch, stretch.first, stretch.upto]
    sizes = query(_SIZES, parameters)
    first, rows = stretch.first, 0
    for offset, count in zip(sizes["_offset"].to_pylist(), sizes["rows"].to_pylist(), strict=True):
        if offset > first and (rows + count > PAGE_ROWS or offset - first >= PAGE):
            yield first, offset
            first, rows = offset, 0
        rows += count
    yield first, stretch.upto


def items(query: Query, partition: int, epoch: int, first: int, upto: int) -> Iterator[tuple[int, Batch | TickAt]]:
    """Yield (offset, record) of the positions [first, upto) of llm.rollups that detect judges."""
    yield from assembled(*tables(query, OffsetRange(partition, epoch, first, upto)))


def tables(query: Query, stretch: OffsetRange, app: str | None = None) -> tuple[pa.Table, pa.Table]:
    """Return (ticks, rows of rollups) of a stretch; with ``app`` the rows of that app only."""
    parameters = [stretch.partition, stretch.epoch, stretch.first, stretch.upto]
    return query(_TICKS, parameters), query(_ROLLUPS, [*parameters, app])


def ticks(query: Query, stretch: OffsetRange) -> Iterator[tuple[int, TickAt]]:
    """Yield (offset, tick) of a stretch."""
    parameters = [stretch.partition, stretch.epoch, stretch.first, stretch.upto]
    for row in query(_TICKS, parameters).to_pylist():
        yield row["_offset"], _tick(row)


def assembled(ticks: pa.Table, rollups: pa.Table) -> Iterator[tuple[int, Batch | TickAt]]:
    """Yield (offset, record) of ``tables``, in the order of offsets."""
    by_offset = {row["_offset"]: row for row in ticks.to_pylist()}
    spans = _spans(rollups.column("_offset").to_numpy())
    for offset in sorted(by_offset.keys() | spans.keys()):
        yield offset, _tick(by_offset[offset]) if offset in by_offset else _batch(rollups.slice(*spans[offset]))


def _tick(row: Mapping[str, Any]) -> TickAt:
    sources = {s.pop("partition"): SourceTick(**s) for s in row["sources"]}
    return TickAt(Tick(row["wall"], sources, row["slot"]), row["kafka_time"])


def _batch(rows: pa.Table) -> Batch:
    (message,) = rows.slice(0, 1).select(_MESSAGE).to_pylist()
    return batch(
        message["key"],
        rows.select(_READ),
        source=message["source_partition"],
        next_offset=message["source_to"],
        epoch=message["source_epoch"],
        kafka_time=message["kafka_time"],
    )


def _spans(offsets: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """Return offset -> (first row, rows) of ascending offsets."""
    found, first, count = np.unique(offsets, return_index=True, return_counts=True)
    return {int(o): (int(a), int(n)) for o, a, n in zip(found, first, count, strict=True)}


def _day(at: int) -> date:
    return datetime.fromtimestamp(at / 1e6, UTC).date()
