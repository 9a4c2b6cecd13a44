"""Whether a topic, and the log of each partition, is still the one that recorded offsets belong to.

A topic that was deleted and created again has another id. A log can lose its end and keep the id: a broker that lost
its last seconds to a power cut comes back with a shorter log. Once that log has grown again, other records are at
offsets that were already read, and a stage that continued from its offset would lose them without notice. The
timestamp that Kafka gave a record (LogAppendTime) distinguishes two records at one offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from pipelines.kafka.errors import LogTruncatedError, TopicReplacedError
from pipelines.kafka.source import Position, Source
from pipelines.kafka.times import read_times

log = structlog.get_logger(__name__)
FIRST_WINDOW = 16
"""Offsets before the recorded position that every start compares."""
WINDOW = 65_536
"""Offsets compared at a time, over all partitions, where the nearer ones have no record in common."""
Spans = Mapping[int, tuple[int, int]]
"""Partition -> (first offset, offset to stop before)."""
RecordedTimes = Callable[[str, Spans], Mapping[int, Mapping[int, int]]]
"""(topic, spans) -> partition -> offset -> Kafka's time (µs UTC) of the records that were read there."""
Watermarks = Mapping[Position, tuple[int, int]]
"""Partition -> (low, high) watermark."""


def is_same_topic(recorded: str, current: str) -> bool:
    """Return whether two topic ids name one topic. An empty ``recorded`` id is unknown and contradicts nothing."""
    return recorded in ("", current)


def require_same_topics(recorded: Mapping[str, str], current: Mapping[str, str]) -> None:
    """Compare the ids of several topics.

    Args:
        recorded: topic -> id under which offsets were recorded; a topic without one is not compared.
        current: topic -> id that the broker reports now.

    Raises:
        TopicReplacedError: a topic has another id now.
    """
    for topic, found in current.items():
        if not is_same_topic(known := recorded.get(topic, ""), found):
            raise TopicReplacedError(topic, known, found)


def beyond_end(positions: Mapping[Position, int], watermarks: Watermarks) -> dict[Position, int]:
    """Return partition -> end of its log, for partitions whose next offset is greater than that end."""
    return {
        at: watermarks[at][1] for at, offset in positions.items() if at in watermarks and offset > watermarks[at][1]
    }


def require_not_beyond_end(positions: Mapping[Position, int], watermarks: Watermarks) -> None:
    """Compare next offsets with the ends of their logs.

    Raises:
        LogTruncatedError: a log ends before the next offset.
    """
    if ends := beyond_end(positions, watermarks):
        raise LogTruncatedError({at: (positions[at], end) for at, end in ends.items()})


@dataclass(frozen=True)
class LastRecord:
    """The end of what was read of a partition."""

    next_offset: int
    kafka_time: int | None
    """Of the last record that was read, µs UTC; None where it was not recorded: only the end of the log is compared."""
    always_a_record: bool = False
    """Whether ``next_offset - 1`` is the offset of that record. Else a transaction marker may be there, which has no
    time to compare."""


def changed_ends(
    source: Source,
    last: Mapping[Position, LastRecord],
    watermarks: Watermarks,
    *,
    heartbeat: Callable[[], None] = lambda: None,
) -> dict[Position, int]:
    """Return partition -> first offset known not to be in the log that was read; whole logs are left out.

    Args:
        source: reads; left without partitions.
        last: what was read of each partition.
        watermarks: of the same partitions.
        heartbeat: called between two reads.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    found = beyond_end({at: record.next_offset for at, record in last.items()}, watermarks)
    compared = {
        at: record
        for at, record in last.items()
        if at not in found and record.kafka_time is not None and record.next_offset > watermarks[at][0]
    }
    starts = {at: record.next_offset - 1 for at, record in compared.items()}
    times = read_times(source, starts, {at: offset + 1 for at, offset in starts.items()}, heartbeat=heartbeat)
    for at, record in compared.items():
        absent = None if record.always_a_record else record.kafka_time
        if times[at].get(starts[at], absent) != record.kafka_time:
            found[at] = starts[at]
    return found


def find_truncations(
    source: Source,
    recorded: RecordedTimes,
    positions: Mapping[Position, int],
    watermarks: Watermarks,
    *,
    heartbeat: Callable[[], None] = lambda: None,
) -> dict[Position, int]:
    """Return partition -> first offset to read again, for logs that are not the recorded ones; whole logs are left out.

    Partitions are compared backwards in windows of offsets, so that memory is bounded where nothing is shared.

    Args:
        source: reads; left without partitions.
        recorded: the times of the records that were read before.
        positions: partition -> next offset.
        watermarks: of all partitions.
        heartbeat: called between two reads.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    found: dict[Position, int] = {}
    stops = {at: upto for at, upto in positions.items() if at in watermarks and upto > watermarks[at][0]}
    ends = {at: watermarks[at][1] for at in stops}
    """Partition -> end of what may be shared: of the log, or the lowest offset known to hold another record."""
    size = FIRST_WINDOW
    while stops:
        starts = {at: max(watermarks[at][0], stop - size) for at, stop in stops.items()}
        read = read_times(
            source, starts, {at: min(stop, watermarks[at][1]) for at, stop in stops.items()}, heartbeat=heartbeat
        )
        for topic in {t for t, _ in stops}:
            known = recorded(topic, {p: (start, stops[t, p]) for (t, p), start in starts.items() if t == topic})
            for at in [at for at in stops if at[0] == topic]:
                low, upto = watermarks[at][0], positions[at]
                end = shared_end(read[at], known[at[1]], upto, ends[at])
                ends[at] = min([ends[at], *_differing(read[at], known[at[1]])])
                stops[at] = starts[at]
                if end is None and starts[at] > low:
                    continue  # no record in common here: compare an earlier window
                del stops[at]
                if end is None:
                    end = _end_if_nothing_is_shared(at, upto, low, ends[at])
                if end < upto:
                    found[at] = end
        size = min(size * 16, max(FIRST_WINDOW, WINDOW // max(1, len(stops))))
    return found


def shared_end(read: Mapping[int, int], recorded: Mapping[int, int], upto: int, high: int) -> int | None:
    """Return the offset at which the log and the record of it diverge; None where they have no offset in common.

    Args:
        read: offset -> Kafka's time, of the log.
        recorded: the same, of what was read before.
        upto: next offset; returned where nothing diverges.
        high: end of the log, or the lowest offset known to hold another record.
    """
    least = min([upto, high, *_differing(read, recorded)])
    same = [offset for offset in read.keys() & recorded.keys() if offset < least]
    if not same:
        return None
    return upto if least == upto else max(same) + 1


def _differing(read: Mapping[int, int], recorded: Mapping[int, int]) -> list[int]:
    return [offset for offset in read.keys() & recorded.keys() if read[offset] != recorded[offset]]


def _end_if_nothing_is_shared(at: Position, upto: int, low: int, end: int) -> int:
    """Return ``low`` where the log is known to be shorter or different; else assume that it is the same log."""
    if end < upto:
        return low
    log.warning("log_not_compared", topic=at[0], partition=at[1], positions=upto)
    return upto
