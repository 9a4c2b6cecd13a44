"""Read a few records at known positions: themselves, or when they came. Two records at one position differ in that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from pipelines.kafka.source import Position, Source
from schemas.errors import KafkaUnavailableError
from schemas.records import Record

_POLL_S = 0.1
_STILL_S = 30.0


def read_times(
    source: Source,
    starts: Mapping[Position, int],
    ends: Mapping[Position, int],
    *,
    heartbeat: Callable[[], None] = lambda: None,
) -> dict[Position, dict[int, int]]:
    """Return, for each partition, offset -> Kafka's time (µs UTC) of its records from start to before end.

    The arguments and errors are those of `read_records`.
    """
    found: dict[Position, dict[int, int]] = {at: {} for at in starts}
    for record in read_records(source, starts, ends, heartbeat=heartbeat):
        found[record.topic, record.partition][record.offset] = record.kafka_time
    return found


def read_records(
    source: Source,
    starts: Mapping[Position, int],
    ends: Mapping[Position, int],
    *,
    heartbeat: Callable[[], None] = lambda: None,
) -> Iterator[Record]:
    """Yield the records of each partition from start to before end.

    ``source`` is left without partitions.

    Args:
        source: any, of these topics.
        starts: partition -> first offset.
        ends: partition -> offset to stop before; not above the end of its log.
        heartbeat: called between two reads.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    source.assign({at: start for at, start in starts.items() if start < ends[at]})
    before, moved = source.positions(), time.monotonic()
    while any(offset < ends[at] for at, offset in source.positions().items()):
        if source.positions() != before:
            before, moved = source.positions(), time.monotonic()
        if time.monotonic() - moved > _STILL_S:
            raise KafkaUnavailableError(
                source.config.bootstrap_servers, "compare the log", f"{_STILL_S:.0f} s of silence"
            )
        heartbeat()
        for records in source.poll(_POLL_S):
            for record in records.rows():
                if record.offset < ends[record.topic, record.partition]:
                    yield record
    source.assign({})
