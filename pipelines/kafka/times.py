"""When the records at a few positions came: two records at one position differ in it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pipelines.kafka.source import Position, Source
from schemas.errors import KafkaUnavailableError

_READ_S = 60.0


def read_times(
    source: Source, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> dict[Position, dict[int, int]]:
    """Return, for each partition, offset -> Kafka's time (µs UTC) of its records from start to before end.

    ``source`` is left without partitions.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    found: dict[Position, dict[int, int]] = {at: {} for at in starts}
    source.assign({at: start for at, start in starts.items() if start < ends[at]})
    until = time.monotonic() + _READ_S
    while any(offset < ends[at] for at, offset in source.positions().items()):
        if time.monotonic() > until:
            raise KafkaUnavailableError(source.config.bootstrap_servers, "compare the log", f"{_READ_S:.0f} s passed")
        for records in source.poll():
            for partition, offset, at in zip(records.partitions, records.offsets, records.kafka_times, strict=True):
                if offset < ends[records.topic, partition]:
                    found[records.topic, partition][offset] = at
    source.assign({})
    return found
