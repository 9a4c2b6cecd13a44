"""Where meter continues: from its committed offsets, if llm.events is still the log that they were counted in.

Beside each offset the group keeps (epoch, Kafka's time of the last record, id of llm.events), committed in the
transaction of the rollups. Kafka deletes the offsets of a topic that is deleted, so every tick on llm.rollups has the
epoch and the id, too: a topic that was made again is recognised by the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from pipelines.kafka import LogTruncatedError, Source, TopicReplacedError, read_records
from pipelines.kafka.identity import LastRecord, changed_ends, is_same_topic, require_same_topics
from schemas.errors import UNREADABLE
from schemas.records import Record
from schemas.rollups import H_KIND, Tick
from schemas.topics import EVENTS, ROLLUPS

log = structlog.get_logger(__name__)
_FORMER_AT = (ROLLUPS, 0)
"""Where meters before 0.2 kept "epoch id": beside an offset 0 of the group, which monitors show as a permanent lag."""
_WINDOW = 256
"""Offsets of llm.rollups read at a time until a tick is found; there are two ticks a second."""


@dataclass(frozen=True)
class OffsetMetadata:
    """What is committed beside an offset."""

    epoch: int
    kafka_time: int | None
    """Of the last record before the offset, µs UTC; None where none was read."""
    topic_id: str = ""
    """Empty: an older meter wrote it."""

    def __str__(self) -> str:
        time = "-" if self.kafka_time is None else self.kafka_time
        return f"{self.epoch} {time} {self.topic_id}"

    @classmethod
    def parse(cls, text: str) -> OffsetMetadata | None:
        """Inverse of ``str``; also reads "epoch time" of older meters. None: anything else."""
        epoch, time, topic_id = (*text.split(" "), "", "", "")[:3]
        if not epoch.isdigit() or not (time.isdigit() or (time == "-" and topic_id)):
            return None
        return cls(int(epoch), None if time == "-" else int(time), topic_id)


@dataclass(frozen=True)
class Current:
    """What llm.events is now, and what the lake records of it."""

    topic_id: str
    epoch: int = 0
    """Of the lake's ledger."""
    landed_id: str = ""
    """Id that llm.events has in the lake; empty where that is not known."""
    starts: Mapping[int, int] = field(default_factory=dict)
    """Partition -> first offset of the epoch."""


@dataclass(frozen=True)
class Resumed:
    """Partition -> next offset, and Kafka's time of the last record before it where that is known."""

    positions: Mapping[int, int]
    kafka_times: Mapping[int, int]


def resume(
    source: Source,
    now: Current,
    marks: Mapping[int, tuple[int, int]],
    *,
    rollups: Callable[[], Source],
    mine: Callable[[int], bool] = lambda partition: True,
    heartbeat: Callable[[], None] = lambda: None,
) -> Resumed:
    """Return where to continue: at the committed offsets, else at the low watermark.

    Where the log is another one than was counted, and adopted: where the lake lands it from.

    Args:
        source: of llm.events, in meter's group.
        now: the topic.
        marks: partition -> (low, high) watermark, of all partitions.
        rollups: opens a source of llm.rollups; called only where no offset has the id of its topic.
        mine: whether this copy counts a partition.
        heartbeat: called between two reads.

    Raises:
        TopicReplacedError: another topic under the old epoch.
        LogTruncatedError: a truncated log under the old epoch.
    """
    committed = source.committed(EVENTS, marks)
    known = {p: found for p, (_, text) in committed.items() if (found := OffsetMetadata.parse(text))}
    epoch, topic_id = recorded(known.values()) or _of_ticks(rollups, heartbeat) or _former(source)
    if not topic_id:  # the metadata of the offsets was lost with their cluster: the lake has the id
        require_same_topics({EVENTS: now.landed_id}, {EVENTS: now.topic_id})
    adopted = now.epoch > epoch
    if not adopted and not is_same_topic(topic_id, now.topic_id):
        raise TopicReplacedError(EVENTS, topic_id, now.topic_id)
    offsets = {
        p: offset
        for p, (offset, _) in committed.items()
        if mine(p) and is_same_topic(known[p].topic_id if p in known else topic_id, now.topic_id)
    }
    here = {p: mark for p, mark in marks.items() if mine(p)}
    cut = _cut(source, offsets, known, here, heartbeat)
    positions = {}
    for p, (low, _) in here.items():
        start = now.starts.get(p, low)
        if p not in offsets:
            offset = start if adopted or p in committed else low
        else:
            offset = continued(p, offsets[p], known.get(p), cut.get(p), now, adopted=adopted, start=start)
        if offset < low:
            log.error("positions_lost", topic=EVENTS, partition=p, start=offset, end=low)
        positions[p] = max(offset, low)
    whole = {p: known[p].kafka_time for p in offsets.keys() & known.keys() - cut.keys()}
    return Resumed(positions, {p: time for p, time in whole.items() if time is not None})


def continued(
    partition: int,
    offset: int,
    known: OffsetMetadata | None,
    cut: int | None,
    now: Current,
    *,
    adopted: bool,
    start: int,
) -> int:
    """Return where to continue in a partition whose committed offset is of this topic.

    Args:
        partition: its number.
        offset: committed.
        known: what was committed beside it.
        cut: first offset that is not the log that was counted; None where the log is whole.
        now: the topic.
        adopted: whether the lake has a newer epoch than was counted under.
        start: from where the lake lands it.

    Raises:
        LogTruncatedError: it was truncated, and that is not adopted.
    """
    if cut is not None:
        if not adopted and (known is None or known.epoch >= now.epoch):
            raise LogTruncatedError({(EVENTS, partition): (offset, cut)})
        # where land continues; where land was not affected, as near to the truncation as is known
        return min(start, cut)
    # without metadata there is nothing to compare: the lake's start, if that is earlier
    return min(offset, now.starts.get(partition, offset)) if adopted and known is None else offset


def recorded(found: Iterable[OffsetMetadata]) -> tuple[int, str] | None:
    """Return (epoch, topic id) of the newest metadata that has an id: after `topics adopt` another copy of meter may
    still be committing under the epoch before.
    """
    return max(((each.epoch, each.topic_id) for each in found if each.topic_id), default=None)


def _cut(
    source: Source,
    offsets: Mapping[int, int],
    known: Mapping[int, OffsetMetadata],
    marks: Mapping[int, tuple[int, int]],
    heartbeat: Callable[[], None],
) -> dict[int, int]:
    """Partition -> where its log ends, or is known to have another record, of those that were cut."""
    last = {
        (EVENTS, p): LastRecord(offset, known[p].kafka_time if p in known else None) for p, offset in offsets.items()
    }
    ends = changed_ends(source, last, {(EVENTS, p): mark for p, mark in marks.items()}, heartbeat=heartbeat)
    return {p: end for (_, p), end in ends.items()}


def _former(source: Source) -> tuple[int, str]:
    """(epoch, topic id) as older meters committed them; (0, "") where none did."""
    _, text = source.committed(_FORMER_AT[0], [_FORMER_AT[1]]).get(_FORMER_AT[1], (0, ""))
    epoch, _, topic_id = text.partition(" ")
    return (int(epoch), topic_id) if epoch.isdigit() else (0, "")


def _of_ticks(rollups: Callable[[], Source], heartbeat: Callable[[], None]) -> tuple[int, str] | None:
    """(epoch, topic id) of the newest ticks that have them; None where there are none.

    Every partition gets every tick, so one partition is enough.
    """
    with closing(rollups()) as source:
        low, end = source.partitions(ROLLUPS)[0]
        while end > low:
            start = max(low, end - _WINDOW)
            records = read_records(source, {(ROLLUPS, 0): start}, {(ROLLUPS, 0): end}, heartbeat=heartbeat)
            if found := [each for record in records if (each := _identity(record))]:
                return max(found)
            end = start
    return None


def _identity(record: Record) -> tuple[int, str] | None:
    if dict(record.headers).get(H_KIND) != b"tick":
        return None
    try:
        tick = Tick.from_json(record.value or b"")
    except UNREADABLE:
        return None
    return (tick.epoch, tick.topic_id) if tick.topic_id else None
