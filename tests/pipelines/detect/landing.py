"""Rollups and ticks in a lake, landed by land's own function."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.land.rows import land_rows
from schemas.records import Move, Record, Records
from schemas.topics import ROLLUPS
from tests.pipelines.detect.traffic import T0
from warehouse.lake import Lake


def land(lake: Lake, records: Sequence[Record], *, partition: int = 0, first: int = 0) -> int:
    """Append ``records`` to a partition of llm.rollups from the offset ``first`` on; return the one after them."""
    end = first + len(records)
    found = Records(
        ROLLUPS,
        [partition] * len(records),
        list(range(first, end)),
        [record.kafka_time for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.headers for record in records],
        {partition: (first, end)},
    )
    lake.append(land_rows(found, epoch=lake.epoch(ROLLUPS), landed_at=T0), [Move(ROLLUPS, partition, first, end)])
    return end
