"""On assignment: read again as much of the log as meter's memory follows from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from pipelines.kafka import Source
from pipelines.meter.counting import Counting
from pipelines.pricing import PriceBooks
from schemas.records import Records
from schemas.topics import EVENTS

log = structlog.get_logger()


def warm_up(
    source: Source,
    counting: Counting,
    positions: Mapping[int, int],
    books: PriceBooks,
    *,
    stop: threading.Event,
    heartbeat: Callable[[], None],
    now: Callable[[], int],
) -> None:
    """Rebuild the state of ``counting`` at ``positions``, then assign ``source`` there.

    At most three blocks of 65,536 offsets of each partition, about a second each; records that retention deleted are
    missing.
    """
    low = {p: marks[0] for p, marks in source.partitions(EVENTS).items()}
    feed_from, learn_from = {}, {}
    for partition, position in positions.items():
        feed, learn = counting.start(partition, position)
        feed_from[partition], learn_from[partition] = max(feed, low[partition]), max(learn, low[partition])
    rest = {(EVENTS, p): feed for p, feed in feed_from.items() if feed < positions[p]}
    source.assign(rest)
    rows = 0
    while rest and not stop.is_set():
        for batch in source.poll(0.2):
            counting.seen.feed(between(batch, feed_from, learn_from))
            known = between(batch, learn_from, positions)
            counting.learn(known, books, wall=now())
            rows += len(batch)
        # the rest is read again, from its true start
        left = {at: offset for at, offset in source.positions().items() if offset < positions[at[1]]}
        if len(left) < len(rest):
            # not by pause and resume: around an assign librdkafka may drop the resume (librdkafka#5591), and the
            # partition is not read any more (zippy, seed 20261121)
            source.assign(left)
        rest = left
        heartbeat()
    source.assign({(EVENTS, p): position for p, position in positions.items()})
    log.info("memory_rebuilt", topic=EVENTS, rows=rows, positions=dict(positions))


def between(records: Records, start: Mapping[int, int], end: Mapping[int, int]) -> Records:
    """The records of each partition with start <= offset < end; other partitions are left out."""
    keep = [
        i
        for i, (p, offset) in enumerate(zip(records.partitions, records.offsets, strict=True))
        if start.get(p, 0) <= offset < end.get(p, 0)
    ]
    spans = {
        p: (max(a, start.get(p, 0)), min(b, end.get(p, 0)))
        for p, (a, b) in records.positions.items()
        if max(a, start.get(p, 0)) < min(b, end.get(p, 0))
    }
    return records.where(keep, spans)
