"""Late states of all channels on their way into digests, before and after a restart. Decisions only: no clock, no I/O.

What makes a digest crash-safe: its members are written as pending with its id, and its own record behind them, before
it is sent. After a crash the members are read again from llm.alerts and make the same digest, byte for byte; where its
own record is missing, nothing was sent and they are gathered again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from pipelines.notify.backlog import Backlog, Lateness
from pipelines.notify.digest import digest
from pipelines.notify.item import FINAL, Item, Key, Lane
from pipelines.notify.times import from_micros, parsed
from schemas.alerts import Alert, Delivery

_S = 1_000_000


@dataclass
class _Rebuilt:
    """A digest that was owed before a restart: its members, as they are read again."""

    missing: set[tuple[str, int]]
    items: list[Item] = field(default_factory=list)
    last: int = 0
    """When the newest of ``items`` was read, µs UTC."""


class LateStates:
    """What is gathered, what is rebuilt, and the members of the digests that are on their way."""

    def __init__(self, channels: Iterable[str], policy: Lateness, known: Mapping[Key, Delivery]) -> None:
        self._policy = policy
        self._backlogs: dict[str, Backlog[Item]] = {channel: Backlog(policy) for channel in channels}
        self._members: dict[Lane, list[Item]] = {}
        self._rebuilt: dict[Lane, _Rebuilt] = {}
        for (alert_id, seq, channel), delivery in known.items():
            own = known.get((delivery.digest, 0, channel)) if delivery.digest else None
            if own is not None and own.state not in FINAL:
                self._rebuilt.setdefault((delivery.digest, channel), _Rebuilt(set())).missing.add((alert_id, seq))

    def __len__(self) -> int:
        return sum(map(len, self._backlogs.values()))

    def gathers(self, alert: Alert, channel: str, *, sent: bool) -> bool:
        """Whether ``alert`` is of the past for this channel: late, and no state of it was ``sent`` as it came.

        The end of an incident that is gathered belongs to it, also where it is not late.
        """
        if alert.id in self._backlogs[channel]:
            return alert.late or alert.state == "resolved"
        return alert.late and not sent

    def holds(self, alert: Alert, channel: str) -> bool:
        """Whether this state is gathered, or a member of a digest that is on its way."""
        return self._backlogs[channel].holds(alert)

    def has(self, lane: Lane) -> bool:
        """Whether states of this alert are gathered."""
        return lane[0] in self._backlogs[lane[1]]

    def add(self, item: Item, now: int) -> None:
        """Gather one state."""
        self._backlogs[item.delivery.channel].add(item.alert, item, now)

    def of_the_present(self, alert: Alert, channel: str) -> list[Item]:
        """Give back the gathered states of an incident that turned out to be open now."""
        return self._backlogs[channel].pop(alert.id)

    def give_back(self, channel: str) -> list[Item]:
        """Return all states that are gathered for a channel that was removed."""
        return self._backlogs[channel].pop_all()

    def close(self, channel: str, now: int) -> tuple[list[Item], list[Item], list[Item]]:
        """Return what is to be done with the backlog of ``channel``, where it is over.

        Returns:
            (states for one digest, states of the few incidents that ended just now, states that are still open)
        """
        over, still = self._backlogs[channel].close(now)
        newest = {item.alert.id: item.alert for item in over}
        recent = {i for i, alert in newest.items() if _age_s(alert, now) < self._policy.recent_s}
        if len(recent) > self._policy.few:
            recent = set()
        members = [item for item in over if item.alert.id not in recent]
        return members, [item for item in over if item.alert.id in recent], still

    def launch(self, members: list[Item], now: int) -> Item:
        """Make a new digest; each of ``members`` becomes pending under its id. Only its own record is missing."""
        alert = digest([item.alert for item in members])
        channel = members[0].delivery.channel
        for item in members:
            item.delivery = replace(item.delivery, state="pending", digest=alert.id, at=now)
        own = Delivery(alert_id=alert.id, seq=0, channel=channel, state="pending", at=now)
        return self._made(alert, members, own)

    def resume(self, item: Item, own: Delivery, now: int) -> Item | None:
        """Give ``item`` back to the digest that it was a member of; return that once it is whole."""
        lane = item.delivery.digest, item.delivery.channel
        found = self._rebuilt.get(lane)
        state = item.alert.id, item.alert.seq
        if found is None or state not in found.missing:
            return None
        found.missing.discard(state)
        found.items.append(item)
        found.last = now
        return None if found.missing else self._again(lane, own)

    def incomplete(self, now: int) -> list[Lane]:
        """Digests whose other members did not come: llm.alerts has them no longer."""
        quiet = self._policy.quiet_s * _S
        return [lane for lane, found in self._rebuilt.items() if found.items and now - found.last >= quiet]

    def launch_incomplete(self, lane: Lane, own: Delivery) -> Item:
        """Make the digest of ``lane`` with the members that are left."""
        return self._again(lane, own)

    def ended(self, delivery: Delivery) -> list[Delivery]:
        """Return the final records of the members of a digest that has come to its end."""
        members = self._members.pop((delivery.alert_id, delivery.channel), [])
        return [member(item.delivery, delivery, delivery.at) for item in members]

    def shift(self, by: int) -> None:
        """The wall clock was set by ``by`` µs."""

        def moved(item: Item) -> None:
            item.since += by

        for backlog in self._backlogs.values():
            backlog.shift(by, moved)
        for found in self._rebuilt.values():
            found.last += by

    def _again(self, lane: Lane, own: Delivery) -> Item:
        items = self._rebuilt.pop(lane).items
        return self._made(replace(digest([item.alert for item in items]), id=own.alert_id), items, own)

    def _made(self, alert: Alert, members: list[Item], own: Delivery) -> Item:
        self._members[own.alert_id, own.channel] = members
        return Item(alert, alert.to_json(), max(item.since for item in members), own)


def _age_s(alert: Alert, now: int) -> float:
    """For how long ``alert`` has been over at ``now``; infinite, where its end cannot be read."""
    end, at = parsed(alert.window.end), from_micros(now)
    return float("inf") if end is None or at is None else (at - end).total_seconds()


def member(delivery: Delivery, own: Delivery, now: int) -> Delivery:
    """Return the final record of a member: its outcome is that of its digest."""
    return replace(delivery, state=own.state, at=now, detail=f"in digest {own.alert_id[:8]}", digest=own.alert_id)
