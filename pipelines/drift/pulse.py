"""The stage's heartbeat, in a thread of its own: how far it is, how much waits; silent where it stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from pipelines.kafka import KafkaConfig, Source
from schemas.errors import RetryableError
from schemas.topics import SAMPLES

log = structlog.get_logger()
STUCK_S = 60.0
"""Something to read, a model that answers, and nothing read for so long: Faust hangs (faust#523), time to restart."""
_ASK_S = 5.0


class Reporting(Protocol):
    """What the heartbeat asks the stage."""

    moved: float
    """time.monotonic() of the last progress."""
    trouble: str

    def position(self, number: int) -> int:
        """Next offset of a partition of llm.samples."""

    def facts(self) -> dict[str, Any]:
        """What ``status`` shows."""


def watch(
    stage: Reporting, kafka: KafkaConfig, beat: Callable[[dict[str, Any]], None], *, done: threading.Event
) -> None:
    """Beat every second until ``done``."""
    source: Source | None = None
    ends: Mapping[int, int] = {}
    asked = -_ASK_S
    while not done.wait(1.0):
        if time.monotonic() - asked >= _ASK_S:
            asked = time.monotonic()
            try:
                source = source or Source(kafka, [SAMPLES])
                ends = {n: high for n, (_, high) in source.partitions(SAMPLES).items()}
            except RetryableError as error:
                log.warning("drift_lag_unknown", cause=str(error))
        facts = stage.facts()
        mine = [n for n in facts["positions"] if n in ends]
        # behind the last text stands the marker of meter's transaction: that is no text
        lag = sum(max(0, ends[n] - stage.position(n) - 1) for n in mine)
        still_s = time.monotonic() - stage.moved
        if lag and not stage.trouble and still_s > STUCK_S:
            log.error("drift_stuck", lag=lag, still_s=round(still_s))
            continue
        beat({**facts, "lag": lag})
    if source is not None:
        source.close()
