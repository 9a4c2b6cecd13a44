"""What drift keeps between two batches: the model, the partitions with their states, and what was sent of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from pipelines.drift.config import DriftConfig
from pipelines.drift.embed import Embedder, EmbedderUnavailableError, Memory
from pipelines.drift.partition import Partition
from pipelines.drift.points import EmbeddingUnreadableError, Message, Point, decode
from pipelines.drift.vectors import Bytes, Floats
from pipelines.faust_transport import App
from pipelines.kafka import Source
from pipelines.kafka.identity import is_same_topic
from schemas.alerts import Alert
from schemas.errors import UNREADABLE
from schemas.rollups import Sample
from schemas.stage_facts import StageFacts, StageState
from schemas.topics import EMBEDDINGS, SAMPLES

log = structlog.get_logger()
_LET_GO_S = 5.0
"""The longest time that a rebalance waits for the writes of a copy: half of the session timeout."""
_REBUILD_MESSAGES = 3_000
"""Without a checkpoint the state is rebuilt from this many messages of llm.embeddings a partition, at most."""


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
            new_topic = not is_same_topic(partition.samples_topic, ids[SAMPLES])
            if new_topic or partition.samples_next > high:
                goes_on = low if new_topic else high  # its end lost: texts of a day would be embedded twice
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
        """What the supervisor and ``status`` see; ``pipelines.liveness`` adds lag and event time."""
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
