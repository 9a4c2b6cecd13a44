"""The state of one partition of llm.samples, and its form at rest.

State is a fold over llm.embeddings, whose messages name the samples they cover. So a checkpoint and the embeddings
after it restore exactly the state at the crash, without the model; then llm.samples is read on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from pipelines.drift.points import ANSWERS, Point
from pipelines.drift.watch import LIVE, Watch, WatchConfig
from schemas.alerts import Alert

CHANGELOG = "drift-state-changelog"
"""The topic of the table; Faust makes its name of the app's and the table's."""
CHUNK = 1_900
"""Bytes a changelog message: under 2 KiB, so that Faust's producer is not blocked by large messages."""

SLICE = 8
"""Texts judged at a time: about 10 ms."""


class Meta(msgspec.Struct, frozen=True):
    """Which chunks are the checkpoint. Written last, so that a torn checkpoint is none."""

    generation: int
    chunks: int
    crc: int
    samples_next: int
    embeddings_next: int
    samples_topic: str = ""
    embeddings_topic: str = ""


class Saved(msgspec.Struct):
    """All watches of a partition."""

    watches: dict[str, bytes]


class Partition:
    """All watches of one partition, and their offsets."""

    def __init__(self, number: int, config: WatchConfig) -> None:
        self.number = number
        self.config = config
        self.watches: dict[str, Watch] = {}
        self.samples_next = 0
        """Next offset of llm.samples."""
        self.embeddings_next = 0
        """Next offset of llm.embeddings whose texts are not in here yet."""
        self.samples_topic = self.embeddings_topic = ""
        """The brokers' ids of the topics that these offsets are of; empty where they are not known yet."""
        self.event_time = 0
        """Event time up to which texts are judged, µs UTC; 0 = none was seen."""
        self.generation = 0
        self.texts_since = 0
        """Texts since the last checkpoint."""
        self.due = False
        """Whether a checkpoint is due, with any number of texts."""
        self.shed = 0
        """Apps (with their side) evicted since the start, because all of them together kept too many texts."""
        self._held: dict[str, int] = {}
        self._texts = 0
        self._open: set[str] = set()
        """Watches with an open incident."""

    def reach(self, ts: int) -> None:
        """Note the event time of the text to judge next (µs UTC): behind before the first is judged is known by it."""
        self.event_time = self.event_time or ts

    def apply(self, points: Sequence[Point], samples_next: int, embeddings_next: int) -> list[Alert]:
        """Judge one message of llm.embeddings and move on."""
        return [alert for alerts in self.slices(points, samples_next, embeddings_next) for alert in alerts]

    def slices(self, points: Sequence[Point], samples_next: int, embeddings_next: int) -> Iterator[list[Alert]]:
        """The same a few texts at a time; the positions move after the last. No checkpoint may be made in between."""
        for first in range(0, len(points), SLICE):
            yield [alert for point in points[first : first + SLICE] for alert in self._judge(point)]
        self.texts_since += len(points)
        self.samples_next = max(self.samples_next, samples_next)
        self.embeddings_next = max(self.embeddings_next, embeddings_next)

    def _judge(self, point: Point) -> list[Alert]:
        key = msgspec.json.encode([point.app, point.side]).decode()
        watch = self.watches.pop(key, None) or Watch(point.app, point.side, self.config)
        self.watches[key] = watch  # the last ones have the latest texts
        late = point.wall - point.ts > LIVE
        found = [replace(alert, late=late or alert.late) for alert in watch.step([point], self._prompts(point))]
        self._keep(key, watch.held)
        self._open = {k for k in (*self._open, key) if k in self.watches and self.watches[k].incident}
        self.event_time = max(self.event_time, point.ts)
        # an app that makes no texts is closed by the texts of the others
        found += [a for k in sorted(self._open - {key}) if (a := self.watches[k].stopped(point.wall)) is not None]
        return found

    def _prompts(self, point: Point) -> Watch | None:
        """Return what watches the prompts that the answer ``point`` belongs to."""
        key = msgspec.json.encode([point.app, "input"]).decode()
        return self.watches.get(key) if point.side == ANSWERS else None

    def _keep(self, key: str, held: int) -> None:
        """Evict apps where all of them together keep too many texts: learning ones first, oldest first.

        An app with an open incident is never evicted, because the end of the incident must be emitted.
        """
        self._texts += held - self._held.get(key, 0)
        self._held[key] = held
        while self._texts > self.config.most_texts:
            others = (k for k, other in self.watches.items() if k != key and other.incident is None)
            gone = min(others, key=lambda k: self.watches[k].standing != "learning", default=None)
            if gone is None:
                return
            del self.watches[gone]
            self._texts -= self._held.pop(gone)
            self.shed += 1

    def save(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the checkpoint as (key, value), the meta last. Two generations take turns in the keys."""
        watches = {key: watch.snapshot() for key, watch in self.watches.items()}
        data = zlib.compress(msgspec.msgpack.encode(Saved(watches)), 1)
        self.generation += 1
        parts = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
        # before the first is handed out: the next batch may be applied while they are sent
        meta = Meta(
            self.generation,
            len(parts),
            zlib.crc32(data),
            self.samples_next,
            self.embeddings_next,
            self.samples_topic,
            self.embeddings_topic,
        )
        self.texts_since, self.due = 0, False
        for i, part in enumerate(parts):
            yield _chunk_key(self.number, self.generation, i), part
        yield _meta_key(self.number), msgspec.json.encode(meta)

    @staticmethod
    def load(number: int, table: Mapping[bytes, bytes], config: WatchConfig) -> Partition:
        """Read the checkpoint of partition ``number`` out of ``table``; an empty state where there is none.

        Raises:
            ValueError: damaged, or of a version that is not read any more: begin with an empty state.
        """
        partition = Partition(number, config)
        if (found := table.get(_meta_key(number))) is None:
            return partition
        meta = msgspec.json.decode(found, type=Meta)
        keys = [_chunk_key(number, meta.generation, i) for i in range(meta.chunks)]
        data = b"".join(table.get(key) or b"" for key in keys)
        if zlib.crc32(data) != meta.crc:
            raise ValueError(f"drift checkpoint {meta.generation} of partition {number} is damaged")
        saved = msgspec.msgpack.decode(zlib.decompress(data), type=Saved)
        partition.watches = {key: Watch.restore(one, config) for key, one in saved.watches.items()}
        partition._held = {key: watch.held for key, watch in partition.watches.items()}
        partition._texts = sum(partition._held.values())
        partition.event_time = max((watch.latest for watch in partition.watches.values()), default=0)
        partition._open = {key for key, watch in partition.watches.items() if watch.incident}
        partition.generation = meta.generation
        partition.samples_next, partition.embeddings_next = meta.samples_next, meta.embeddings_next
        partition.samples_topic, partition.embeddings_topic = meta.samples_topic, meta.embeddings_topic
        return partition


def _meta_key(number: int) -> bytes:
    return f"{number}".encode()


def _chunk_key(number: int, generation: int, index: int) -> bytes:
    return f"{number}|{generation % 2}|{index}".encode()
