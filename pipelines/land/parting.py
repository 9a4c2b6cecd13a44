"""Whether a log still is the one that was landed, and where the two part.

A broker that lost its last seconds to a power cut comes back with a shorter log. Once that has grown again, other
records stand at positions that the ledger has passed: whoever went on from there would lose them without a word.
Kafka's time tells two records at one position apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.kafka import Source, read_times
from pipelines.kafka.source import Position

NEAR = 16
"""Positions below the ledger that every start looks at."""
Landed = Callable[[str, int, int, int], Mapping[int, int]]
"""(topic, partition, from, to) -> offset -> Kafka's time, µs UTC, of what has landed there."""


def partings(source: Source, landed: Landed, stands: Mapping[Position, int]) -> dict[Position, int]:
    """Return, for partitions whose log is not the landed one, where that ends: the first position to land anew.

    Args:
        source: reads; left without partitions.
        landed: what the lake has.
        stands: next offset of the ledger.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    marks = {(topic, p): mark for topic in {t for t, _ in stands} for p, mark in source.partitions(topic).items()}
    found: dict[Position, int] = {}
    open_ = {at: upto for at, upto in stands.items() if at in marks and upto > marks[at][0]}
    span = NEAR
    while open_:
        starts = {at: max(marks[at][0], upto - span) for at, upto in open_.items()}
        logs = read_times(source, starts, {at: min(upto, marks[at][1]) for at, upto in open_.items()})
        for at, upto in list(open_.items()):
            end = _shared_end(logs[at], landed(*at, starts[at], upto), upto, marks[at][1])
            if end is None and starts[at] > marks[at][0]:
                continue  # nothing of both here: look farther back
            del open_[at]
            end = starts[at] if end is None else end
            if end < upto:
                found[at] = end
        span *= 16
    return found


def _shared_end(log: Mapping[int, int], lake: Mapping[int, int], upto: int, high: int) -> int | None:
    """Return where the two part: ``upto`` where they do not; None where nothing seen says so."""
    differ = [offset for offset in log.keys() & lake.keys() if log[offset] != lake[offset]]
    if not differ and upto <= high:
        return upto
    least = min([*differ, high])
    same = [offset for offset in log.keys() & lake.keys() if offset < least]
    return max(same) + 1 if same else None
