"""The topics: names, keys, partitions, retention. Two stages communicate only through Kafka."""

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
    """One topic as the settings make it; ``partitions`` 0 means the number in the settings."""

    name: str
    partitions: int
    config: Mapping[str, str]
    key: str = ""
    """What the key of a record is; for the reference page, as ``holds`` is."""
    holds: str = ""
    """What a record is, who writes it and who reads it."""


_APPEND = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}


def _kept(days: int) -> dict[str, str]:
    return {**_APPEND, "cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


_COMPACTED = {**_APPEND, "cleanup.policy": "compact", "retention.ms": "-1"}

TOPICS = (
    Topic(
        EVENTS,
        0,
        _kept(7),
        "trace id, else session id, else call id",
        "JSON, a call, feedback or an eval; apps write it, land and meter read it",
    ),
    Topic(
        ROLLUPS,
        0,
        _kept(3),
        "app; `*` for series that span apps, and for ticks",
        "Arrow, rows of series and second; or JSON, a tick; meter writes it, detect and land read it",
    ),
    Topic(SAMPLES, 0, _kept(1), "app", "JSON, one text with its call and series; meter writes it, drift reads it"),
    Topic(
        EMBEDDINGS, 0, _kept(3), "app", "Arrow, vectors of the texts as int8; drift writes it, drift and land read it"
    ),
    Topic(
        ALERTS,
        1,
        _kept(30),
        "fingerprint of rule and series",
        "JSON, one state change of an alert; detect, drift, land and jobs write it, notify and land read it",
    ),
    # a delivery is needed only while its alert is kept; without retention the keys would grow without limit
    Topic(
        DELIVERIES,
        1,
        {**_COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(40 * DAY_MS)},
        "alert, state and channel",
        "JSON, how far one message to one channel is; notify writes and reads it, land reads it",
    ),
    Topic(
        PRICES,
        1,
        _COMPACTED,
        "version of the book",
        "JSON, an immutable price book; `prices publish` writes it, land and meter read it",
    ),
    Topic(QUOTAS, 1, _COMPACTED, "scope", "JSON, who is over a budget; reserved, nothing writes it yet"),
    Topic(LOG, 1, _kept(30), "none", "JSON, rows of small tables: job runs, audit, reviews; land reads it"),
)
LANDED = (EVENTS, ROLLUPS, EMBEDDINGS, ALERTS, DELIVERIES, LOG)
"""What land moves into the lake."""
