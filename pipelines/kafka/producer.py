"""Writing: acknowledged by all replicas and never doubled by a retry; with or without a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import confluent_kafka as ck

from pipelines.kafka.config import TIMEOUT_S, KafkaConfig
from pipelines.kafka.errors import FencedError, TransactionAbortedError, unified
from schemas.errors import KafkaUnavailableError, TailraceError
from schemas.topics import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pipelines.kafka.source import Source

Delivery = Callable[[Any, Any], None]
_SLICE_S = 1.0
"""Transaction calls are resumed in slices of this, so that a stage can end while the brokers are away."""
TRANSACTION_TIMEOUT_MS = 10_000
"""A meter killed inside a transaction holds back every read-committed reader for at most this long."""


class Producer:
    """Sends to topics. Not for many threads."""

    def __init__(
        self, config: KafkaConfig, *, compression: str = "lz4", linger_ms: int = 5, settings: Mapping[str, Any] = {}
    ) -> None:
        self.config = config
        self._errors: list[ck.KafkaError] = []
        defaults = {
            "linger.ms": linger_ms,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "compression.type": compression,
            # as Java and Faust do: a key is on the same partition with every client
            "partitioner": "murmur2_random",
        }
        fixed = {"acks": "all", "enable.idempotence": True, **settings}
        self._producer = ck.Producer(config.settings(defaults, fixed))

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        on_delivery: Delivery | None = None,
    ) -> None:
        """Queue one record; waits where the queue is full.

        Raises:
            KafkaUnavailableError: the queue did not drain within the time limit.
            KafkaRefusedError: too large, or not allowed.
        """
        name = self.config.on_wire(topic)
        where = -1 if partition is None else partition  # -1: by key
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._producer.produce(
                    name, value, key, where, on_delivery=on_delivery or self._note, headers=list(headers)
                )
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise KafkaUnavailableError(
                        self.config.bootstrap_servers, f"send to {name}", "queue full"
                    ) from error
                self._producer.poll(0.05)
            except ck.KafkaException as error:
                raise self._ours(error, f"send to {name}") from error
            else:
                break
        self._producer.poll(0)

    def flush(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until everything queued is acknowledged.

        Raises:
            KafkaUnavailableError: something is not acknowledged in time, or failed.
        """
        left = self._producer.flush(timeout_s)
        failed, self._errors = self._errors, []
        if failed:
            raise unified(failed[0], self.config.bootstrap_servers, "send")
        if left:
            raise KafkaUnavailableError(self.config.bootstrap_servers, f"send {left} records", "no acknowledgement")

    def close(self, timeout_s: float = 5.0) -> None:
        """Flush as far as time allows, and discard the rest."""
        if self._producer.flush(timeout_s):
            self._producer.purge()

    def _note(self, error: ck.KafkaError | None, _message: object) -> None:
        if error is not None:
            self._errors.append(error)

    def _ours(self, error: ck.KafkaException, action: str) -> Exception:
        return unified(error, self.config.bootstrap_servers, action)


class TransactionalProducer(Producer):
    """Sends in transactions: what a batch became, and how far it was read, are seen together or not at all.

    ``transactional_id`` is stable per slot: a restart undoes at once what its dead predecessor left open and
    shuts out a zombie. Creating one waits for that. After an error, close it and make another.
    """

    def __init__(
        self,
        config: KafkaConfig,
        transactional_id: str,
        *,
        compression: str = "lz4",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """``stopping`` is called between slices of a call that waits for the brokers."""
        self._stopping = stopping
        self.transactional_id = config.prefix + transactional_id
        settings = {"transactional.id": self.transactional_id, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        # message.timeout.ms may not be longer than the transaction
        settings["message.timeout.ms"] = TRANSACTION_TIMEOUT_MS
        super().__init__(config, compression=compression, settings=settings)
        self._call(self._producer.init_transactions, _SLICE_S, action="start transactions")

    def begin(self) -> None:
        """Open a transaction."""
        self._call(self._producer.begin_transaction, action="begin")

    def commit(
        self,
        offsets: Mapping[tuple[str, int], int],
        source: Source,
        *,
        notes: Mapping[tuple[str, int], str] = {},
        member: object = None,
    ) -> None:
        """Commit what was sent since ``begin`` together with the next ``offsets`` of ``source``'s group.

        ``notes`` are kept beside the offsets, see `Source.committed`. ``member`` is the metadata of this copy's
        `Share`: once the partitions are reassigned the brokers refuse it, and nothing is committed (KIP-447).

        Raises:
            TransactionAbortedError: nothing was committed; start over from the committed offsets.
            FencedError: another process has this slot.
            KafkaUnavailableError: no answer; whether it was committed is unknown until the offsets are read again.
        """
        self._send_offsets(offsets, member or source.group_metadata(), notes)
        self._call(self._producer.commit_transaction, _SLICE_S, action="commit")

    def _send_offsets(
        self, offsets: Mapping[tuple[str, int], int], group: object, notes: Mapping[tuple[str, int], str]
    ) -> None:
        if offsets:
            moves = [
                ck.TopicPartition(self.config.on_wire(t), p, offset, notes.get((t, p), ""))
                for (t, p), offset in offsets.items()
            ]
            self._call(
                self._producer.send_offsets_to_transaction,
                moves,
                group,
                _SLICE_S,
                action="send offsets",
            )

    def abort(self) -> None:
        """Undo the open transaction."""
        self._call(self._producer.abort_transaction, _SLICE_S, action="abort")
        self._errors.clear()

    def close(self, timeout_s: float = 0.0) -> None:
        """Close immediately; an open transaction is aborted by the next producer of this id, or by its timeout."""
        self._producer.purge()

    def _call(self, function: Callable[..., object], *args: object, action: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (error := self._attempt(function, args, deadline, action)) is not None:
            cause = error.args[0]
            if cause.txn_requires_abort():
                # with the brokers away that fails too; then the next one of this id undoes it
                with suppress(TailraceError, ck.KafkaException):
                    self._attempt(self._producer.abort_transaction, (_SLICE_S,), deadline, "abort")
                raise TransactionAbortedError(self.transactional_id, cause.str()) from error
            if not cause.retriable() or time.monotonic() > deadline or self._stopping():
                raise self._ours(error, action) from error

    def _attempt(
        self, function: Callable[..., object], args: tuple[object, ...], deadline: float, action: str
    ) -> ck.KafkaException | None:
        """Call ``function`` in a thread that can be given up; return the error it ended with.

        librdkafka 2.16 may never return from send_offsets_to_transaction, with any timeout, when the broker becomes
        unavailable during the call (seen in 3 of 9 outages). The thread is abandoned; a new producer fences its id.
        """
        ended: list[ck.KafkaException | None] = []

        def attempt() -> None:
            try:
                function(*args)
            except ck.KafkaException as error:
                ended.append(error)
            else:
                ended.append(None)

        thread = threading.Thread(target=attempt, name=f"kafka {action}", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
            if thread.is_alive() and (time.monotonic() > deadline or self._stopping()):
                raise KafkaUnavailableError(self.config.bootstrap_servers, action, "no answer")
        return ended[0]

    def _ours(self, error: ck.KafkaException, action: str) -> Exception:
        ours = super()._ours(error, action)
        return FencedError(self.transactional_id, error.args[0].str()) if isinstance(ours, FencedError) else ours
