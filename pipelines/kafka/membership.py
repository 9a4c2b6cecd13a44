"""Which partitions this copy of a stage works on: a member of a consumer group that itself reads nothing.

Kafka's group protocol assigns the partitions to the running copies, and again when one joins or leaves. The
reading is done by a `Source`, from positions of the stage. A copy may continue for a moment with partitions that
another copy has by now, so what it writes must be fenced: land compares and sets the ledger, meter commits its offsets
with the generation of its share, which the brokers refuse once it is old (KIP-447).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError, TopicPartition

from pipelines.kafka.config import KafkaConfig
from pipelines.kafka.errors import unified
from pipelines.kafka.source import Position
from schemas.errors import FatalError, RetryableError, TailraceError

log = structlog.get_logger()
SESSION_MS = 10_000
"""Partitions of a copy that was killed are reassigned after this time."""
_REFRESH_MS = 30_000
"""How soon partitions that were added are noticed, and dealt."""
_POLL_S = 0.1
_LEAVE_S = 2.0
"""Longest wait for leaving the group: the brokers remove a missing member after ``SESSION_MS`` in any case."""


@dataclass(frozen=True)
class Share:
    """The partitions of this copy in one generation of the group."""

    number: int
    """Grows with every deal, of this process."""
    partitions: frozenset[Position]
    metadata: object
    """Of the group, for offsets in a transaction."""


class ShareMovedError(RetryableError):
    """The partitions are being reassigned; the session ends, and the next one begins with the new share."""

    def __init__(self, group: str) -> None:
        super().__init__(f"the partitions of group {group} are dealt anew; go on with the new share")


class Membership:
    """A member of ``group`` over ``topics``, kept alive by a background thread until ``close``."""

    def __init__(self, config: KafkaConfig, topics: Sequence[str], *, group: str, copy_name: str) -> None:
        self._config, self.group = config, config.prefix + group
        self._share: Share | None = None
        self._dealt = 0
        self._reached: dict[Position, int] = {}
        """Next offsets that are to be committed."""
        self._failure: TailraceError | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        fixed = {
            "group.id": self.group,
            "client.id": copy_name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "latest",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 1_000,
            "topic.metadata.refresh.interval.ms": _REFRESH_MS,
            "partition.assignment.strategy": "roundrobin",
            "error_cb": self._on_error,
        }
        self._consumer = ck.Consumer(config.settings({}, fixed))
        self._consumer.subscribe(
            [config.on_wire(topic) for topic in topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        self._thread = threading.Thread(target=self._run, name=f"members-{group}", daemon=True)
        self._thread.start()

    def wait(self, stop: threading.Event, heartbeat: Callable[[], None]) -> Share | None:
        """Return the share of this copy once it is assigned; None when ``stop`` is set first. Calls ``heartbeat``.

        Raises:
            KafkaRefusedError: this user may not join the group.
        """
        while not stop.is_set():
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if self._share is not None or (self._changed.wait(0.2) and self._share is not None):
                    return self._share
            heartbeat()
        return None

    def require(self, share: Share) -> None:
        """Check that ``share`` is still this copy's.

        Raises:
            ShareMovedError: it is not.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._share is not share:
                raise ShareMovedError(self.group)

    def commit(self, positions: Mapping[Position, int]) -> None:
        """Commit next offsets for lag monitors; the brokers refuse those of others while the group has members.

        The thread does it: called beside its poll, the client's own commit never came back (confluent-kafka 2.16.1).
        """
        with self._changed:
            self._reached |= positions

    def close(self) -> None:
        """Leave the group, so that the others get the partitions at once."""
        self._stop.set()
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._commit()
            message = self._consumer.poll(_POLL_S)  # every partition is paused: only callbacks and errors come
            if message is not None and (error := message.error()) is not None:
                self._on_error(error)
        self._consumer.close()

    def _commit(self) -> None:
        with self._changed:
            reached, self._reached = self._reached, {}
        mine = self._share.partitions if self._share else frozenset()
        moves = [
            TopicPartition(self._config.on_wire(t), p, offset) for (t, p), offset in reached.items() if (t, p) in mine
        ]
        if moves:
            with suppress(ck.KafkaException):  # between two assignments; the next commit fails in the same way
                self._consumer.commit(offsets=moves, asynchronous=True)

    def _on_assign(self, consumer: ck.Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([TopicPartition(tp.topic, tp.partition, ck.OFFSET_END) for tp in partitions])
        consumer.pause(partitions)
        mine = frozenset((self._config.plain(tp.topic), tp.partition) for tp in partitions)
        with self._changed:
            self._dealt += 1
            self._share = Share(self._dealt, mine, consumer.consumer_group_metadata())
            self._changed.notify_all()
        log.info("share_dealt", group=self.group, deal=self._dealt, partitions=len(mine))

    def _on_revoke(self, consumer: ck.Consumer, _partitions: list[TopicPartition]) -> None:
        with self._changed:
            self._share = None
        consumer.unassign()

    def _on_error(self, error: KafkaError) -> None:
        ours = unified(error, self._config.bootstrap_servers, f"join group {self.group}")
        if isinstance(ours, FatalError):
            with self._changed:
                self._failure = ours
                self._changed.notify_all()
