"""What Kafka hands to a stage: a batch of records, and the positions it covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat


@dataclass(frozen=True, slots=True)
class Record:
    """One record of one topic. Times are µs UTC."""

    topic: str
    partition: int
    offset: int
    kafka_time: int
    """Time of the record, µs UTC: the broker's LogAppendTime, unless ``created``."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    created: bool = False
    """The time is CreateTime: set by the producer, whose clock may be wrong by any amount."""


@dataclass(frozen=True, slots=True)
class Records:
    """A batch of one topic, as columns: row i of every list is one record.

    Within a partition offsets ascend. ``positions`` is the span of each partition that the batch covers, which is
    wider than its rows where transaction markers or aborted records lie between.
    """

    topic: str
    partitions: list[int]
    offsets: list[int]
    kafka_times: list[int]
    """Time of the record, µs UTC: the broker's LogAppendTime, unless ``created``."""
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: list[tuple[tuple[str, bytes], ...]]
    positions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """partition -> (first position covered, next position to read)."""
    created: list[bool] = field(default_factory=list)
    """Whether the time of each record is CreateTime, set by its producer; empty where all are LogAppendTime."""

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self) -> Iterator[Record]:
        """Yield the batch one record at a time; for topics where a batch is small."""
        created = self.created or repeat(False, len(self))
        columns = zip(
            self.partitions,
            self.offsets,
            self.kafka_times,
            self.keys,
            self.values,
            self.headers,
            created,
            strict=True,
        )
        for row in columns:
            yield Record(self.topic, *row)

    def where(self, keep: Sequence[int], positions: Mapping[int, tuple[int, int]]) -> Records:
        """Return the rows of the indices ``keep``, covering ``positions``."""
        return Records(
            self.topic,
            [self.partitions[i] for i in keep],
            [self.offsets[i] for i in keep],
            [self.kafka_times[i] for i in keep],
            [self.keys[i] for i in keep],
            [self.values[i] for i in keep],
            [self.headers[i] for i in keep],
            dict(positions),
            [self.created[i] for i in keep] if self.created else [],
        )


def marked(headers: Sequence[tuple[tuple[str, bytes], ...]], header: tuple[str, bytes]) -> list[bool]:
    """Return which records carry ``header``; those of one producer mostly have the same headers."""
    having = {each for each in set(headers) if header in each}
    return [each in having for each in headers] if having else [False] * len(headers)


@dataclass(frozen=True, slots=True)
class Move:
    """A ledger move: partition ``partition`` of ``topic`` goes from ``start`` to ``end`` (the next offset)."""

    topic: str
    partition: int
    start: int
    end: int
