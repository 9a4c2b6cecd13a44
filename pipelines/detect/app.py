"""The stage: a Faust app reads rollups, runs the judge on them, and stores its state in a changelog topic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError

from pipelines.alerts.lifecycle import Timing
from pipelines.detect import checkpoint
from pipelines.detect.checkpoint import CHANGELOG
from pipelines.detect.detectors import configure
from pipelines.detect.isolation import DetectorError, Isolation, Isolations, checked
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.learning import counts
from pipelines.detect.snapshot import dump, load
from pipelines.faust_transport import App, build_app, resume_from, serve
from pipelines.kafka import Admin, KafkaConfig, Source, ensure_topics
from pipelines.kafka.identity import LastRecord, changed_ends, is_same_topic
from pipelines.liveness import StallTimeouts, watch
from schemas.alerts import Alert
from schemas.errors import FatalError
from schemas.faults import point
from schemas.records import Record
from schemas.stage_facts import HeartbeatCallback, StageFacts, at
from schemas.topics import ALERTS, ROLLUPS, Topic

NAME = "detect"
_AFTER_ALERT_S = 1.0
"""As ``checkpoint_s``, after an alert: an alert that is in no checkpoint is sent again after a crash, with the same
id."""
log = structlog.get_logger(NAME)


@dataclass(frozen=True)
class DetectConfig:
    """Settings of detect."""

    kafka: KafkaConfig
    state_dir: Path
    """Faust's own folder; nothing in it is needed after a crash."""
    slot: str = "0"
    """Which copy this is: unique among the running ones, and the same after a restart."""
    replication: int = 1
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Detector -> field -> value; see ``pipelines.detect.detectors``."""
    timing: Timing = field(default_factory=Timing)
    runbooks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checkpoint_s: float = 15.0
    """Time between two checkpoints. After a crash at most this much is judged again."""
    stall_timeouts: StallTimeouts = field(default_factory=lambda: StallTimeouts(stuck_s=30.0))


class PartitionMismatchError(FatalError):
    """Faust cannot keep state for a topic whose partitions grew."""

    def __init__(self, topic: str, partitions: int, changelog: str, found: int) -> None:
        self.topic, self.partitions, self.changelog, self.found = topic, partitions, changelog, found
        super().__init__(
            f"{changelog} has {found} partitions, {topic} has {partitions}: stop detect, delete {changelog}, "
            "start it again; it rebuilds its state from the rollups that are kept"
        )


def run(
    config: DetectConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int] | None = None,
    heartbeat: HeartbeatCallback = lambda facts: None,
) -> None:
    """Judge until ``stop``. ``now`` is not needed: time comes from ticks.

    Raises:
        PartitionMismatchError: llm.rollups has more partitions than the stored state.
        AppStoppedError: Faust stopped the app; start the stage again.
        SettingsError: an unknown detector or field, or a client setting Faust cannot honour.
    """
    del now
    partitions = _topics(config)
    stage, done = _Stage(config, partitions), threading.Event()
    watcher = threading.Thread(
        target=watch,
        args=(stage, Source(config.kafka, [ROLLUPS], batch_rows=1), heartbeat),
        kwargs={"stall_timeouts": config.stall_timeouts, "until": done},
        name="detect-watch",
        daemon=True,
    )
    watcher.start()
    try:
        serve(stage.build, stop=stop)
    finally:
        done.set()
        watcher.join(timeout=2)


def _topics(config: DetectConfig) -> int:
    """Make the changelog with as many partitions as the source has; return how many."""
    admin = Admin(config.kafka)
    partitions = admin.partitions(ROLLUPS)
    settings = {"cleanup.policy": "compact", "retention.ms": "-1", "max.message.bytes": "2097152"}
    changelog = Topic(CHANGELOG, partitions, settings)
    ensure_topics(admin, [changelog], partitions=partitions, replication=config.replication)
    found = admin.partitions(CHANGELOG)
    if found != partitions:
        raise PartitionMismatchError(ROLLUPS, partitions, CHANGELOG, found)
    return partitions


class _Stage:
    """The app and its partitions' states."""

    trouble = ""

    def __init__(self, config: DetectConfig, partitions: int) -> None:
        self.config = config
        self.partitions = partitions
        self.isolations = Isolations(config.state_dir / "isolated.json")
        detectors = checked(configure(config.rules))
        self.warm_up_s = max(getattr(d, "warm_up_s", 0.0) for d in detectors if d.name == "spike")
        self.judge = Judge(detectors, config.timing, config.runbooks, isolations=self.isolations)
        self.states: dict[int, PartitionState] = {}
        self.saved: dict[int, float] = {}
        """Partition -> time.monotonic() of its last checkpoint."""
        self.unsaved: set[int] = set()
        """Partitions whose last alerts are sent, but not yet in a checkpoint."""
        self.moved = time.monotonic()
        self.progress = 0
        """Slices so far: it also grows while one record is judged."""
        self.event_times: dict[int, int | None] = {}
        self.learning: dict[str, int] = {}
        """Series, and how many of them are learning, at the last checkpoint."""
        self.recovered = False
        self.topic_id = ""
        self.app: App | None = None

    def build(self) -> App:
        config = self.config
        self.app = app = build_app(
            NAME, config.kafka, slot=config.slot, partitions=self.partitions, data_dir=config.state_dir
        )
        table: Any = app.Table(
            "state",
            key_type=bytes,
            value_type=bytes,
            partitions=self.partitions,
        )
        source = app.topic(config.kafka.on_wire(ROLLUPS), key_type=bytes, value_type=bytes, value_serializer="raw")

        @table.on_recover  # type: ignore[untyped-decorator]
        async def recovered() -> None:
            try:
                point("detect.recovered")
                await asyncio.to_thread(self._load, table)
            except Exception as error:
                # Faust 0.15.3 continues after an error in this callback and does not report it
                await app.crash(error)
                raise
            self.recovered, self.moved = True, time.monotonic()

        @app.agent(source)
        async def judge(stream: faust.StreamT[bytes]) -> None:
            async for event in stream.events():
                await self._step(app, table, event)

        resume_from(app, self._positions)
        return app

    def position(self, number: int) -> int | None:
        """Next offset of a partition of llm.rollups."""
        state = self.states.get(number)
        return state.position if state else None

    def facts(self) -> StageFacts:
        """Return the figures that the supervisor and ``tailrace status`` show."""
        states, times = list(self.states.items()), list(self.event_times.values())
        return StageFacts(
            position={at((ROLLUPS, p)): s.position for p, s in states},
            event_time=min((t for t in times if t is not None), default=None),
            progress=self.progress,
            isolated=tuple(isolation.text() for isolation in self.isolations.all),
            numbers={
                "crowded_out": sum(s.crowded_out for _, s in states),
                "poison": sum(s.poison for _, s in states),
            },
            details={"learning": self.learning},
        )

    def _load(self, table: Any) -> None:
        states: dict[int, PartitionState] = {}
        for partition in range(self.partitions):
            data = checkpoint.read(table, partition)
            if data is None:
                continue
            try:
                states[partition] = load(data)
            except ValueError as error:
                # retained rollups are judged again; alerts are sent again with the same ids, and notify drops them
                log.warning("detect_state_rebuilt", partition=partition, cause=str(error))
        self.states, self.saved, self.event_times, self.unsaved = states, {}, {}, set()
        self._restart_truncated()
        log.info("detect_state_loaded", positions={p: s.position for p, s in self.states.items()})

    def _positions(self) -> dict[tuple[str, int], int]:
        wire = self.config.kafka.on_wire(ROLLUPS)
        return {(wire, p): self.states[p].position if p in self.states else 0 for p in range(self.partitions)}

    def _restart_truncated(self) -> None:
        """Start over at the first record of partitions whose log is not the judged one: recreated, or truncated.

        Raises:
            RetryableError: the brokers did not answer; the stage starts over.
        """
        source = Source(self.config.kafka, [ROLLUPS])
        try:
            self.topic_id = source.topic_id(ROLLUPS)
            marks = source.partitions(ROLLUPS)
            last = {
                (ROLLUPS, p): LastRecord(state.position, state.at or None, always_a_record=True)
                for p, state in self.states.items()
            }
            changed = changed_ends(source, last, {(ROLLUPS, p): mark for p, mark in marks.items()})
        finally:
            source.close()
        for p, state in self.states.items():
            low, high = marks[p]
            known, state.topic = state.topic or self.topic_id, self.topic_id
            if not is_same_topic(known, self.topic_id) or (ROLLUPS, p) in changed:
                log.error("log_cut", partition=p, read=state.position, end=high, was=known, goes_on_from=low)
                self.judge.learn(state)
                state.restart_at(low)

    async def _step(self, app: App, table: Any, event: Any) -> None:
        """Judge one record, slice by slice: send its alerts, and only then store that they were sent."""
        message = event.message
        point("detect.step")
        state = self.states.setdefault(message.partition, PartitionState(topic=self.topic_id))
        record = Record(
            ROLLUPS,
            message.partition,
            message.offset,
            int(message.timestamp * 1_000_000),
            message.key,
            event.value,
            tuple(message.headers or ()),
        )
        try:
            for alerts in self.judge.slices(state, record):
                for alert in alerts:
                    await self._send(app, alert)
                if not await self._pause(app, table, record.partition, state, alerts):
                    return  # the partitions were reassigned meanwhile: this record is read again
        except DetectorError as error:
            self._isolate(error, state, record)
            raise  # the state has changed since the last checkpoint: the app ends, and resumes from there
        await self._pause(app, table, record.partition, state)

    def _isolate(self, error: DetectorError, state: PartitionState, record: Record) -> None:
        """Exclude a detector that raised, from this record on."""
        cause = type(error.cause).__name__
        found = Isolation(state.topic, record.partition, record.offset, error.app, error.detector, cause)
        kept = self.isolations.add(found)
        log.error(
            "detector_isolated",
            detector=error.detector,
            app=kept.app,
            partition=record.partition,
            offset=record.offset,
            exc_info=error,
        )

    async def _pause(
        self, app: App, table: Any, partition: int, state: PartitionState, alerts: Sequence[Alert] = ()
    ) -> bool:
        """Between two slices: show progress, write a checkpoint where one is due, run other tasks of the event loop.

        Faust's fetcher and heartbeats run in the same event loop, also while a backlog is read.

        Returns:
            whether ``state`` is still the one of this partition.
        """
        self.moved, self.progress = time.monotonic(), self.progress + 1
        if alerts:
            self.unsaved.add(partition)
        if self.states.get(partition) is state:
            self.event_times[partition] = state.event_time()
            await self._save(app, table, partition, state)
        point("detect.slice")
        await asyncio.sleep(0)
        return self.states.get(partition) is state

    async def _send(self, app: App, alert: Alert) -> None:
        """Send until acknowledged; the stage makes no progress meanwhile, which its stall detection reports."""
        topic = self.config.kafka.on_wire(ALERTS)
        while not app.should_stop:
            try:
                point("detect.before_send")
                await app.producer.send_and_wait(
                    topic, alert.fingerprint.encode(), alert.to_json(), partition=None, timestamp=None, headers=None
                )
                point("detect.after_send")
            except (KafkaError, FaustError, OSError) as error:
                log.warning("detect_send_retried", alert=alert.id, cause=repr(error))
                await asyncio.sleep(1.0)
            else:
                log.info("alert_sent", alert=alert.id, seq=alert.seq, state=alert.state, rule=alert.rule)
                return

    async def _save(self, app: App, table: Any, partition: int, state: PartitionState) -> None:
        """Write a checkpoint every ``checkpoint_s``, and soon after an alert. It is encoded in a thread."""
        waited = time.monotonic() - self.saved.setdefault(partition, time.monotonic())
        if waited < (_AFTER_ALERT_S if partition in self.unsaved else self.config.checkpoint_s):
            return
        self.learning = counts(self.states.values(), self.warm_up_s)
        data = await asyncio.to_thread(dump, state)
        if app.rebalancing or self.states.get(partition) is not state:
            return  # the partition may be assigned to another copy, which writes the same keys
        checkpoint.write(table, partition, data, state.position)
        self.saved[partition] = time.monotonic()
        self.unsaved.discard(partition)
