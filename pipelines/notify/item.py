"""One pending delivery to one channel."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.alerts import Alert, Delivery

FINAL = frozenset({"delivered", "failed", "silenced"})
"""States of a delivery behind which nothing follows."""

Key = tuple[str, int, str]
"""(alert id, seq, channel)."""
Lane = tuple[str, str]
"""(alert id, channel): what goes in order."""


@dataclass(slots=True)
class Item:
    """One state of one alert for one channel. ``body`` is the alert exactly as read from llm.alerts."""

    alert: Alert
    body: bytes = field(repr=False)
    since: int
    """LogAppendTime of the alert, µs UTC."""
    delivery: Delivery

    @property
    def lane(self) -> Lane:
        """What it goes in order with."""
        return self.delivery.alert_id, self.delivery.channel
