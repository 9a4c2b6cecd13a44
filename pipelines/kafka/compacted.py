"""A small compacted topic, read to its end: price books, deliveries, quotas."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pipelines.kafka.config import TIMEOUT_S, KafkaConfig
from pipelines.kafka.source import Source
from schemas.errors import KafkaUnavailableError
from schemas.records import Record


def read_all(config: KafkaConfig, topic: str) -> list[Record]:
    """Every record of ``topic`` up to the end it has now, in order within each partition.

    Keys are not compacted here: the last record of a key is the one that holds.

    Raises:
        TopicMissingError: there is no such topic.
        KafkaUnavailableError: the brokers do not answer in time.
    """
    return list(read_each(config, topic))


def read_each(config: KafkaConfig, topic: str) -> Iterator[Record]:
    """Yield what `read_all` returns, with one batch in memory at a time.

    A compacted topic holds every record since its last compaction: after a storm of alerts that is a million of them.
    """
    source = Source(config, [topic], batch_wait_s=0.2)
    try:
        yield from _read_to_end(source, topic)
    finally:
        source.close()


def _read_to_end(source: Source, topic: str) -> Iterator[Record]:
    marks = source.partitions(topic)
    source.assign({(topic, p): low for p, (low, _) in marks.items()})
    deadline = time.monotonic() + TIMEOUT_S
    while any(source.positions()[topic, p] < high for p, (_, high) in marks.items()):
        batches = source.poll()
        if not batches and time.monotonic() > deadline:
            raise KafkaUnavailableError(source.config.bootstrap_servers, f"read {topic} to its end", "no records")
        for batch in batches:
            yield from batch.rows()
            deadline = time.monotonic() + TIMEOUT_S
