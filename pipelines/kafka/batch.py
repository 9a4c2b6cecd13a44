"""Messages to columns: the only place that touches every record, so it does it in C, a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from schemas.records import Records

# the C getters, typed for records that are no errors: these have a partition, an offset and a time
_PARTITION: Callable[[Message], int] = cast(Any, Message.partition)
_OFFSET: Callable[[Message], int] = cast(Any, Message.offset)
_HEADERS: Callable[[Message], list[tuple[str, bytes]] | None] = cast(Any, Message.headers)

_LATEST_MS = 253_402_214_400_000
"""The last day of 9999. A producer may set any 64-bit number as the time of a record; no column holds it in µs."""


class Batch:
    """Grows by messages and by moves of positions; becomes `Records`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.partitions: list[int] = []
        self.offsets: list[int] = []
        self.times: list[tuple[int, int]] = []
        """(type, ms UTC) of each record's timestamp."""
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[list[tuple[str, bytes]] | None] = []
        self.positions: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def extend(self, messages: Sequence[Message], next_offsets: dict[tuple[str, int], int]) -> None:
        """Append ``messages`` (none an error) and move ``next_offsets`` behind them.

        What is not assigned or already seen is left out: `consume` may return records of a former assignment
        (confluent-kafka-python#1013).
        """
        partitions = list(map(_PARTITION, messages))
        offsets = list(map(_OFFSET, messages))
        first = dict(zip(reversed(partitions), reversed(offsets), strict=True))
        if any(offset < next_offsets.get((self.topic, p), 1 << 62) for p, offset in first.items()):
            keep = [o >= next_offsets.get((self.topic, p), 1 << 62) for p, o in zip(partitions, offsets, strict=True)]
            messages = list(compress(messages, keep))
            partitions, offsets = list(compress(partitions, keep)), list(compress(offsets, keep))
        self.partitions += partitions
        self.offsets += offsets
        self.times += map(Message.timestamp, messages)
        self.keys += map(Message.key, messages)
        self.values += map(Message.value, messages)
        self.headers += map(_HEADERS, messages)
        for partition, last in dict(zip(partitions, offsets, strict=True)).items():
            self.move(partition, last + 1, next_offsets)

    def move(self, partition: int, end: int, next_offsets: dict[tuple[str, int], int]) -> None:
        """Note that ``partition`` is read up to ``end``, with records or without."""
        start = next_offsets[self.topic, partition]
        if end > start:
            first, _ = self.positions.get(partition, (start, start))
            self.positions[partition] = (first, end)
            next_offsets[self.topic, partition] = end

    def records(self) -> Records:
        """The records collected so far."""
        created = [kind != TIMESTAMP_LOG_APPEND_TIME for kind, _ in self.times]
        millis = [ms for _, ms in self.times]
        if any(created):
            millis = [min(max(ms, 0), _LATEST_MS) for ms in millis]
        return Records(
            topic=self.topic,
            partitions=self.partitions,
            offsets=self.offsets,
            kafka_times=[ms * 1000 for ms in millis],
            keys=self.keys,
            values=self.values,
            headers=[tuple(h) if h else () for h in self.headers],
            positions=self.positions,
            created=created if any(created) else [],
        )
