"""What is owed to whom, and what to do next: decisions only, no clock, no I/O.

One item is owed per (alert, seq, channel). Within one alert and channel ``seq`` 0 goes before 1; nothing else waits
for anything else, so an alert that one receiver chokes on holds up neither its neighbours nor other channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pipelines.notify.outcome import Outcome, Patience
from schemas.alerts import Alert, Delivery

FINAL = frozenset({"delivered", "failed", "silenced"})
NO_CHANNEL = "(none)"
"""Whom an alert is owed to where no channel is set: it shows in the deliveries as silenced."""
_S = 1_000_000
_AHEAD = 60 * _S
_REMEMBER = 31 * 86_400 * _S
"""How long a settled item is remembered: longer than llm.alerts keeps its records, 30 days."""

Key = tuple[str, int, str]
"""(alert id, seq, channel)."""
Lane = tuple[str, str]
"""(alert id, channel): what goes in order."""


@dataclass(frozen=True)
class ChannelRules:
    """What this module must know of a channel."""

    refusal: Callable[[Alert], str]
    """Why an alert is not for this channel; "" where it is."""
    parallel: int = 1
    """Attempts under way at once."""
    coalesces: bool = False
    """People read it: of several updates that wait, only the newest is worth sending."""


@dataclass(slots=True)
class Item:
    """One thing owed. ``body`` is the alert exactly as it stands on llm.alerts."""

    alert: Alert
    body: bytes = field(repr=False)
    since: int
    """LogAppendTime of the alert, µs UTC."""
    delivery: Delivery

    @property
    def lane(self) -> Lane:
        """What it goes in order with."""
        return self.delivery.alert_id, self.delivery.channel


class Book:
    """All that is owed. Rebuilt from llm.deliveries; every method returns the records to be written there."""

    def __init__(
        self, channels: Mapping[str, ChannelRules], patience: Patience, known: Iterable[Delivery] = ()
    ) -> None:
        self._channels = channels
        self._patience = patience
        self._known: dict[Key, Delivery] = {(d.alert_id, d.seq, d.channel): d for d in known}
        self._told = {(alert_id, seq) for alert_id, seq, _ in self._known}
        self._added = set(channels) - {channel for _, _, channel in self._known}
        self._waiting: dict[Lane, dict[int, Item]] = {}
        self._busy: set[Lane] = set()
        self._held: dict[str, int] = {}
        self._gone: dict[str, str] = {}
        self._swept = 0
        self._counts = {"delivered": 0, "failed": 0, "silenced": 0}

    def admit(self, alert: Alert, body: bytes, since: int, now: int) -> list[Delivery]:
        """Take ``alert`` in, once per channel: what is settled, or waits already, is passed over."""
        if not self._channels:
            return self._unheard(alert, now)
        written = []
        for channel in self._channels:
            known = self._known.get((alert.id, alert.seq, channel))
            if known and (known.state in FINAL or alert.seq in self._waiting.get((alert.id, channel), {})):
                continue
            if known and known.at > now + _AHEAD:  # written by a clock that was ahead: it says nothing of when
                known = msgspec.structs.replace(known, at=now, retry_at=now if known.retry_at else None)
            item = Item(alert, body, since, known or self._first(alert, channel, now))
            if known is None:
                written.append(self._keep(item.delivery))
            if item.delivery.state not in FINAL:
                self._waiting.setdefault(item.lane, {})[alert.seq] = item
        return written

    def due(self, now: int) -> tuple[list[Item], list[Delivery]]:
        """Return what to attempt now (from here on under way) and what was given up or overtaken instead."""
        jobs: list[Item] = []
        written: list[Delivery] = []
        room = {name: rules.parallel for name, rules in self._channels.items()}
        for _, channel in self._busy:
            room[channel] -= 1
        for lane in list(self._waiting):
            if lane in self._busy:
                continue
            head, dropped = self._head(lane, now)
            written += dropped
            if head is None or room[lane[1]] <= 0:
                continue
            if max(self._held.get(lane[1], 0), head.delivery.retry_at or 0) <= now:
                room[lane[1]] -= 1
                self._busy.add(lane)
                jobs.append(head)
        self._sweep(now)
        return jobs, written

    def shift(self, by: int) -> None:
        """The wall clock was set ``by`` µs ahead (or behind): what waits goes on waiting as long as before."""
        self._held = {channel: until + by for channel, until in self._held.items()}
        for item in (item for items in self._waiting.values() for item in items.values()):
            item.since += by
            if item.delivery.retry_at is not None:
                item.delivery = msgspec.structs.replace(item.delivery, retry_at=item.delivery.retry_at + by)

    def settle(self, item: Item, outcome: Outcome, now: int) -> list[Delivery]:
        """Note what an attempt came to."""
        self._busy.discard(item.lane)
        channel = item.delivery.channel
        attempts = item.delivery.attempts + 1
        if outcome.kind == "gone":
            self._gone[channel] = outcome.detail
            rest = [i for lane, items in self._waiting.items() if lane[1] == channel for i in items.values()]
            return [
                self._end(i, "failed", now, self._disabled(channel), attempts if i is item else i.delivery.attempts)
                for i in rest
                if i is item or i.lane not in self._busy
            ]
        if outcome.kind == "retry" and channel not in self._gone:
            return [self._again(item, outcome, now, attempts)]
        state: Literal["delivered", "failed"] = "delivered" if outcome.kind == "delivered" else "failed"
        return [self._end(item, state, now, outcome.detail, attempts)]

    def facts(self) -> dict[str, object]:
        """Counts for status: since the start, but for what waits now."""
        items = [i for lane in self._waiting.values() for i in lane.values()]
        retrying = sum(i.delivery.state == "retry" for i in items)
        return {"waiting": len(items), "retrying": retrying, **self._counts, "disabled": sorted(self._gone)}

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len(self._busy)

    def _unheard(self, alert: Alert, now: int) -> list[Delivery]:
        if (alert.id, alert.seq, NO_CHANNEL) in self._known or (alert.id, alert.seq) in self._told:
            return []
        return [self._keep(_record(alert, NO_CHANNEL, "silenced", now, "no channel is set"))]

    def _first(self, alert: Alert, channel: str, now: int) -> Delivery:
        if channel in self._added and (alert.id, alert.seq) in self._told:
            return _record(alert, channel, "silenced", now, "the channel was added later")
        if reason := self._channels[channel].refusal(alert):
            return _record(alert, channel, "silenced", now, reason)
        if channel in self._gone:
            return _record(alert, channel, "failed", now, self._disabled(channel))
        return _record(alert, channel, "pending", now, "")

    def _head(self, lane: Lane, now: int) -> tuple[Item | None, list[Delivery]]:
        """The first of ``lane`` that is still worth an attempt, and what became of those before it."""
        written = []
        while items := self._waiting.get(lane):
            head = items[min(items)]
            overtaken = head.alert.state == "update" and len(items) > 1 and self._channels[lane[1]].coalesces
            if now - head.since >= self._patience.give_up_after_s * _S:
                hours = self._patience.give_up_after_s / 3600
                last = f"; last: {head.delivery.detail}" if head.delivery.detail else ""
                written.append(self._end(head, "failed", now, f"not delivered within {hours:g} h{last}"))
            elif overtaken:
                written.append(self._end(head, "silenced", now, "a later state of the alert waits"))
            else:
                return head, written
        return None, written

    def _again(self, item: Item, outcome: Outcome, now: int, attempts: int) -> Delivery:
        salt = f"{item.delivery.alert_id}/{item.delivery.seq}/{item.delivery.channel}"
        wait_s = self._patience.wait_s(attempts, salt)
        if outcome.retry_after_s is not None:
            asked_s = min(outcome.retry_after_s, self._patience.give_up_after_s)
            wait_s = max(wait_s, asked_s)
            # a rate limit is the receiver's, not the message's: everything for it waits
            self._held[item.delivery.channel] = now + int(asked_s * _S)
        retry_at = now + int(wait_s * _S)
        item.delivery = msgspec.structs.replace(
            item.delivery, state="retry", at=now, detail=outcome.detail, attempts=attempts, retry_at=retry_at
        )
        return self._keep(item.delivery)

    def _end(
        self,
        item: Item,
        state: Literal["delivered", "failed", "silenced"],
        now: int,
        detail: str,
        attempts: int | None = None,
    ) -> Delivery:
        attempts = item.delivery.attempts if attempts is None else attempts
        item.delivery = msgspec.structs.replace(
            item.delivery, state=state, at=now, detail=detail, attempts=attempts, retry_at=None
        )
        lane = self._waiting[item.lane]
        del lane[item.delivery.seq]
        if not lane:
            del self._waiting[item.lane]
        return self._keep(item.delivery)

    def _keep(self, delivery: Delivery) -> Delivery:
        self._known[delivery.alert_id, delivery.seq, delivery.channel] = delivery
        if delivery.state in self._counts:
            self._counts[delivery.state] += 1
        return delivery

    def _disabled(self, channel: str) -> str:
        return f"channel disabled until restart: {self._gone[channel]}"

    def _sweep(self, now: int) -> None:
        """Forget what no record on llm.alerts can ask for any more: memory stays bounded."""
        if now - self._swept < 3600 * _S:
            return
        self._swept = now
        old = [k for k, d in self._known.items() if d.state in FINAL and now - d.at > _REMEMBER]
        for key in old:
            del self._known[key]
            self._told.discard(key[:2])


def _record(
    alert: Alert, channel: str, state: Literal["pending", "failed", "silenced"], now: int, detail: str
) -> Delivery:
    return Delivery(alert_id=alert.id, seq=alert.seq, channel=channel, state=state, detail=detail, at=now)
