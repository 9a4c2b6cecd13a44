"""The progress of a stage for its heartbeat: position, lag, and the arrival time of the last processed record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.records import Records
from schemas.stage_facts import Position, StageFacts, at


class StageProgress:
    """Stores, for each partition, the broker's time up to which every record was processed.

    Event time is not usable: an event may be dated years back. The broker's time shows how long records have waited.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        """``now`` returns µs UTC."""
        self._now = now
        self._times: dict[Position, int] = {}
        self.progress = 0
        """Grows with every step of work, also inside one batch."""

    def work(self, records: Records) -> None:
        """Note that ``records`` were worked on."""
        self.progress += 1
        last = dict(zip(records.partitions, records.kafka_times, strict=True))
        self._times |= {(records.topic, partition): time for partition, time in last.items()}

    def facts(self, positions: Mapping[Position, int], lags: Mapping[Position, int]) -> StageFacts:
        """Return what the supervisor and ``status`` read.

        Args:
            positions: partition -> next offset to work on.
            lags: partition -> records behind what was read.
        """
        now = self._now()
        self._times |= {where: now for where, lag in lags.items() if lag == 0}  # nothing older than now waits there
        behind = [self._times[where] for where, lag in lags.items() if lag > 0 and where in self._times]
        return StageFacts(
            lag=sum(lags.values()),
            waiting={at(where): lag for where, lag in lags.items()},
            position={at(where): offset for where, offset in positions.items()},
            # not ``event_time``: without lag it follows the clock, which is not progress
            arrival_time=min(behind, default=max(self._times.values(), default=None)),
            progress=self.progress,
        )
