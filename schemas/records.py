"""What Kafka hands to a stage: a batch of records, and the positions it covers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Record:
    """One record of one topic. Times are µs UTC."""

    topic: str
    partition: int
    offset: int
    kafka_time: int
    """The broker's LogAppendTime, µs UTC; the only time that price and watermark may lean on."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of one topic, as columns: row i of every list is one record.

    Within a partition offsets ascend. ``positions`` says which span of each partition the batch covers, which is
    wider than its rows where transaction markers or aborted records lie between.
    """

    topic: str
    partitions: list[int]
    offsets: list[int]
    kafka_times: list[int]
    """LogAppendTime, µs UTC."""
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[tuple[tuple[str, bytes], ...]]
    positions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """partition -> (first position covered, next position to read)."""

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self) -> Iterator[Record]:
        """Yield the batch one record at a time; for topics where a batch is small."""
        columns = zip(
            self.partitions, self.offsets, self.kafka_times, self.keys, self.values, self.headers, strict=True
        )
        for partition, offset, kafka_time, key, value, headers in columns:
            yield Record(self.topic, partition, offset, kafka_time, key, value, headers)


@dataclass(frozen=True, slots=True)
class Move:
    """A ledger move: partition ``partition`` of ``topic`` goes from ``start`` to ``end`` (the next offset)."""

    topic: str
    partition: int
    start: int
    end: int
