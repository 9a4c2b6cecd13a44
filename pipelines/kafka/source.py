"""Reads batches as columns, from positions that the stage itself stores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar, cast

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from pipelines.kafka.admin import Admin
from pipelines.kafka.batch import Batch
from pipelines.kafka.config import TIMEOUT_S, KafkaConfig
from pipelines.kafka.errors import LEADERLESS, OFFSET_LOST, OffsetLostError, TopicMissingError, unified
from schemas.errors import FatalError, TailraceError
from schemas.records import Records

Position = tuple[str, int]
"""(topic without prefix, partition)."""
T = TypeVar("T")

_CHUNK = 2_000
_LEADERLESS_S = 10.0
"""A topic just made, or a broker just back, has no leader for a moment."""
_SLICE_S = 0.1
"""`consume` returns at the first 200 ms slice with anything in it (confluent-kafka-python#2205): batches are ours."""

_CLOSE_S = 5.0

_DRAIN_S = 0.02
"""What is under way between broker and client comes along with what has come."""


class Source:
    """A consumer of assigned partitions, without the group protocol: no partition is ever revoked.

    A batch ends at the first of ``batch_rows``, ``batch_bytes`` and ``batch_wait_s`` since the end of the last one:
    records that came while the last one was processed do not wait longer. ``group`` names the group whose committed
    offsets `committed` and transactions use; None where there is none.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Sequence[str],
        *,
        group: str | None = None,
        batch_rows: int = 50_000,
        batch_bytes: int = 64 << 20,
        batch_wait_s: float = 1.0,
        read_committed: bool = True,
    ) -> None:
        self.config = config
        self.topics = tuple(topics)
        self.batch_rows, self.batch_bytes, self.batch_wait_s = batch_rows, batch_bytes, batch_wait_s
        self._admin = Admin(config)
        self._next: dict[Position, int] = {}
        self._failure: TailraceError | None = None
        self._ended = time.monotonic()
        defaults = {
            "queued.max.messages.kbytes": 64 * 1024,
            "queued.min.messages": 50_000,
            # the default of 1 s lets a fast reader starve with a full broker
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 100,
            "topic.metadata.refresh.interval.ms": 30_000,
        }
        fixed = {
            "group.id": config.prefix + (group or "tailrace-reader"),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,  # the only word on positions behind the last record: markers, aborted ones
            "isolation.level": "read_committed" if read_committed else "read_uncommitted",
            "error_cb": self._on_error,
        }
        self._consumer = ck.Consumer(config.settings(defaults, fixed))
        self._plain = {config.on_wire(t): t for t in self.topics}

    def assign(self, positions: Mapping[Position, int | None]) -> None:
        """Read exactly these partitions, from these next offsets; None is the low watermark.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        resolved = {at: self._low(at) if offset is None else offset for at, offset in positions.items()}
        wire = [TopicPartition(self.config.on_wire(t), p, offset) for (t, p), offset in resolved.items()]
        self._failure = None
        self._next = resolved
        self._ended = time.monotonic()
        self._guarded(lambda: self._consumer.assign(wire), "assign")

    def positions(self) -> dict[Position, int]:
        """Next offset of every assigned partition, markers and aborted records passed."""
        return dict(self._next)

    def partitions(self, topic: str) -> dict[int, tuple[int, int]]:
        """Partition -> (low, high) watermark, fetched each time: it shows partitions that were added.

        ``high`` is the last stable offset where only committed records are read.

        Raises:
            TopicMissingError: there is no such topic.
            KafkaUnavailableError: the brokers do not answer.
        """
        return {p: self._watermarks(topic, p) for p in self._partition_ids(topic)}

    def topic_id(self, topic: str) -> str:
        """The broker's id of ``topic``: another one when it was deleted and made again.

        Raises:
            TopicMissingError: there is no such topic.
        """
        return self.topic_ids([topic])[topic]

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The same for several, in one question.

        Raises:
            TopicMissingError: one of them does not exist.
        """
        asked = list(topics)
        found = self._admin.topic_ids(asked)
        for topic in asked:
            if topic not in found:
                raise TopicMissingError(self.config.bootstrap_servers, self.config.on_wire(topic))
        return found

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, str]]:
        """Partition -> (next offset, note) that this group committed; partitions without one are left out."""
        asked = [TopicPartition(self.config.on_wire(topic), p) for p in partitions]
        found = self._guarded(lambda: self._consumer.committed(asked, timeout=TIMEOUT_S), "read committed offsets")
        return {tp.partition: (tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0}

    def commit(self, positions: Mapping[Position, int]) -> None:
        """Commit the positions to Kafka, for lag monitors only; land never reads them back."""
        moves = [TopicPartition(self.config.on_wire(t), p, offset) for (t, p), offset in positions.items()]
        self._guarded(lambda: self._consumer.commit(offsets=moves, asynchronous=True), "commit offsets")

    def poll(self, wait_s: float | None = None) -> list[Records]:
        """One `Records` per topic that moved, within ``wait_s``; [] when none did.

        Without ``wait_s`` the next batch is due ``batch_wait_s`` after the last one ended; where that is past, it is
        what has come already; it waits only where nothing has come, or far more is in the log.

        A topic that moved over markers only has positions and no rows. With the brokers away it returns [].

        Raises:
            OffsetLostError: a position is not in the log; call `assign` again.
            KafkaRefusedError: not allowed, or a fatal error of the client.
        """
        self._raise_failure()
        entered = time.monotonic()
        due = max(entered, self._ended + self.batch_wait_s) if wait_s is None else entered + wait_s
        least = _DRAIN_S if wait_s is None else 0.0
        batches = {t: Batch(t) for t in self.topics}
        rows = size = 0
        while rows < self.batch_rows and size < self.batch_bytes and self._failure is None:
            remaining = due - time.monotonic()
            wanted = min(_CHUNK, self.batch_rows - rows)
            messages = self._take(wanted, max(least, min(_SLICE_S, remaining)))
            size += self._sort(messages, batches)
            rows = sum(len(b) for b in batches.values())
            if remaining <= 0 and len(messages) < wanted:
                if wait_s is not None or due >= entered + self.batch_wait_s:
                    break
                if rows and sum(self.lag().values()) <= rows:
                    break
                due = entered + self.batch_wait_s  # nothing yet, or a backlog, which costs least in whole batches
        self._ended = time.monotonic()
        found = [b.records() for b in batches.values() if b.positions]
        if not found:
            self._raise_failure()
        return found

    def pause(self, partitions: Iterable[Position]) -> None:
        """Stop fetching ``partitions`` until the next `assign`: a resume may get lost (librdkafka#5591)."""
        self._consumer.pause([TopicPartition(self.config.on_wire(t), p) for t, p in partitions])

    def lag(self) -> dict[Position, int]:
        """Positions not yet read, per partition, from the last fetch: no round trip."""
        lags = {}
        for (topic, partition), position in self._next.items():
            tp = TopicPartition(self.config.on_wire(topic), partition)
            marks = self._consumer.get_watermark_offsets(tp, cached=True)
            if marks and marks[1] >= 0:
                lags[topic, partition] = max(0, marks[1] - position)
        return lags

    def group_metadata(self) -> object:
        """What a transaction needs to commit offsets for this source's group."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave; what brokers that do not answer still owe us is not waited for longer than a moment.

        librdkafka sends a commit that was under way again and again, and does not close before it is answered: as long
        as a broker is frozen the stage would wait here and seem hung.
        """
        leaving = threading.Thread(target=self._consumer.close, name="source-close", daemon=True)
        leaving.start()
        leaving.join(_CLOSE_S)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _take(self, rows: int, wait_s: float) -> list[Message]:
        return self._guarded(lambda: self._consumer.consume(rows, wait_s), "read")

    def _sort(self, messages: list[Message], batches: dict[str, Batch]) -> int:
        """Put ``messages`` into their batches; return their bytes."""
        errors: list[Message] = []
        if any(map(Message.error, messages)):
            errors = [m for m in messages if m.error() is not None]
            messages = [m for m in messages if m.error() is None]
        for name, run in groupby(messages, Message.topic):
            if (topic := self._plain.get(name or "")) is not None:
                batches[topic].extend(list(run), self._next)
        for message in errors:  # after the records: an end of partition has the position after them
            self._judge(message, batches)
        return sum(map(len, messages))

    def _judge(self, message: Message, batches: dict[str, Batch]) -> None:
        error = cast("KafkaError", message.error())
        at = topic, partition = self._plain.get(message.topic() or "", ""), cast("int", message.partition())
        if error.code() == KafkaError._PARTITION_EOF:
            if at in self._next:
                batches[topic].move(partition, cast("int", message.offset()), self._next)
        elif error.code() in OFFSET_LOST and at in self._next:
            self._failure = OffsetLostError(topic, partition, self._next[at], error.str())
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        ours = unified(error, self.config.bootstrap_servers, f"read {', '.join(self.topics)}")
        # librdkafka retries transient errors: it reconnects and continues at its position
        if isinstance(ours, FatalError | TopicMissingError):
            self._failure = ours

    def _partition_ids(self, topic: str) -> list[int]:
        name = self.config.on_wire(topic)
        return sorted(self._guarded(lambda: self._described(name), f"list {name}"))

    def _described(self, name: str) -> list[int]:
        found = self._consumer.list_topics(name, timeout=TIMEOUT_S).topics[name]
        if found.error is not None:
            raise KafkaException(found.error)
        if not found.partitions:  # a restarted broker has the topic before its partitions
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return list(found.partitions)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        tp = TopicPartition(self.config.on_wire(topic), partition)
        action = f"read watermarks of {tp.topic}"
        marks = self._guarded(lambda: self._consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S), action)
        if marks is None:
            raise unified(KafkaError(KafkaError._TIMED_OUT), self.config.bootstrap_servers, action)
        return marks

    def _low(self, at: Position) -> int:
        return self._watermarks(*at)[0]

    def _guarded(self, ask: Callable[[], T], action: str) -> T:
        deadline = time.monotonic() + _LEADERLESS_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                    raise unified(error, self.config.bootstrap_servers, action) from error
                time.sleep(0.05)
