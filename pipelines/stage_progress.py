"""The progress of a stage for its heartbeat: position, lag, and the arrival time of the last processed record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.records import Records

Position = tuple[str, int]


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

    def facts(self, positions: Mapping[Position, int], lags: Mapping[Position, int]) -> dict[str, Any]:
        """Return what the supervisor and ``status`` read.

        Args:
            positions: partition -> next offset to work on.
            lags: partition -> records behind what was read.
        """
        now = self._now()
        self._times |= {at: now for at, lag in lags.items() if lag == 0}  # nothing older than now waits there
        behind = [self._times[at] for at, lag in lags.items() if lag > 0 and at in self._times]
        return {
            "lag": sum(lags.values()),
            "waiting": {_name(at): lag for at, lag in lags.items()},
            "position": {_name(at): offset for at, offset in positions.items()},
            # not ``event_time``: without lag it follows the clock, which is not progress
            "arrival_time": min(behind, default=max(self._times.values(), default=None)),
            "progress": self.progress,
        }


def _name(at: Position) -> str:
    return f"{at[0]}[{at[1]}]"
