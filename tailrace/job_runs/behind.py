"""Whether land has landed all that has reached a topic: a job that must not judge before waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from pipelines.kafka import Admin
from tailrace import wiring
from tailrace.cli.context import Context
from warehouse.query.readonly import ReadOnlyLake

WAIT_S = 60.0
"""For land to land what had reached Kafka when the run began."""
KNOWN_BEFORE = timedelta(minutes=1)
"""Rows carry the time at which their batch was decoded, and are visible when it commits: newer ones may be missing."""
_LEDGER = "SELECT partition, max(next_offset) AS next FROM ledger WHERE topic = $1 GROUP BY partition"


def behind(here: Context, lake: ReadOnlyLake, topic: str, stop: Callable[[], bool], wait_s: float) -> str:
    """Wait until what is in ``topic`` now has landed; return what is missing, in words."""
    ends = Admin(wiring.kafka(here.settings, here.bootstrap_servers)).end_offsets(topic)
    deadline = time.monotonic() + wait_s
    while True:
        landed = {row["partition"]: row["next"] for row in lake.query(_LEDGER, [topic]).to_pylist()}
        missing = {p: end - landed.get(p, 0) for p, end in ends.items() if landed.get(p, 0) < end}
        if not missing:
            return ""
        if stop() or time.monotonic() > deadline:
            return f"{sum(missing.values()):,} records of {topic} have not landed yet; `tailrace status` says why"
        time.sleep(1.0)
