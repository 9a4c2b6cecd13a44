"""Decisions and releases as they arrive: llm.log read from its start, then followed. It never holds up an alert."""

from __future__ import annotations

import time

import structlog

from pipelines.kafka import KafkaConfig, OffsetLostError, Source, TopicMissingError
from pipelines.kafka.config import TIMEOUT_S
from pipelines.notify.changed import ChangeBook
from pipelines.notify.decisions import Decisions
from schemas.errors import KafkaUnavailableError
from schemas.topics import LOG

log = structlog.get_logger()
_WAIT_S = 0.2
_AGAIN_S = 10.0
"""How often a topic that was missing is looked for."""


class DecisionLog:
    """Applies every record of llm.log to ``decisions`` and ``changes``: up to its end when made, and what is new at
    each `poll`.
    """

    def __init__(self, kafka: KafkaConfig, decisions: Decisions, changes: ChangeBook | None = None) -> None:
        """Read to the end that the topic has now.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        self._decisions = decisions
        self._changes = changes or ChangeBook()
        self._source = Source(kafka, [LOG], batch_wait_s=_WAIT_S)
        self._missing_until: float | None = None
        try:
            self._read_to_end()
        except TopicMissingError:
            self._missing()
        except BaseException:
            self._source.close()
            raise

    def poll(self) -> None:
        """Apply what has come, without waiting."""
        if self._missing_until is not None and time.monotonic() < self._missing_until:
            return
        try:
            if self._missing_until is not None:
                self._rewind()
            self._apply(0.0)
        except TopicMissingError:
            self._missing()
        except OffsetLostError as error:
            log.warning("decisions_rewound", cause=str(error))
            self._rewind()
        except KafkaUnavailableError as error:
            log.warning("decisions_not_read", cause=str(error))

    def close(self) -> None:
        """Leave the topic."""
        self._source.close()

    def _read_to_end(self) -> None:
        ends = self._rewind()
        deadline = time.monotonic() + TIMEOUT_S
        while any(self._source.positions()[LOG, p] < end for p, end in ends.items()):
            if self._apply(_WAIT_S):
                deadline = time.monotonic() + TIMEOUT_S
            elif time.monotonic() > deadline:
                raise KafkaUnavailableError(
                    self._source.config.bootstrap_servers, f"read {LOG} to its end", "no records"
                )

    def _apply(self, wait_s: float) -> bool:
        batches = self._source.poll(wait_s)
        for batch in batches:
            for value in batch.values:
                if self._decisions.apply(value or b""):
                    log.info("decision_applied", topic=LOG)
                elif self._changes.apply(value or b""):
                    log.info("release_applied", topic=LOG)
        return bool(batches)

    def _rewind(self) -> dict[int, int]:
        marks = self._source.partitions(LOG)
        self._source.assign({(LOG, p): low for p, (low, _) in marks.items()})
        self._missing_until = None
        return {p: high for p, (_, high) in marks.items()}

    def _missing(self) -> None:
        self._missing_until = time.monotonic() + _AGAIN_S
