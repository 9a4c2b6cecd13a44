"""Publishes scores to llm.events, like the events of any other producer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pipelines.kafka import Admin, KafkaConfig, Producer
from schemas.topics import EVENTS
from warehouse.evals.runs import landed_until
from warehouse.storage.connect import LakeConfig

_HEADERS = (("v", b"1"),)
_LOOK_EVERY_S = 0.5
_FLUSH_S = 60.0


class KafkaOutlet:
    """Publishes scores, and waits until they have landed."""

    def __init__(
        self, kafka: KafkaConfig, lake: LakeConfig, *, wait_s: float = 120.0, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Take the cluster and the lake. ``wait_s``: how long ``catch_up`` waits; ``stop``: ends it early."""
        self._kafka, self._lake, self._wait_s, self._stop = kafka, lake, wait_s, stop
        self._producer: Producer | None = None

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (key, value) pairs to llm.events; return when all are acknowledged.

        Raises:
            KafkaUnavailableError: some are not acknowledged in time; those that are have their ids.
        """
        if self._producer is None:
            self._producer = Producer(self._kafka, linger_ms=20)
        for key, value in messages:
            self._producer.send(EVENTS, value, key, _HEADERS)
        self._producer.flush(_FLUSH_S)

    def catch_up(self) -> bool:
        """Wait until the current end of llm.events has landed; False where that took longer than ``wait_s``."""
        ends = Admin(self._kafka).end_offsets(EVENTS)
        deadline = time.monotonic() + self._wait_s
        while True:
            landed = landed_until(self._lake, EVENTS)
            if all(landed.get(partition, 0) >= end for partition, end in ends.items()):
                return True
            if time.monotonic() > deadline or self._stop():
                return False
            time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """Close the producer."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def __enter__(self) -> KafkaOutlet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
