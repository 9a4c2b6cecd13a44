"""Alerts of the past, gathered until the backlog that holds them is over. Decisions only: no clock, no I/O.

Detect marks an alert ``late`` when it was history at the moment it was judged. Its states are gathered per channel and
incident. The backlog is over when no late state came for ``quiet_s``. Then the incidents that are over go out as one
digest; those that are still open, or ended just now and are few, go out as alerts like any other. Two bounds, of age
and of number, end it earlier, so that memory and delay are bounded while a stage reads a backlog for hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from schemas.alerts import Alert

_S = 1_000_000


@dataclass(frozen=True)
class Lateness:
    """What happens to alerts of the past. Durations in seconds of the delivery clock."""

    send: bool = True
    """False: what is over is not sent; it lands and is listed all the same."""
    quiet_s: float = 30.0
    """The backlog is over after this time without a late state."""
    longest_s: float = 600.0
    """Nothing is gathered for longer than this."""
    most: int = 1_000
    """Incidents of one digest."""
    recent_s: float = 3_600.0
    """An incident that ended within this time is still news ..."""
    few: int = 5
    """... and is sent by itself, where there are no more of them than this: more are a storm, for the digest."""


T = TypeVar("T")


@dataclass
class LateGroup(Generic[T]):
    """One incident that was found late: its states, and what they are to be sent as."""

    since: int
    """When its first state was gathered, µs UTC."""
    items: dict[int, T] = field(default_factory=dict)
    """seq -> item."""
    over: bool = False
    """Its newest state is resolved."""


class Backlog(Generic[T]):
    """The incidents of the past of one channel."""

    def __init__(self, policy: Lateness) -> None:
        self._policy = policy
        self._past: dict[str, LateGroup[T]] = {}
        self._last = 0

    def __contains__(self, alert_id: str) -> bool:
        return alert_id in self._past

    def __len__(self) -> int:
        return sum(len(past.items) for past in self._past.values())

    def holds(self, alert: Alert) -> bool:
        """Whether this very state was gathered already."""
        return alert.id in self._past and alert.seq in self._past[alert.id].items

    def add(self, alert: Alert, item: T, now: int) -> None:
        """Gather one state."""
        past = self._past.setdefault(alert.id, LateGroup(now))
        past.items[alert.seq] = item
        if alert.seq == max(past.items):
            past.over = alert.state == "resolved"
        self._last = now

    def pop(self, alert_id: str) -> list[T]:
        """Give back the states of one incident that turned out to be of the present, in order."""
        past = self._past.pop(alert_id, None)
        return [past.items[seq] for seq in sorted(past.items)] if past else []

    def pop_all(self) -> list[T]:
        """Return all gathered states: the channel was removed."""
        return [item for alert_id in list(self._past) for item in self.pop(alert_id)]

    def close(self, now: int) -> tuple[list[T], list[T]]:
        """Return (states of incidents for one digest, states of incidents that are still open), where it is time."""
        if not self._past:
            return [], []
        quiet = now - self._last >= self._policy.quiet_s * _S
        old = now - self._policy.longest_s * _S
        over = [alert_id for alert_id, past in self._past.items() if past.over]
        aged = any(self._past[alert_id].since <= old for alert_id in over)
        members: list[T] = []
        if quiet or aged or len(over) >= self._policy.most:
            members = [item for alert_id in over for item in self.pop(alert_id)]
        still = [i for i, past in self._past.items() if not past.over and (quiet or past.since <= old)]
        return members, [item for alert_id in still for item in self.pop(alert_id)]

    def shift(self, by: int, moved: Callable[[T], None]) -> None:
        """The wall clock was set by ``by`` µs."""
        self._last += by
        for past in self._past.values():
            past.since += by
            for item in past.items.values():
                moved(item)
