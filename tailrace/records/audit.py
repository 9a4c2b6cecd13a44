"""Who did what by hand: a row of ``audit``, on its way through llm.log like every small row."""

from __future__ import annotations

import getpass

import msgspec

from pipelines.kafka import KafkaConfig, Producer
from schemas.alerts import LogRecord
from schemas.topics import LOG

_FLUSH_S = 15.0


def record(kafka: KafkaConfig, action: str, target: str, *, actor: str, now: int, **facts: object) -> None:
    """Write down that ``actor`` does ``action`` to ``target`` at ``now`` (µs UTC), before it is done.

    Raises:
        KafkaUnavailableError: it is not written; do not do it.
    """
    row = {"actor": actor, "action": action, "object": target, **facts}
    producer = Producer(kafka)
    try:
        producer.send(LOG, msgspec.json.encode(LogRecord(table="audit", at=now, row=row)))
        producer.flush(_FLUSH_S)
    finally:
        producer.close(0.0)


def actor() -> str:
    """Return who runs this command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry for this uid, as in some containers
        return "unknown"
