"""Detects one partition that is not read while others are: neither the lag nor the heartbeat shows it.

A client can stop fetching one partition (librdkafka#5591: a lost resume) and work otherwise. A restart makes
it fetch again.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.kafka.errors import PartitionStalledError
from pipelines.kafka.source import Position

STALL_S = 120.0
_LOOKS = 3
"""Several looks are needed, because a stage that was itself suspended looks before it has read again."""


class StallDetector:
    """Stores since when each partition has not moved, of those with records to read."""

    def __init__(self, stall_s: float = STALL_S) -> None:
        self._stall_s = stall_s
        self._seen: dict[Position, tuple[int, float, int]] = {}
        """Partition -> (position, since when, looks)."""

    def look(self, positions: Mapping[Position, int], ends: Mapping[Position, int], at: float) -> None:
        """Look once; call it where a stage reads between two looks.

        Args:
            positions: next offsets of the partitions that are being read; leave out paused ones.
            ends: where their logs end.
            at: seconds of a clock that only goes forward.

        Raises:
            PartitionStalledError: one has not moved for too long, with records behind it all the while.
        """
        seen: dict[Position, tuple[int, float, int]] = {}
        for key, offset in positions.items():
            if ends.get(key, 0) <= offset:
                continue
            before, since, looks = self._seen.get(key, (offset, at, 0))
            seen[key] = (offset, since, looks + 1) if before == offset else (offset, at, 1)
        self._seen = seen
        for (topic, partition), (offset, since, looks) in seen.items():
            if looks >= _LOOKS and at - since >= self._stall_s:
                raise PartitionStalledError(topic, partition, offset, ends[topic, partition], at - since)
