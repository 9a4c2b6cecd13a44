"""Whether a log still is the one that was landed, and where the two part.

A broker that lost its last seconds to a power cut comes back with a shorter log. Once that has grown again, other
records stand at positions that the ledger has passed: whoever went on from there would lose them without a word.
Kafka's time tells two records at one position apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import structlog

from pipelines.kafka import Source, read_times
from pipelines.kafka.source import Position
from warehouse.storage.landed_positions import times

log = structlog.get_logger(__name__)
NEAR = 16
"""Positions below the ledger that every start looks at."""
WINDOW = 65_536
"""Positions that are compared at a time, of all partitions together, where nearer ones share nothing."""
Spans = Mapping[int, tuple[int, int]]
"""Partition -> (from, to), to excluded."""
Landed = Callable[[str, Spans], Mapping[int, Mapping[int, int]]]
"""(topic, spans) -> partition -> offset -> Kafka's time, µs UTC, of what has landed there."""


def landed_times(lake: duckdb.DuckDBPyConnection, epochs: Mapping[str, int]) -> Landed:
    """Ask ``lake`` under the current ``epochs`` of its topics."""
    return lambda topic, spans: times(lake, topic, epochs[topic], spans)


def partings(
    source: Source,
    landed: Landed,
    stands: Mapping[Position, int],
    marks: Mapping[Position, tuple[int, int]],
    *,
    alive: Callable[[], None] = lambda: None,
) -> dict[Position, int]:
    """Return, for partitions whose log is not the landed one, where that ends: the first position to land anew.

    Args:
        source: reads; left without partitions.
        landed: what the lake has.
        stands: next offset of the ledger.
        marks: low and high watermark.
        alive: called while it reads.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    found: dict[Position, int] = {}
    stops = {at: upto for at, upto in stands.items() if at in marks and upto > marks[at][0]}
    ends = {at: marks[at][1] for at in stops}
    """Partition -> end of what may be shared: of the log, or the lowest position known to hold another record."""
    size = NEAR
    while stops:  # one window after the other, so that memory is bounded where nothing is shared
        starts = {at: max(marks[at][0], stop - size) for at, stop in stops.items()}
        read = read_times(source, starts, {at: min(stop, marks[at][1]) for at, stop in stops.items()}, alive=alive)
        for topic in {t for t, _ in stops}:
            lake = landed(topic, {p: (start, stops[t, p]) for (t, p), start in starts.items() if t == topic})
            for at in [at for at in stops if at[0] == topic]:
                low, upto = marks[at][0], stands[at]
                end = shared_end(read[at], lake[at[1]], upto, ends[at])
                ends[at] = min([ends[at], *_differing(read[at], lake[at[1]])])
                stops[at] = starts[at]
                if end is None and starts[at] > low:
                    continue  # nothing of both here: look farther back
                del stops[at]
                if end is None:
                    end = _unknown(at, upto, low, ends[at])
                if end < upto:
                    found[at] = end
        size = min(size * 16, max(NEAR, WINDOW // max(1, len(stops))))
    return found


def _differing(read: Mapping[int, int], lake: Mapping[int, int]) -> list[int]:
    return [offset for offset in read.keys() & lake.keys() if read[offset] != lake[offset]]


def shared_end(read: Mapping[int, int], lake: Mapping[int, int], upto: int, high: int) -> int | None:
    """Return where log and lake part, ``upto`` where they do not; None where they share no position here.

    Args:
        read: offset -> Kafka's time, of the log.
        lake: the same of the lake.
        upto: next offset of the ledger.
        high: end of the log, or the lowest position known to hold another record.
    """
    least = min([upto, high, *_differing(read, lake)])
    same = [offset for offset in read.keys() & lake.keys() if offset < least]
    if not same:
        return None
    return upto if least == upto else max(same) + 1


def _unknown(at: Position, upto: int, low: int, end: int) -> int:
    """Where the whole log shares no position with the lake: cut if anything says so, else taken for the same."""
    if end < upto:
        return low
    log.warning("log_not_compared", topic=at[0], partition=at[1], stands=upto)
    return upto
