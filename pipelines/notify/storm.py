"""Alerts that begin together in greater number than people read one by one. Decisions only: no clock, no I/O.

A provider that fails is an incident of each app that calls it, and each is an alert. Of a channel that people read the
first ones go out by themselves; where more than ``most`` begin within ``window_s``, those that were not sent yet are
gathered, until for ``quiet_s`` no further one began, and go out as one message (``digest``). What follows of a member
is not sent, but for its end: ends are gathered as those of a backlog are. Machines (webhooks) get every alert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.notify.backlog import Backlog, Lateness
from pipelines.notify.item import Item, Lane
from schemas.alerts import Alert

_S = 1_000_000
_UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class StormRules:
    """When alerts are a storm. Durations in seconds of the delivery clock."""

    most: int = 10
    """Alerts that begin within ``window_s`` and are sent by themselves; 0: there are no storms."""
    window_s: float = 60.0
    quiet_s: float = 5.0
    """Nothing more is gathered after this time without a further one."""
    longest_s: float = 30.0
    """Nothing is gathered for longer than this."""


class Storms:
    """What begins on each channel that people read."""

    def __init__(self, channels: Iterable[str], rules: StormRules) -> None:
        self._rules = rules
        policy = Lateness(quiet_s=rules.quiet_s, longest_s=rules.longest_s, most=_UNBOUNDED)
        self._gathered: dict[str, Backlog[Item]] = {channel: Backlog(policy) for channel in channels}
        self._alone: set[Lane] = set()
        """Alerts that nothing else was gathered with: they go out by themselves."""
        self._begun: dict[str, deque[int]] = {channel: deque(maxlen=max(rules.most, 1)) for channel in channels}

    def __len__(self) -> int:
        return sum(map(len, self._gathered.values()))

    def gathers(self, alert: Alert, channel: str) -> bool:
        """Whether other states of ``alert`` are gathered: this one belongs to them."""
        return channel in self._gathered and alert.id in self._gathered[channel]

    def holds(self, alert: Alert, channel: str) -> bool:
        """Whether this very state is gathered."""
        return channel in self._gathered and self._gathered[channel].holds(alert)

    def sent(self, item: Item, now: int) -> None:
        """Note that a message goes out by itself."""
        channel = item.delivery.channel
        self._alone.discard(item.lane)
        if channel in self._begun and item.alert.state == "firing" and not item.delivery.attempts:
            self._begun[channel].append(now)

    def in_storm(self, channel: str, beginning: Iterable[Lane], now: int) -> list[Lane]:
        """Return the alerts that are to be gathered, of those that begin and were not sent yet.

        None is, as long as they are few together with those of the last minute.
        """
        lanes = [lane for lane in beginning if lane not in self._alone]
        if channel not in self._begun or not self._rules.most:
            return []
        since = now - self._rules.window_s * _S
        many = len(lanes) + sum(at > since for at in self._begun[channel]) > self._rules.most
        return lanes if many else []

    def add(self, item: Item, now: int) -> None:
        """Gather one state."""
        self._gathered[item.delivery.channel].add(item.alert, item, now)

    def close(self, channel: str, now: int) -> tuple[list[Item], list[Item]]:
        """Return (states for one message, states of the only incident that was gathered), where it is time."""
        if channel not in self._gathered:
            return [], []
        over, still = self._gathered[channel].close(now)
        members = [*over, *still, *self._gathered[channel].pop_all()] if over or still else []
        if len({item.lane for item in members}) != 1:
            return members, []
        self._alone.add(members[0].lane)
        return [], members

    def give_back(self, channel: str) -> list[Item]:
        """Return all states that are gathered for a channel that was removed."""
        return self._gathered[channel].pop_all() if channel in self._gathered else []

    def shift(self, by: int) -> None:
        """The wall clock was set by ``by`` µs."""

        def moved(item: Item) -> None:
            item.since += by

        for channel, gathered in self._gathered.items():
            gathered.shift(by, moved)
            begun = self._begun[channel]
            self._begun[channel] = deque((at + by for at in begun), begun.maxlen)
