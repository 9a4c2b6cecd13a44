"""The topics: names, keys, partitions, retention. Kafka is the only thing between two stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVENTS = "llm.events"
ROLLUPS = "llm.rollups"
SAMPLES = "llm.samples"
EMBEDDINGS = "llm.embeddings"
ALERTS = "llm.alerts"
DELIVERIES = "llm.deliveries"
PRICES = "llm.prices"
QUOTAS = "llm.quotas"
LOG = "llm.log"

HISTORY_HEADER = ("history", b"1")
"""A header of llm.events: the record was sent later than its event happened, and its ``ts`` is true however old.

Any producer may set it. Such an event counts on the day of its ``ts``, and is priced by what held then. Without the
header a ``ts`` more than 7 days before the record's arrival is taken for a wrong clock: the event is flagged
``clock_skew`` and counts on the day of its arrival.
"""

DAY_MS = 86_400_000
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""The broker's limit; events above 1 MiB are rejected by size without parsing."""


@dataclass(frozen=True)
class Topic:
    """One topic as the settings make it; ``partitions`` 0 means "as many as the setting says"."""

    name: str
    partitions: int
    config: Mapping[str, str]


_APPEND = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}


def _kept(days: int) -> dict[str, str]:
    return {**_APPEND, "cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


_COMPACTED = {**_APPEND, "cleanup.policy": "compact", "retention.ms": "-1"}

TOPICS = (
    Topic(EVENTS, 0, _kept(7)),
    Topic(ROLLUPS, 0, _kept(3)),
    Topic(SAMPLES, 0, _kept(1)),
    Topic(EMBEDDINGS, 0, _kept(3)),
    Topic(ALERTS, 1, _kept(30)),
    # a delivery is asked for only while its alert is kept: longer than that, or its keys would grow for ever
    Topic(DELIVERIES, 1, {**_COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(40 * DAY_MS)}),
    Topic(PRICES, 1, _COMPACTED),
    Topic(QUOTAS, 1, _COMPACTED),
    Topic(LOG, 1, _kept(30)),
)
LANDED = (EVENTS, ROLLUPS, EMBEDDINGS, ALERTS, DELIVERIES, LOG)
"""What land moves into the lake."""
