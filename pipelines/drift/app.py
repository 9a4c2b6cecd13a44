"""The drift stage: llm.samples -> llm.embeddings and llm.alerts, under Faust.

A batch goes through in this order: embed, write the embeddings (acknowledged), judge, write the alerts (acknowledged).
After a crash the state comes back from its checkpoint (a Faust table) and the embeddings behind it; only the alerts of
the very last embeddings may not have been written, so those are written again, under the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import structlog

from pipelines.drift.embed import EmbedConfig, Embedder, EmbedderUnavailableError, Memory, ModelProcess
from pipelines.drift.partition import CHANGELOG, Partition
from pipelines.drift.points import EmbeddingUnreadableError, Message, Point, decode, encode
from pipelines.drift.vectors import Bytes, Floats
from pipelines.drift.watch import WatchConfig
from pipelines.faust_transport import App, build_app, resume_from, serve
from pipelines.kafka import Admin, KafkaConfig, Source, ensure_topics
from pipelines.kafka.identity import is_same_topic
from pipelines.liveness import StallTimeouts, watch
from schemas.alerts import Alert
from schemas.errors import UNREADABLE
from schemas.faults import point as fault_point
from schemas.rollups import Sample
from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState
from schemas.topics import ALERTS, EMBEDDINGS, SAMPLES, Topic

log = structlog.get_logger()
NAME = "drift"
TABLE = "state"
_LET_GO_S = 5.0
"""The longest time that a rebalance waits for the writes of a copy: half of the session timeout."""
_REBUILD_MESSAGES = 3_000
"""Without a checkpoint the state is rebuilt from this many messages of llm.embeddings a partition, at most."""


@dataclass(frozen=True)
class DriftConfig:
    """The configuration of the stage."""

    kafka: KafkaConfig
    data_dir: Path
    """Faust's own folder."""
    slot: str = "0"
    """Which copy this is."""
    sides: tuple[str, ...] = ("input",)
    """What is embedded and judged: input, output, query."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    batch_texts: int = 64
    batch_wait_s: float = 0.25
    checkpoint_texts: int = 1_000
    """Texts of a partition between two checkpoints: after a crash at most as many are judged again (1 ms each)."""
    retry_s: float = 5.0
    """How long the model is left alone after it failed."""
    stall_timeouts: StallTimeouts = field(default_factory=StallTimeouts)


def run(
    config: DriftConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int] | None = None,
    heartbeat: HeartbeatCallback = lambda facts: None,
    embedder: Embedder | None = None,
) -> None:
    """Run the stage until ``stop`` is set.

    Args:
        config: plain values.
        stop: ends it within 5 s.
        now: not used: every decision is dated by its record.
        heartbeat: called once a second with state (``unknown`` while the model does not answer), positions, lag.
        embedder: another model than the one in ``config``; closed at the end.

    Raises:
        AppStoppedError: Faust gave up; start again.
        TopicMissingError: llm.samples is not there.
    """
    del now
    admin = Admin(config.kafka)
    partitions = admin.partitions(SAMPLES)
    compacted = {"cleanup.policy": "compact", "retention.ms": "-1"}
    ensure_topics(admin, [Topic(CHANGELOG, partitions, compacted)], partitions=partitions)
    model = embedder or ModelProcess(config.embed)
    stage, done = Stage(config, model), threading.Event()
    heart = threading.Thread(
        target=watch,
        args=(stage, Source(config.kafka, [SAMPLES], batch_rows=1), heartbeat),
        kwargs={"stall_timeouts": config.stall_timeouts, "until": done},
        daemon=True,
    )
    heart.start()
    try:
        serve(lambda: _build(stage, partitions), stop=stop)
    finally:
        done.set()
        model.close()
        heart.join(5)


def _build(stage: Stage, partitions: int) -> App:
    config = stage.config
    kafka = config.kafka
    stage.app = app = build_app(NAME, kafka, slot=config.slot, partitions=partitions, data_dir=config.data_dir)
    raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    table: Any = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)
    embeddings = app.topic(kafka.on_wire(EMBEDDINGS), **raw)
    alerts = app.topic(kafka.on_wire(ALERTS), **raw)

    def mine() -> list[int]:
        return sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == kafka.on_wire(SAMPLES))

    @table.on_recover  # type: ignore[untyped-decorator]
    async def recovered() -> None:
        fault_point("drift.recovered")
        if not mine():
            stage.take_over((), table)  # a copy without partitions gets no other callback
        stage.recovered, stage.moved = True, time.monotonic()

    async def send(topic: Any, value: bytes, **more: Any) -> int:
        sent: Awaitable[Any] = await topic.send(value=value, **more)
        return int((await sent).offset)

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await stage.release_partitions()

    async def checkpoint(partition: Partition) -> None:
        async with stage.saving:  # two at once would write into each other's keys
            held, last = stage.generation, list[Awaitable[Any]]()
            try:
                saving = partition.save()
                async with stage.judging:  # the first step encodes the whole state: in a thread, which takes a while
                    first = await asyncio.to_thread(next, saving)
                for key, value in chain([first], saving):
                    if held != stage.generation or stage.between:
                        await asyncio.gather(*last)  # nothing arrives behind what the next owner writes to these keys
                        return
                    if key == str(partition.number).encode():  # the meta: only once the chunks are there
                        for sent in last:
                            await sent
                    last.append(await table.changelog_topic.send(key=key, value=value, partition=partition.number))
                await last[-1]
            except BaseException:
                partition.due = True
                raise

    async def emit(emitted: Sequence[Alert]) -> None:
        for alert in emitted:
            fault_point("drift.before_alert")
            await send(alerts, alert.to_json(), key=alert.fingerprint.encode())
            log.info("alert_raised", id=alert.id, seq=alert.seq, state=alert.state, series=alert.series)

    @app.agent(app.topic(kafka.on_wire(SAMPLES), **raw))
    async def read(stream: Any) -> None:
        # not stream.take: it pairs a value with whatever event is current after a wait, so that one is handed out
        # twice and its neighbour lost. Faust's acks run ahead here; ``resume`` makes that harmless
        async for event in stream.events():
            await stage.inbox.put((stage.generation, event.message))

    @app.task  # type: ignore[untyped-decorator]
    async def work() -> None:
        while True:
            held, messages = await stage.batch()
            for number in sorted({m.partition for m in messages}):
                if held == stage.generation and not stage.between:
                    await step(number, [m for m in messages if m.partition == number])

    async def step(number: int, messages: Sequence[Any]) -> None:
        """Take one partition's part of a batch all the way."""
        held = stage.generation
        fault_point("drift.step")
        partition = stage.partitions.setdefault(number, Partition(number, config.watch))
        await emit(stage.unsent_alerts.pop(number, []))
        fresh = [m for m in messages if m.offset >= partition.samples_next]
        if not fresh:
            return
        span = (fresh[0].offset, fresh[-1].offset + 1)
        samples = [(s, m) for m in fresh if (s := stage.sample(m)) is not None]
        if not samples:
            partition.samples_next = span[1]
            stage.move_on()
            return
        partition.reach(samples[0][0].ts)
        vectors, scales = await stage.embed([s.text for s, _ in samples])
        if held != stage.generation:
            return  # the partitions were reassigned meanwhile: unfinished records are read again
        points = [
            Point.of(s, int(m.timestamp * 1_000_000), vectors[i], float(scales[i])) for i, (s, m) in enumerate(samples)
        ]
        message = encode(points, [s for s, _ in samples], model=stage.model.model, span=span)
        apps = {s.app for s, _ in samples}
        key = apps.pop().encode() if len(apps) == 1 else b"*"
        fault_point("drift.before_embeddings")
        async with stage.writing:
            if held != stage.generation:
                return  # since the queue for the lock
            at = await send(embeddings, message.value, key=key, partition=number, headers=message.headers)
        fault_point("drift.after_embeddings")
        await emit(await stage.judge(partition, points, span[1], at + 1))
        stage.texts += len(points)
        if held != stage.generation:
            return  # another owner may write this partition's checkpoints by now
        if partition.due or partition.texts_since >= config.checkpoint_texts:
            await checkpoint(partition)

    @app.timer(interval=1.0)  # type: ignore[untyped-decorator]
    async def pulse() -> None:
        if stage.between:
            return
        for number in list(stage.unsent_alerts):
            await emit(stage.unsent_alerts.pop(number))
        for partition in list(stage.partitions.values()):
            if partition.due:
                await checkpoint(partition)

    def resume() -> Mapping[tuple[str, int], int]:
        stage.take_over(mine(), table)
        return {(kafka.on_wire(SAMPLES), n): p.samples_next for n, p in stage.partitions.items()}

    resume_from(app, resume)
    return app


class Stage:
    """The state of the stage between two batches."""

    def __init__(self, config: DriftConfig, model: Embedder) -> None:
        self.config = config
        self.model, self.memory = model, Memory(model)
        self.moved = time.monotonic()
        self.app: App | None = None
        self.recovered = False
        self.topic_id = ""
        """Of llm.samples."""
        self.progress = 0
        """Slices so far: it grows inside one batch, too."""
        self.saving = asyncio.Lock()
        self.judging = asyncio.Lock()
        """Held while a partition's state changes, and while it is encoded."""
        self.writing = asyncio.Lock()
        """Held while embeddings are sent."""
        self.between = True
        """Whether the partitions are being assigned: nothing may be written until the states are brought back."""
        self.partitions: dict[int, Partition] = {}
        self.unsent_alerts: dict[int, list[Alert]] = {}
        """Alerts of the last embeddings before a crash: perhaps written, perhaps not."""
        self.generation = 0
        self.texts = self.rejected = 0
        self.trouble = ""
        """Why the model does not answer; empty while it does."""
        self.inbox: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(2 * config.batch_texts)
        """Samples as Faust hands them out, with the generation they belong to; full = Faust waits."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drift-model")

    async def batch(self) -> tuple[int, list[Any]]:
        """Wait for samples: as many of one generation as come within ``batch_wait_s`` of the first."""
        held, first = await self.inbox.get()
        messages = [first]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.batch_wait_s):
                while len(messages) < self.config.batch_texts:
                    generation, message = await self.inbox.get()
                    if generation != held:
                        held, messages = generation, []
                    messages.append(message)
        return held, messages

    def sample(self, message: Any) -> Sample | None:
        """Decode one sample; None where it is not of our sides or cannot be read (counted)."""
        try:
            found = msgspec.json.decode(message.value or b"", type=Sample)
        except UNREADABLE as error:
            self.rejected += 1
            log.warning("sample_rejected", partition=message.partition, offset=message.offset, cause=str(error))
            return None
        return found if found.side in self.config.sides and found.text.strip() else None

    async def embed(self, texts: Sequence[str]) -> tuple[Bytes, Floats]:
        """Embed without holding up the loop. While the model fails the texts wait: none is dropped, lag shows it."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await loop.run_in_executor(self._thread, self.memory.quantised, texts)
            except EmbedderUnavailableError as error:
                if error.cause != self.trouble:
                    log.warning("drift_unknown", cause=error.cause)
                self.trouble, self.moved = error.cause, time.monotonic()
                await asyncio.sleep(self.config.retry_s)
            else:
                self.trouble = ""
                return found

    async def judge(
        self, partition: Partition, points: Sequence[Point], samples_next: int, embeddings_next: int
    ) -> list[Alert]:
        """Judge a batch in a thread, a few texts at a time: the loop is free, and progress shows."""
        found: list[Alert] = []
        async with self.judging:
            slices = partition.slices(points, samples_next, embeddings_next)
            while (alerts := await asyncio.to_thread(next, slices, None)) is not None:
                found += alerts
                self.move_on()
        return found

    def move_on(self) -> None:
        """Show that there is progress."""
        self.moved, self.progress = time.monotonic(), self.progress + 1

    async def release_partitions(self) -> None:
        """Write nothing more of the partitions, and wait for what is on its way: other copies read it after this.

        Faust waits for this before it answers the group; no copy gets a partition before that.
        """
        self.generation += 1
        self.between = True
        try:
            async with asyncio.timeout(_LET_GO_S), self.writing, self.saving:
                pass
        except TimeoutError:
            log.warning("partitions_let_go_unfinished", waited_s=_LET_GO_S)

    def take_over(self, numbers: Sequence[int], table: Mapping[bytes, bytes]) -> None:
        """Bring back the state of the partitions ``numbers``: checkpoint, then the embeddings behind it."""
        self.generation += 1
        self.partitions = {n: self._load(n, table) for n in numbers}
        if numbers:
            source = Source(self.config.kafka, [SAMPLES, EMBEDDINGS], batch_wait_s=0.2)
            try:
                self._catch_up(source)
            finally:
                source.close()
        self.between = False

    def _load(self, number: int, table: Mapping[bytes, bytes]) -> Partition:
        try:
            return Partition.load(number, table, self.config.watch)
        except ValueError as error:
            log.warning("checkpoint_refused", partition=number, cause=str(error))
            return Partition(number, self.config.watch)

    def _catch_up(self, source: Source) -> None:
        marks, ids = source.partitions(EMBEDDINGS), source.topic_ids([SAMPLES, EMBEDDINGS])
        self.topic_id = ids[SAMPLES]
        for mine in self.partitions.values():
            if not is_same_topic(mine.embeddings_topic, ids[EMBEDDINGS]):
                log.error("log_cut", topic=EMBEDDINGS, partition=mine.number, was=mine.embeddings_topic)
                mine.embeddings_next = 0
            mine.embeddings_topic = ids[EMBEDDINGS]
        start = {n: self._start(p, *marks[n]) for n, p in self.partitions.items() if n in marks}
        source.assign({(EMBEDDINGS, n): offset for n, offset in start.items()})
        while any(source.positions()[EMBEDDINGS, n] < marks[n][1] for n in start):
            for records in source.poll():
                for record in records.rows():
                    self._replay(self.partitions[record.partition], record.offset, record.value, record.headers)
        for number, (low, high) in source.partitions(SAMPLES).items():
            if (partition := self.partitions.get(number)) is None:
                continue
            anew = not is_same_topic(partition.samples_topic, ids[SAMPLES])
            if anew or partition.samples_next > high:
                goes_on = low if anew else high  # its end lost: texts of a day would be embedded twice
                log.error("log_cut", partition=number, read=partition.samples_next, end=high, goes_on_from=goes_on)
                partition.samples_next, partition.due = goes_on, True  # else offsets of two topics mix
            partition.samples_topic = ids[SAMPLES]
            partition.due |= not partition.generation  # which topics these are is known by a checkpoint alone
            partition.due |= partition.texts_since >= self.config.checkpoint_texts  # or a kill repeats all of it
            # never the group's own offset: it does not include what was written
            partition.samples_next = max(partition.samples_next, low)
        log.info("drift_resumed", positions={n: p.samples_next for n, p in self.partitions.items()})

    def _start(self, partition: Partition, low: int, high: int) -> int:
        known = partition.embeddings_next if partition.generation else high - _REBUILD_MESSAGES
        return min(max(known, low), high)

    def _replay(
        self, partition: Partition, offset: int, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        try:
            points, span = decode(Message(value or b"", dict(headers)), offset)
        except EmbeddingUnreadableError as error:
            log.warning("embeddings_skipped", partition=partition.number, offset=offset, cause=str(error))
            return
        if span[0] < partition.samples_next:
            return
        self.unsent_alerts[partition.number] = partition.apply(points, span[1], offset + 1)
        self.move_on()

    def position(self, number: int) -> int | None:
        """Next offset of partition ``number``."""
        partition = self.partitions.get(number)
        return partition.samples_next if partition else None

    @property
    def event_times(self) -> dict[int, int | None]:
        """Partition -> event time up to which its texts are judged, µs UTC."""
        return {n: p.event_time or None for n, p in list(self.partitions.items())}

    def facts(self) -> StageFacts:
        """What the supervisor and ``status`` see; the pulse adds lag and event time."""
        partitions = list(self.partitions.values())
        standing = {key: w.standing for p in partitions for key, w in list(p.watches.items())}
        evidence = [[w.app[:100], w.side, w.evidence] for p in partitions for w in list(p.watches.values())][:100]
        return StageFacts(
            state=StageState.UNKNOWN if self.trouble else StageState.RUNNING,
            error=self.trouble or None,
            progress=self.progress,
            numbers={"texts": self.texts, "rejected": self.rejected, "shed": sum(p.shed for p in partitions)},
            details={"series": standing, "evidence": evidence},
        )
