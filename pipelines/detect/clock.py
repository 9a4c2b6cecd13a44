"""Event time from ticks: the watermark below which every window may close."""

from __future__ import annotations

import msgspec

from pipelines.detect.items import TickAt

SECOND = 1_000_000
IDLE = 10 * SECOND
SLACK = 3 * SECOND


class Source(msgspec.Struct, array_like=True):
    """The last tick of one source partition, and the time of its first record. µs UTC."""

    next_offset: int
    max_ts: int
    kafka_time: int
    busy_wall: int
    first_wall: int
    wall: int


class Clock(msgspec.Struct, array_like=True):
    """The clock of one rollups partition; it never goes back."""

    sources: dict[int, Source] = {}
    wall: int = 0
    watermark: int = 0

    def apply(self, at: TickAt) -> None:
        """Apply a tick: active partitions bound the watermark; when all are idle it follows the wall.

        Neither a record dated ahead nor a meter whose clock is ahead moves the watermark beyond the time at which the
        broker wrote the tick: records of other apps would be late, and their alerts would not be raised.

        Before the first event of all there is nothing to close: history that is written later must not be late.
        """
        tick = at.tick
        self.wall = max(self.wall, min(tick.wall, at.kafka_time))
        for partition, reported in tick.sources.items():
            known = self.sources.get(partition)
            first = known.first_wall if known else tick.wall
            self.sources[partition] = Source(
                reported.next_offset, reported.max_ts, reported.kafka_time, reported.busy_wall, first, tick.wall
            )
        active = [s for s in self.sources.values() if s.wall - max(s.busy_wall, s.first_wall) < IDLE]
        if not active:
            if any(s.max_ts for s in self.sources.values()):
                self.watermark = max(self.watermark, self.wall - SLACK)
        elif all(s.max_ts for s in active):
            reached = min(min(s.max_ts, s.kafka_time) for s in active)
            self.watermark = max(self.watermark, min(reached, at.kafka_time))
