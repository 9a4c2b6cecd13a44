"""The heartbeat of a Faust stage, from a separate thread: its position and lag; it stops where the stage stalls.

Faust hangs in more places than its stream: in a rebalance, in recovery, before the first record (faust#74, #523, #597,
#788). A stage that stalls for too long while records wait sends no heartbeat, and the supervisor restarts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
import structlog

from pipelines.faust_transport import App
from pipelines.kafka import PartitionStalledError, Source, StallDetector
from pipelines.kafka.identity import beyond_end, is_same_topic
from schemas.errors import RetryableError
from schemas.stage_facts import HeartbeatCallback, StageFacts, at

log = structlog.get_logger()
_ASK_S = 5.0
_PEEK_S = 2.0


@dataclass(frozen=True)
class StallTimeouts:
    """How long a stage may stall before it counts as hung, in seconds."""

    stuck_s: float = 60.0
    """Tables and partitions there, records to read, a model that answers, and nothing read."""
    start_s: float = 90.0
    """No partitions or no tables yet, and the changelog is not read either. More than the 60 s for which the group
    holds up everyone who joins when one of its members hangs."""
    partition_s: float = 180.0
    """One partition is not read while others are; Faust may take long over a backlog of the others."""


class Reporting(Protocol):
    """What the heartbeat reads from the stage."""

    app: App | None
    moved: float
    """time.monotonic() of the last progress."""
    recovered: bool
    """Whether the tables have been there once."""
    topic_id: str
    """The broker's id of the source that the positions are of; empty before it is known."""
    trouble: str
    """Why no progress can be made, which no restart would change; empty otherwise."""

    def position(self, number: int) -> int | None:
        """Next offset of a partition of the source; None where nothing was ever read."""

    def facts(self) -> StageFacts:
        """What ``status`` shows; its ``progress`` grows with every slice of work, also inside one record."""


def watch(
    stage: Reporting,
    source: Source,
    heartbeat: HeartbeatCallback,
    *,
    stall_timeouts: StallTimeouts,
    until: threading.Event,
) -> None:
    """Call ``heartbeat`` every second until ``until`` is set, unless ``stage`` hangs.

    A copy without partitions cannot hang.

    ``source`` reads the one topic of the stage; it is closed at the end.
    """
    monitor = LivenessMonitor(stage, source, stall_timeouts)
    while not until.wait(1.0):
        facts = stage.facts()
        if monitor.is_alive(facts.progress):
            heartbeat(monitor.measured(facts))
    source.close()


class LivenessMonitor:
    """Decides whether the stage makes progress."""

    def __init__(self, stage: Reporting, source: Source, stall_timeouts: StallTimeouts) -> None:
        self.stage, self.source, self.stall_timeouts = stage, source, stall_timeouts
        self.topic = source.topics[0]
        self.since = time.monotonic()
        """When there was last nothing to wait for, or progress."""
        self.asked, self.answers = -_ASK_S, True
        self.marks: Mapping[int, tuple[int, int]] = {}
        self.passed: dict[int, int] = {}
        """Partition -> offset up to which nothing was found to read."""
        self.restored = 0
        self.progress: int | None = None
        self.worked = 0.0
        """time.monotonic() of the last look at which progress had grown."""
        self.starts: dict[tuple[str, int], int] = {}
        """Positions as of the last question."""
        self.stall_detector = StallDetector(stall_timeouts.partition_s)
        self.stalled = False
        self.cut = False
        """The topic is another one, or ends before what was read. A start begins with what is there."""

    def is_alive(self, progress: int | None = None) -> bool:
        """Return whether the stage makes progress; ``progress`` is its own count of slices, if it has one."""
        now = time.monotonic()
        if progress != self.progress:
            self.progress, self.worked = progress, now
        self._ask(now)
        if (self.stalled or self.cut) and self.answers:
            return False
        starting, lag, restored = self._is_starting(), self.lag(), _restored(self.stage.app)
        if not self.answers or self.stage.trouble or restored != self.restored or not (starting or lag):
            self.since, self.restored = now, restored
        still_s = now - max(self.since, self.stage.moved, self.worked)
        if still_s <= (self.stall_timeouts.start_s if starting else self.stall_timeouts.stuck_s):
            return True
        if not starting and not self._readable(self._assigned()):
            return True
        log.error("stage_stuck", starting=starting, lag=lag, still_s=round(still_s))
        return False

    def measured(self, facts: StageFacts) -> StageFacts:
        """Return ``facts`` with lag, position and, where the stage keeps it, event time: of each partition."""
        waiting = self._waiting()
        reached = {n: offset for n in self._assigned() if (offset := self.stage.position(n)) is not None}
        times: Mapping[int, int | None] = dict(getattr(self.stage, "event_times", {}))  # detect and drift keep them
        known = {n: time for n, time in times.items() if time is not None}
        behind = [time for n, time in known.items() if waiting.get(n)]
        return msgspec.structs.replace(
            facts,
            lag=sum(waiting.values()),
            waiting=self._named(waiting),
            position=self._named(reached),
            event_times=self._named(known),
            # a partition with nothing to read is not behind, however old its last record is
            event_time=min(behind, default=max(known.values(), default=None)),
        )

    def _named(self, values: Mapping[int, int]) -> dict[str, int]:
        return {at((self.topic, number)): value for number, value in values.items()}

    def lag(self) -> int:
        """Records that wait in the partitions this copy has."""
        return sum(self._waiting().values())

    def _waiting(self) -> dict[int, int]:
        # after the last record there is the marker of its transaction, which is not a record
        mine = self._assigned()
        return {n: max(0, high - self._start(n) - 1) for n, (_, high) in self.marks.items() if n in mine}

    def _start(self, number: int) -> int:
        low, _ = self.marks[number]
        return max(low, self.stage.position(number) or 0, self.passed.get(number, 0))

    def _is_starting(self) -> bool:
        return self.stage.app is None or not self.stage.recovered or self.stage.app.rebalancing

    def _assigned(self) -> set[int]:
        wire = self.source.config.on_wire(self.topic)
        assigned = self.stage.app._assignment if self.stage.app else None
        return {tp.partition for tp in assigned or () if tp.topic == wire}

    def _ask(self, now: float) -> None:
        """Ask how far the topic reaches, from time to time."""
        if now - self.asked < _ASK_S:
            return
        self.asked, self.answers = now, False
        read = {n: self.stage.position(n) or 0 for n in self._assigned()}  # before: it may move on meanwhile
        try:
            found = self.source.topic_id(self.topic)
            self.marks = self.source.partitions(self.topic)
        except RetryableError as error:
            log.warning("lag_unknown", cause=str(error))
        else:
            self.answers = True
            self.stalled = self._one_partition_stalls(now)
            ends = {n: end for n, (_, end) in self.marks.items()}
            self.cut = not is_same_topic(self.stage.topic_id, found)
            here = {(self.topic, n): mark for n, mark in self.marks.items()}
            self.cut |= not self._is_starting() and bool(
                beyond_end({(self.topic, n): at for n, at in read.items()}, here)
            )
            if self.cut:
                log.error("log_cut", topic=self.topic, topic_id=found, was=self.stage.topic_id, read=read, ends=ends)

    def _one_partition_stalls(self, now: float) -> bool:
        if self._is_starting() or self.stage.trouble:
            self.stall_detector = StallDetector(self.stall_timeouts.partition_s)
            return False
        numbers = self._assigned() & self.marks.keys()
        starts = {(self.topic, n): self._start(n) for n in numbers}
        still, self.starts = starts == self.starts, starts
        if still and self.worked > now - _ASK_S:
            # one long record is being worked on, slice by slice: no partition gets its turn meanwhile
            self.stall_detector = StallDetector(self.stall_timeouts.partition_s)
            return False
        try:
            self.stall_detector.look(starts, {(self.topic, n): self.marks[n][1] - 1 for n in numbers}, now)
        except PartitionStalledError as error:
            if self._readable({error.partition}):
                log.error("stage_stuck", partition=error.partition, cause=str(error))
                return True
        return False

    def _readable(self, numbers: set[int]) -> bool:
        """Whether there is a record to read at all: aborted ones and markers may be all that waits."""
        self.source.assign({(self.topic, n): self._start(n) for n in numbers if n in self.marks})
        until = time.monotonic() + _PEEK_S
        try:
            while (left := until - time.monotonic()) > 0:
                if any(map(len, self.source.poll(min(left, 0.2)))):
                    return True
            self.passed.update({n: offset for (_, n), offset in self.source.positions().items()})
        except RetryableError as error:
            log.warning("lag_unknown", cause=str(error))
        finally:
            self.source.assign({})
        return False


def _restored(app: App | None) -> int:
    """How much of the changelogs was read."""
    if app is None:
        return 0
    recovery: Any = cast(Any, app.tables).recovery
    return sum(offset or 0 for offset in list(recovery.active_offsets.values()))
