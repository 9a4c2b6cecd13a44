"""The loop of meter: events become rollups, samples and ticks, in one Kafka transaction with their offsets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from pipelines.backoff import exponential_s
from pipelines.decode import Redaction
from pipelines.kafka import (
    Admin,
    FencedError,
    KafkaConfig,
    Membership,
    SettingsCheck,
    Share,
    ShareMovedError,
    Source,
    StallDetector,
    TransactionalProducer,
)
from pipelines.kafka.identity import require_same_topics
from pipelines.kafka.stall_detector import STALL_S
from pipelines.meter import wire
from pipelines.meter.counting import Counted, Counting
from pipelines.meter.plan import DEFAULT, Plan
from pipelines.meter.resume import Current, OffsetMetadata, resume
from pipelines.meter.warmup import warm_up
from pipelines.pricing.published import PriceFeed
from pipelines.signals import Signal
from pipelines.stage_progress import StageProgress
from schemas.errors import RetryableError
from schemas.faults import point
from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState
from schemas.topics import EVENTS, ROLLUPS, SAMPLES, TOPICS

log = structlog.get_logger()

_OWN_FENCE_S = 60.0
"""A producer that was abandoned while the brokers were down registers again when they are back.

Being fenced within this time after an outage is therefore blamed on our own old producer, once; a real second process
fences again.
"""
GROUP = "meter"
_LOOK_S = 10.0
"""Time between two checks of the topics: partitions added, or another topic of this name?"""
_SETTINGS_S = 60.0
"""Between two comparisons of the topics' settings."""
_COMMIT_ALL_S = 3600.0
"""Between two commits of all positions: Kafka deletes an offset that was not committed for 7 days, and the partition
of a quiet app may not move for as long."""
_LONGEST_PAUSE_S = 5.0
_REDISTRIBUTED = StageFacts(state=StageState.WAITING, error="the partitions are being assigned to the copies")


@dataclass(frozen=True)
class MeterConfig:
    """The arguments of one copy of meter."""

    kafka: KafkaConfig
    copy_name: str = ""
    """Unique among the running copies, which share the partitions. Empty: the only one, which counts all of them."""
    epoch: int = 0
    """Of llm.events, as the lake's ledger has it; grows with ``tailrace topics adopt``."""
    landed_id: str = ""
    """The id that llm.events has in the lake, or had in the session before; empty where neither is known."""
    starts: Mapping[int, int] = field(default_factory=dict)
    """Partition -> first offset of that epoch; others begin at the low watermark."""
    plan: Plan = DEFAULT
    price_overrides: tuple[Mapping[str, object], ...] = ()
    cost_preference: str = "computed"
    """As land has it."""
    samples_per_s: float = 20.0
    """Calls a second whose texts go to drift, over all partitions; all of them when there are fewer."""
    signals: tuple[Signal, ...] = ()
    """Tests of the sampled texts, whose hits are counted."""
    rules: Redaction = field(default_factory=Redaction)
    """The same as land's, so that a user has one id in rollups and in the lake."""
    batch_rows: int = 20_000
    batch_bytes: int = 32 << 20
    batch_wait_s: float = 0.3
    tick_s: float = 0.5
    stalled_s: float = STALL_S
    """A partition with records to read that does not move for longer makes meter start over."""


def run(
    config: MeterConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int],
    heartbeat: HeartbeatCallback = lambda facts: None,
) -> None:
    """Count llm.events until ``stop`` is set.

    Args:
        config: plain arguments.
        stop: ends the loop within a batch.
        now: wall time, µs UTC; it only reaches ticks.
        heartbeat: called at least once a second with positions and lag while the stage runs.

    Raises:
        FatalError: fenced by another copy, refused by the brokers, or llm.events is another topic now.
    """
    members = Membership(config.kafka, [EVENTS], group=GROUP, copy_name=config.copy_name) if config.copy_name else None
    try:
        _run(config, members, stop, now, heartbeat)
    finally:
        if members:
            members.close()


def _run(
    config: MeterConfig,
    members: Membership | None,
    stop: threading.Event,
    now: Callable[[], int],
    heartbeat: HeartbeatCallback,
) -> None:
    failures = 0
    given_up = -_OWN_FENCE_S
    share: Share | None = None
    while not stop.is_set():
        session = None
        try:
            if members and (share := members.wait(stop, lambda: heartbeat(_REDISTRIBUTED))) is None:
                return
            session = _Session(config, share, stop, now, heartbeat)
            config = replace(config, landed_id=session.topic_id)
            while not stop.is_set():
                if members and share:
                    members.require(share)
                session.step()
                failures = 0
        except ShareMovedError as error:
            log.info("meter_share_moved", cause=str(error))
        except (RetryableError, OSError, FencedError) as error:
            fenced = isinstance(error, FencedError)
            if fenced and time.monotonic() - given_up > _OWN_FENCE_S:
                raise
            given_up = time.monotonic() if session is None and not fenced else -_OWN_FENCE_S
            failures += 1
            pause = exponential_s(failures, first_s=0.4, longest_s=_LONGEST_PAUSE_S)
            log.warning("meter_interrupted", cause=str(error), retry_s=pause)
            heartbeat(StageFacts(state=StageState.RETRYING, error=str(error)))
            stop.wait(pause)
        finally:
            if session is not None:
                session.close()


class _Session:
    """One run of the loop, from the committed offsets to the first failure. The next one begins with an empty state."""

    def __init__(
        self,
        config: MeterConfig,
        share: Share | None,
        stop: threading.Event,
        now: Callable[[], int],
        heartbeat: HeartbeatCallback,
    ) -> None:
        self.config, self._share, self._now, self._heartbeat = config, share, now, heartbeat
        name = config.copy_name or "0"
        # first: abort the open transaction of a predecessor, and fence it
        self._producer = TransactionalProducer(config.kafka, f"tailrace-meter-{name}", stopping=stop.is_set)
        self._feed = PriceFeed(config.kafka, overrides=config.price_overrides, prefer=config.cost_preference)
        self._source = Source(
            config.kafka,
            [EVENTS],
            group=GROUP,
            batch_rows=config.batch_rows,
            batch_bytes=config.batch_bytes,
            batch_wait_s=config.batch_wait_s,
        )
        self.topic_id = self._source.topic_id(EVENTS)
        self._admin = Admin(config.kafka)
        self._settings = SettingsCheck(self._admin, [t for t in TOPICS if t.name in (EVENTS, ROLLUPS, SAMPLES)])
        self._settings.require()
        self._compared = time.monotonic()
        self._targets = self._admin.partitions(ROLLUPS)
        partitions = self._source.partitions(EVENTS)
        self._counting = Counting(
            config.plan,
            epoch=config.epoch,
            samples_per_s=config.samples_per_s / max(len(partitions), 1),
            slot=name,
            rules=config.rules,
            signals=config.signals,
        )
        self._progress = StageProgress(now)
        self._last: dict[int, int] = {}
        """Partition -> Kafka's time of the last record read: kept beside its offset, it reveals a truncated log."""
        current = Current(self.topic_id, config.epoch, config.landed_id, config.starts)
        resumed = resume(
            self._source,
            current,
            partitions,
            rollups=lambda: Source(config.kafka, [ROLLUPS]),
            mine=self._mine,
            heartbeat=self._alive,
        )
        positions = resumed.positions
        self._last |= resumed.kafka_times
        # the first transaction commits every position: none may stay that was committed under another epoch
        self._committed: dict[tuple[str, int], int] = {}
        self._committed_all = time.monotonic()
        warm_up(self._source, self._counting, positions, self._feed.books(), stop=stop, heartbeat=self._alive, now=now)
        self._ticked = self._looked = 0.0
        self._stall_detector = StallDetector(config.stalled_s)
        log.info("partitions_assigned", topic=EVENTS, positions=positions, slot=name, topic_id=self.topic_id)
        self._alive()  # before the first record: its position is then known if it ends the process

    def step(self) -> None:
        """Move one batch, and tick when it is time. Messages and offsets commit together, or not at all."""
        batches = self._source.poll()
        started = time.monotonic()
        counted = None
        if batches:
            self._last |= dict(zip(batches[0].partitions, batches[0].kafka_times, strict=True))
            counted = self._counting.count(batches[0], self._feed.books(), wall=self._now())
            self._progress.work(batches[0])
        due = started - self._ticked >= self.config.tick_s
        if counted or due:
            self._send(counted, tick=due)
        if counted:
            self._log(counted, time.monotonic() - started)
        self._look_around(started)
        self._alive()

    def close(self) -> None:
        """Close; an open transaction is aborted by the next session, or by its timeout."""
        self._source.close()
        self._feed.close()
        self._producer.close()

    def _send(self, counted: Counted | None, *, tick: bool) -> None:
        point("meter.before_produce")
        self._producer.begin()
        for message in counted.rollups if counted else ():
            self._producer.send(ROLLUPS, message.value, message.key, message.headers)
        for sample in counted.samples if counted else ():
            self._producer.send(SAMPLES, msgspec.json.encode(sample), sample.app.encode())
        if tick:
            waiting = {p: lag for (_, p), lag in self._source.lag().items()}
            value = self._counting.tick(self._now(), waiting, topic_id=self.topic_id).to_json()
            for partition in range(self._targets):
                self._producer.send(ROLLUPS, value, None, wire.TICK_HEADERS, partition)
            self._ticked = time.monotonic()
        if time.monotonic() - self._committed_all >= _COMMIT_ALL_S:
            self._committed, self._committed_all = {}, time.monotonic()
        moved = {at: offset for at, offset in self._source.positions().items() if self._committed.get(at) != offset}
        if counted:
            self._check_id()
        point("meter.before_commit")
        notes = {at: str(OffsetMetadata(self.config.epoch, self._last.get(at[1]), self.topic_id)) for at in moved}
        self._producer.commit(moved, self._source, notes=notes, member=self._share and self._share.metadata)
        self._committed |= moved
        point("meter.after_commit")

    def _look_around(self, at: float) -> None:
        """Read added partitions too; refuse a topic that was created again."""
        if at - self._looked < _LOOK_S:
            return
        self._looked = at
        self._check_id()
        if at - self._compared >= _SETTINGS_S:
            self._compared = at
            self._settings.require()
        known = self._source.positions()
        marks = self._source.partitions(EVENTS)
        self._stall_detector.look(known, {(EVENTS, p): high for p, (_, high) in marks.items()}, at)
        added = {p for p in marks if self._mine(p) and (EVENTS, p) not in known}
        if added:
            self._source.assign({**known, **{(EVENTS, p): None for p in added}})
            for p in added:
                self._counting.start(p, self._source.positions()[EVENTS, p])
            log.info("partitions_added", topic=EVENTS, partitions=sorted(added))
        self._targets = self._admin.partitions(ROLLUPS)

    def _check_id(self) -> None:
        """Refuse a topic made again: librdkafka reads on in it, where its log is long enough."""
        require_same_topics({EVENTS: self.topic_id}, {EVENTS: self._source.topic_id(EVENTS)})

    def _mine(self, partition: int) -> bool:
        return self._share is None or (EVENTS, partition) in self._share.partitions

    def _alive(self) -> None:
        repaired = tuple(str(finding) for finding in self._settings.repaired.values())
        reached = self._progress.facts(self._source.positions(), self._source.lag())
        self._heartbeat(msgspec.structs.replace(reached, repaired=repaired))

    def _log(self, counted: Counted, took_s: float) -> None:
        log.info(
            "batch_metered",
            calls=counted.calls,
            dead=counted.dead,
            dups=counted.dups,
            messages=len(counted.rollups),
            samples=len(counted.samples),
            took_s=round(took_s, 4),
        )
