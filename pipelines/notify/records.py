"""The records of llm.deliveries that a run of notify goes by: what is known of each state, alert and channel. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.notify.decisions import SILENCED
from pipelines.notify.item import FINAL, Key, Lane
from schemas.alerts import Delivery

_S = 1_000_000
_LOOKED_AT_EVERY = 3_600 * _S
_KEEP_US = 31 * 86_400 * _S
"""How long a finished delivery is kept: longer than llm.alerts keeps its records, 30 days."""


class Records:
    """The newest record of every key, and what follows from all of them."""

    def __init__(self, known: Iterable[Delivery] = ()) -> None:
        self.by_key: dict[Key, Delivery] = {(d.alert_id, d.seq, d.channel): d for d in known}
        self.channels = {channel for _, _, channel in self.by_key}
        """Names of channels that had a delivery before this run."""
        self.states = {(alert_id, seq) for alert_id, seq, _ in self.by_key}
        """States of alerts that some channel had before this run."""
        self.sent: set[Lane] = set()
        """Alerts of which a state was sent by itself, or failed to be."""
        self.digested: set[Lane] = set()
        """Alerts of which a state was a member of a digest."""
        self.muted: set[Lane] = set()
        """Alerts of which a state was kept back by a silence."""
        self.counts = {"delivered": 0, "failed": 0, "silenced": 0}
        """By final state, since the start."""
        self._dropped_at = 0
        for delivery in self.by_key.values():
            self._mark(delivery)

    def keep(self, delivery: Delivery) -> Delivery:
        """Note a record; return it, to be written."""
        self.by_key[delivery.alert_id, delivery.seq, delivery.channel] = delivery
        self._mark(delivery)
        if delivery.state in self.counts:
            self.counts[delivery.state] += 1
        return delivery

    def drop_old(self, now: int) -> None:
        """Forget what no record on llm.alerts can ask for any more, once an hour: memory stays bounded."""
        if now - self._dropped_at < _LOOKED_AT_EVERY:
            return
        self._dropped_at = now
        for key in [k for k, d in self.by_key.items() if d.state in FINAL and now - d.at > _KEEP_US]:
            del self.by_key[key]
            self.states.discard(key[:2])
            for lanes in (self.sent, self.digested, self.muted):
                lanes.discard((key[0], key[2]))

    def _mark(self, delivery: Delivery) -> None:
        lane = delivery.alert_id, delivery.channel
        if delivery.state == "silenced":
            if delivery.detail.startswith(SILENCED):
                self.muted.add(lane)
        elif delivery.state in FINAL:
            (self.digested if delivery.digest else self.sent).add(lane)
