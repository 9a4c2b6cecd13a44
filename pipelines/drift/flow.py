"""How a batch of texts goes through drift: embed, write the embeddings, judge, write the alerts, keep the state.

The methods are what Faust calls; ``app`` connects them. Each write is acknowledged before the next one begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from itertools import chain
from typing import Any

import structlog

from pipelines.drift.partition import Partition
from pipelines.drift.points import Point, encode, join, to_embed
from pipelines.drift.stage import Stage
from pipelines.faust_transport import App
from schemas.alerts import Alert
from schemas.faults import point as fault_point
from schemas.rollups import Sample
from schemas.topics import ALERTS, EMBEDDINGS, SAMPLES

log = structlog.get_logger()
TABLE = "state"


class Flow:
    """The stage, connected to the topics of one Faust app."""

    def __init__(self, app: App, stage: Stage, partitions: int) -> None:
        self.app, self.stage = app, stage
        self.table: Any = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)
        self.samples, self._embeddings, self._alerts = map(self._topic, (SAMPLES, EMBEDDINGS, ALERTS))

    def _topic(self, name: str) -> Any:
        raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        return self.app.topic(self.stage.config.kafka.on_wire(name), **raw)

    def assigned(self) -> list[int]:
        """Return the partitions of llm.samples that this copy reads, ascending."""
        wire = self.stage.config.kafka.on_wire(SAMPLES)
        return sorted(tp.partition for tp in self.app.consumer.assignment() if tp.topic == wire)

    def on_recovered(self) -> None:
        """Note that the table is complete."""
        fault_point("drift.recovered")
        if not self.assigned():
            self.stage.take_over((), self.table)  # a copy without partitions gets no other callback
        self.stage.recovered, self.stage.moved = True, time.monotonic()

    def resume(self) -> Mapping[tuple[str, int], int]:
        """Bring the states of the assigned partitions back; return (topic on the wire, partition) -> next offset."""
        wire = self.stage.config.kafka.on_wire(SAMPLES)
        self.stage.take_over(self.assigned(), self.table)
        return {(wire, n): p.samples_next for n, p in self.stage.partitions.items()}

    async def work(self) -> None:
        """Take batch after batch through all steps."""
        while True:
            held, messages = await self.stage.batch()
            for number in sorted({m.partition for m in messages}):
                if held == self.stage.generation and not self.stage.between:
                    await self._step(number, [m for m in messages if m.partition == number])

    async def _step(self, number: int, messages: Sequence[Any]) -> None:
        """Take one partition's part of a batch all the way."""
        stage = self.stage
        fault_point("drift.step")
        partition = stage.partitions.setdefault(number, Partition(number, stage.config.watch))
        await self._emit(stage.unsent_alerts.pop(number, []))
        fresh = [m for m in messages if m.offset >= partition.samples_next]
        if not fresh:
            return
        span = (fresh[0].offset, fresh[-1].offset + 1)
        samples = [(s, m) for m in fresh if (s := stage.sample(m)) is not None]
        if not samples:
            partition.samples_next = span[1]
            stage.move_on()
            return
        await self._judge(partition, samples, span)

    async def _judge(self, partition: Partition, samples: Sequence[tuple[Sample, Any]], span: tuple[int, int]) -> None:
        """Embed ``samples``, with their messages, write the embeddings, then the alerts that follow from them."""
        stage, held = self.stage, self.stage.generation
        partition.reach(samples[0][0].ts)
        read = [s for s, _ in samples]
        vectors, scales = await stage.embed(to_embed(read))
        if held != stage.generation:
            return  # the partitions were reassigned meanwhile: unfinished records are read again
        walls = [int(m.timestamp * 1_000_000) for _, m in samples]
        points = await asyncio.to_thread(join, read, walls, vectors, scales)
        if held != stage.generation:
            return
        at = await self._write(partition, points, read, span)
        if at is None:
            return
        await self._emit(await stage.judge(partition, points, span[1], at + 1))
        stage.texts += len(points)
        if held != stage.generation:
            return  # another owner may write this partition's checkpoints by now
        if partition.due or partition.texts_since >= stage.config.checkpoint_texts:
            await self._checkpoint(partition)

    async def _write(
        self, partition: Partition, points: Sequence[Point], samples: Sequence[Sample], span: tuple[int, int]
    ) -> int | None:
        """Write the embeddings of a span of samples; return their offset, None: the partition has another owner."""
        stage, held = self.stage, self.stage.generation
        message = encode(points, samples, model=stage.model.model, span=span)
        apps = {s.app for s in samples}
        key = apps.pop().encode() if len(apps) == 1 else b"*"
        fault_point("drift.before_embeddings")
        async with stage.writing:
            if held != stage.generation:
                return None  # since the queue for the lock
            number = partition.number
            at = await _send(self._embeddings, message.value, key=key, partition=number, headers=message.headers)
        fault_point("drift.after_embeddings")
        return at

    async def flush(self) -> None:
        """Write the alerts that a crash may have kept back, and the checkpoints that are due."""
        stage = self.stage
        if stage.between:
            return
        for number in list(stage.unsent_alerts):
            await self._emit(stage.unsent_alerts.pop(number))
        for partition in list(stage.partitions.values()):
            if partition.due:
                await self._checkpoint(partition)

    async def _emit(self, emitted: Sequence[Alert]) -> None:
        for alert in emitted:
            fault_point("drift.before_alert")
            await _send(self._alerts, alert.to_json(), key=alert.fingerprint.encode())
            log.info("alert_raised", id=alert.id, seq=alert.seq, state=alert.state, series=alert.series)

    async def _checkpoint(self, partition: Partition) -> None:
        stage = self.stage
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
                    changelog = self.table.changelog_topic
                    last.append(await changelog.send(key=key, value=value, partition=partition.number))
                await last[-1]
            except BaseException:
                partition.due = True
                raise


async def _send(topic: Any, value: bytes, **more: Any) -> int:
    """Send and wait for the acknowledgement; return the offset."""
    sent: Awaitable[Any] = await topic.send(value=value, **more)
    return int((await sent).offset)
