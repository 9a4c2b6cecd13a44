"""Which alerts are due to which channel, and what to do next: decisions only, no clock, no I/O.

One item is due per (alert, seq, channel). Within one alert and channel ``seq`` 0 goes before 1; nothing else waits
for anything else, so an alert that one receiver cannot process delays neither other alerts nor other channels. Alerts
of the past are gathered first (`late`), and so are those of which too many begin at once (`storm`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from pipelines.notify.backlog import Lateness
from pipelines.notify.decisions import SILENCED, Decisions
from pipelines.notify.format import is_digest
from pipelines.notify.item import FINAL, Item, Lane
from pipelines.notify.late import LateStates, member
from pipelines.notify.outcome import Outcome, RetryPolicy
from pipelines.notify.records import Records
from pipelines.notify.storm import StormRules, Storms
from schemas.alerts import Alert, Delivery

__all__ = ["FINAL", "NO_CHANNEL", "Book", "ChannelRules", "Item"]

NO_CHANNEL = "(none)"
"""Whom an alert is owed to where no channel is set: it shows in the deliveries as silenced."""
NOT_SENT_LATE = "found late, over, and alert_late_digest is off"
ENDED_BEFORE = "found late: it ended before this could be sent, and its end is sent"
ENDED_IN_QUIET = "it began and ended in the quiet hours, and its end is sent"
NOTE_ENDED = "the end of a note (severity info) is not sent to people"
IN_STORM = "it began in a storm of alerts, which was one message; its end will be told"
LONGEST_HOLD_S = 3600.0
"""The longest Retry-After that is kept: one wrong header (or a date in the year 9999) must not mute a channel."""
_S = 1_000_000
_AHEAD = 60 * _S


@dataclass(frozen=True)
class ChannelRules:
    """The settings of a channel that this module needs."""

    refusal: Callable[[Alert], str]
    """Why an alert is not for this channel; "" where it is."""
    parallel: int = 1
    """Attempts under way at once."""
    coalesces: bool = False
    """People read it: of several updates that wait, only the newest is worth sending."""
    quiet: Callable[[int], bool] = lambda now: False
    """Whether a time (µs UTC) is in its quiet hours: what is not critical waits for their end."""


@dataclass(frozen=True, slots=True)
class OfferedState:
    """One state of one alert, as it is offered to one channel."""

    alert: Alert
    body: bytes
    since: int
    channel: str


class Book:
    """All items that are due. Rebuilt from llm.deliveries; every method returns the records to write there."""

    def __init__(
        self,
        channels: Mapping[str, ChannelRules],
        retry: RetryPolicy,
        known: Iterable[Delivery] = (),
        *,
        decisions: Decisions | None = None,
        lateness: Lateness | None = None,
        storm: StormRules | None = None,
    ) -> None:
        self._channels = channels
        self._retry = retry
        self._decisions = decisions or Decisions()
        self._lateness = lateness or Lateness()
        self._records = Records(known)
        self._added = set(channels) - self._records.channels
        self._late = LateStates(channels, self._lateness, self._records.by_key)
        people = [channel for channel, rules in channels.items() if rules.coalesces]
        self._storms = Storms(people, storm or StormRules())
        self._waiting: dict[Lane, dict[int, Item]] = {}
        self._busy: set[Lane] = set()
        self._held: dict[str, int] = {}
        self._gone: dict[str, str] = {}

    def admit(self, alert: Alert, body: bytes, since: int, now: int) -> list[Delivery]:
        """Add ``alert``, once per channel: an item that is finished, or waits already, is skipped."""
        if not self._channels:
            return self._without_channel(alert, now)
        return [d for channel in self._channels for d in self._admit(OfferedState(alert, body, since, channel), now)]

    def _admit(self, offered: OfferedState, now: int) -> list[Delivery]:
        alert, channel = offered.alert, offered.channel
        known = self._records.by_key.get((alert.id, alert.seq, channel))
        if known and known.digest and known.state not in FINAL:
            own = self._records.by_key.get((known.digest, 0, channel))
            if own is not None:
                return self._to_digest(offered, known, own, now)
            known = None  # a crash before its digest was owed: it is gathered again
        if known and (known.state in FINAL or alert.seq in self._waiting.get((alert.id, channel), {})):
            return []
        if self._late.holds(alert, channel) or self._storms.holds(alert, channel):
            return []
        if known and known.at > now + _AHEAD:  # written by a clock that was ahead: its time is unusable
            known = msgspec.structs.replace(known, at=now, retry_at=now if known.retry_at else None)
        item = Item(alert, offered.body, offered.since, known or self._first(alert, channel, now))
        if known is None and item.delivery.state not in FINAL:
            if self._storms.gathers(alert, channel):
                self._storms.add(item, now)
                return []
            if self._ends_in_storm(item) or self._late.gathers(alert, channel, sent=self._was_sent(item.lane)):
                self._late.add(item, now)
                return []
            return [self._enqueue(i) for i in (*self._late.of_the_present(alert, channel), item)]
        if item.delivery.state not in FINAL:
            self._waiting.setdefault(item.lane, {})[alert.seq] = item
        return [] if known else [self._records.keep(item.delivery)]

    def _was_sent(self, lane: Lane) -> bool:
        """Whether a state of it was sent by itself, or is about to be."""
        return lane in self._records.sent or lane in self._waiting

    def _ends_in_storm(self, item: Item) -> bool:
        """Whether it is the end of an alert that began in a storm and was not sent by itself."""
        return item.alert.state == "resolved" and self._is_in_storm(item.lane)

    def _is_in_storm(self, lane: Lane) -> bool:
        """Whether it was sent as a member of a digest only, and is open."""
        own = self._was_sent(lane) or self._late.has(lane)
        return lane in self._records.digested and not own and self._channels[lane[1]].coalesces

    def _enqueue(self, item: Item) -> Delivery:
        self._waiting.setdefault(item.lane, {})[item.delivery.seq] = item
        return self._records.keep(item.delivery)

    def _to_digest(self, offered: OfferedState, known: Delivery, own: Delivery, now: int) -> list[Delivery]:
        """Give a member back to its digest, after a restart."""
        if own.state in FINAL:  # a crash between the digest's last record and those of its members
            return [self._records.keep(member(known, own, now))]
        item = self._late.resume(Item(offered.alert, offered.body, offered.since, known), own, now)
        if item is not None:
            self._waiting[item.lane] = {0: item}
        return []

    def _close_backlogs(self, now: int) -> list[Delivery]:
        """Turn what was gathered into digests and, where it is still open, into what is owed."""
        written: list[Delivery] = []
        for channel in self._channels:
            over, recent, still = self._late.close(channel, now)
            written += [self._enqueue(item) for item in still]
            if not self._lateness.send:
                late = [item for item in (*over, *recent) if not self._is_in_storm(item.lane)]
                over, recent = ([i for i in items if self._is_in_storm(i.lane)] for items in (over, recent))
                written += [self._records.keep(_kept_back(item, NOT_SENT_LATE, now)) for item in late]
            for item in recent:
                sent = item.alert.state == "resolved" or not self._channels[channel].coalesces
                written.append(self._enqueue(item) if sent else self._records.keep(_kept_back(item, ENDED_BEFORE, now)))
            if over:
                written += self._as_digest(over, now)
        for lane in self._late.incomplete(now):
            item = self._late.launch_incomplete(lane, self._records.by_key[lane[0], 0, lane[1]])
            self._waiting[item.lane] = {0: item}
        return written

    def _as_digest(self, members: list[Item], now: int) -> list[Delivery]:
        item = self._late.launch(members, now)
        # its own record is the last: where it is there, those of all members are
        return [*(self._records.keep(i.delivery) for i in members), self._enqueue(item)]

    def _gather_storms(self, now: int) -> list[Delivery]:
        """Gather alerts of which too many begin at once; return what is written of those that are one message now."""
        beginning: dict[str, list[Lane]] = {}
        for lane, items in self._waiting.items():
            if lane not in self._busy and _begins(items) and not self._rests(lane, now):
                beginning.setdefault(lane[1], []).append(lane)
        written: list[Delivery] = []
        for channel in self._channels:
            lanes = beginning.get(channel, [])
            for lane in self._storms.in_storm(channel, lanes, now):
                for item in self._waiting.pop(lane).values():
                    self._storms.add(item, now)
            members, alone = self._storms.close(channel, now)
            written += [self._enqueue(item) for item in alone]
            if members:
                written += self._as_digest(members, now)
        return written

    def due(self, now: int) -> tuple[list[Item], list[Delivery]]:
        """Return what to attempt now (from here on under way) and what was given up or superseded instead."""
        jobs: list[Item] = []
        written = [*self._close_backlogs(now), *self._gather_storms(now)]
        room = {name: rules.parallel for name, rules in self._channels.items()}
        for _, channel in self._busy:
            room[channel] -= 1
        for lane in list(self._waiting):
            if lane in self._busy or self._rests(lane, now):
                continue
            head, dropped = self._head(lane, now)
            written += dropped
            if head is None or room[lane[1]] <= 0:
                continue
            if max(self._held.get(lane[1], 0), head.delivery.retry_at or 0) <= now:
                room[lane[1]] -= 1
                self._busy.add(lane)
                jobs.append(head)
                self._storms.sent(head, now)
        self._records.drop_old(now)
        return jobs, self._with_members(written)

    def _rests(self, lane: Lane, now: int) -> bool:
        """Whether an alert waits for the end of the quiet hours: no state of it that waits is critical."""
        if not self._channels[lane[1]].quiet(now):
            return False
        return all(item.alert.severity != "critical" for item in self._waiting[lane].values())

    def shift(self, by: int) -> None:
        """The wall clock was set ``by`` µs ahead (or behind): waiting items wait as long as before."""
        self._held = {channel: until + by for channel, until in self._held.items()}
        for item in (item for items in self._waiting.values() for item in items.values()):
            item.since += by
            if item.delivery.retry_at is not None:
                item.delivery = msgspec.structs.replace(item.delivery, retry_at=item.delivery.retry_at + by)
        self._late.shift(by)
        self._storms.shift(by)

    def record_outcome(self, item: Item, outcome: Outcome, now: int) -> list[Delivery]:
        """Note what an attempt came to."""
        return self._with_members(self._record_outcome(item, outcome, now))

    def _with_members(self, written: list[Delivery]) -> list[Delivery]:
        """Add the outcomes of the members of digests that have ended."""
        ends = [end for d in written if d.state in FINAL for end in self._late.ended(d)]
        return written + [self._records.keep(end) for end in ends]

    def _record_outcome(self, item: Item, outcome: Outcome, now: int) -> list[Delivery]:
        self._busy.discard(item.lane)
        channel = item.delivery.channel
        attempts = item.delivery.attempts + 1
        if outcome.kind == "gone":
            self._gone[channel] = outcome.detail
            rest = [i for lane, items in self._waiting.items() if lane[1] == channel for i in items.values()]
            gathered = [
                msgspec.structs.replace(i.delivery, state="failed", detail=self._disabled(channel), at=now)
                for i in (*self._late.give_back(channel), *self._storms.give_back(channel))
            ]
            return [
                self._end(i, "failed", now, self._disabled(channel), attempts if i is item else i.delivery.attempts)
                for i in rest
                if i is item or i.lane not in self._busy
            ] + [self._records.keep(d) for d in gathered]
        if outcome.kind == "retry" and channel not in self._gone:
            return [self._again(item, outcome, now, attempts)]
        state: Literal["delivered", "failed"] = "delivered" if outcome.kind == "delivered" else "failed"
        return [self._end(item, state, now, outcome.detail, attempts)]

    def counts(self) -> dict[str, int]:
        """Counts for status: since the start, but for the messages that wait now."""
        items = [i for lane in self._waiting.values() for i in lane.values()]
        retrying = sum(i.delivery.state == "retry" for i in items)
        late, storm = len(self._late), len(self._storms)
        waiting = len(items) + late + storm
        return {"messages_waiting": waiting, "retrying": retrying, "late": late, "storm": storm, **self._records.counts}

    def disabled(self) -> list[str]:
        """Names of the channels that never accept anything again."""
        return sorted(self._gone)

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len(self._busy)

    def _without_channel(self, alert: Alert, now: int) -> list[Delivery]:
        if (alert.id, alert.seq, NO_CHANNEL) in self._records.by_key or (alert.id, alert.seq) in self._records.states:
            return []
        return [self._records.keep(_record(alert, NO_CHANNEL, "silenced", now, "no channel is set"))]

    def _first(self, alert: Alert, channel: str, now: int) -> Delivery:
        if channel in self._added and (alert.id, alert.seq) in self._records.states:
            return _record(alert, channel, "silenced", now, "the channel was added later")
        if reason := self._channels[channel].refusal(alert):
            return _record(alert, channel, "silenced", now, reason)
        if reason := self._decisions.reason(alert, now):
            return _record(alert, channel, "silenced", now, reason)
        lane = alert.id, channel
        if alert.state == "resolved" and lane in self._records.muted and not self._was_sent(lane):
            return _record(alert, channel, "silenced", now, f"{SILENCED}of its firing: nothing of it was sent")
        if alert.state == "update" and self._is_in_storm(lane):
            return _record(alert, channel, "silenced", now, IN_STORM)
        if _is_end_of_note(alert) and lane in self._records.sent and self._channels[channel].coalesces:
            return _record(alert, channel, "silenced", now, NOTE_ENDED)
        if channel in self._gone:
            return _record(alert, channel, "failed", now, self._disabled(channel))
        return _record(alert, channel, "pending", now, "")

    def _head(self, lane: Lane, now: int) -> tuple[Item | None, list[Delivery]]:
        """The first of ``lane`` that still needs an attempt, and the outcomes of those before it."""
        written = []
        while items := self._waiting.get(lane):
            head = items[min(items)]
            rules = self._channels[lane[1]]
            superseded = head.alert.state == "update" and len(items) > 1 and rules.coalesces
            ended = items[max(items)].alert.state == "resolved" and rules.coalesces and rules.quiet(head.since)
            if now - head.since >= self._retry.give_up_after_s * _S:
                hours = self._retry.give_up_after_s / 3600
                last = f"; last: {head.delivery.detail}" if head.delivery.detail else ""
                written.append(self._end(head, "failed", now, f"not delivered within {hours:g} h{last}"))
            elif reason := self._decisions.reason(head.alert, now):
                written.append(self._end(head, "silenced", now, reason))
            elif ended and head.alert.state == "firing" and len(items) > 1:
                written.append(self._end(head, "silenced", now, ENDED_IN_QUIET))
            elif superseded:
                written.append(self._end(head, "silenced", now, "a later state of the alert waits"))
            else:
                return head, written
        return None, written

    def _again(self, item: Item, outcome: Outcome, now: int, attempts: int) -> Delivery:
        jitter_key = f"{item.delivery.alert_id}/{item.delivery.seq}/{item.delivery.channel}"
        wait_s = self._retry.wait_s(attempts, jitter_key)
        detail = outcome.detail
        if (asked_s := outcome.retry_after_s) is not None:
            if asked_s > LONGEST_HOLD_S:
                detail = f"{detail}; Retry-After {asked_s:.0f} s is cut to {LONGEST_HOLD_S:.0f} s"
                asked_s = LONGEST_HOLD_S
            wait_s = max(wait_s, asked_s)
            # a rate limit is the receiver's, not the message's: everything for it waits
            self._held[item.delivery.channel] = now + int(asked_s * _S)
        retry_at = now + int(wait_s * _S)
        item.delivery = msgspec.structs.replace(
            item.delivery, state="retry", at=now, detail=detail, attempts=attempts, retry_at=retry_at
        )
        return self._records.keep(item.delivery)

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
        return self._records.keep(item.delivery)

    def _disabled(self, channel: str) -> str:
        return f"channel disabled until restart: {self._gone[channel]}"


def _kept_back(item: Item, reason: str, now: int) -> Delivery:
    return msgspec.structs.replace(item.delivery, state="silenced", detail=reason, at=now)


def _begins(items: Mapping[int, Item]) -> bool:
    """Whether the first state that waits is a beginning of which no attempt was made; a digest is none."""
    first = items[min(items)]
    return first.alert.state == "firing" and not first.delivery.attempts and not is_digest(first.alert)


def _is_end_of_note(alert: Alert) -> bool:
    """Whether there is nothing to do about the alert, and now not even something to look at."""
    return alert.state == "resolved" and alert.severity == "info"


def _record(
    alert: Alert, channel: str, state: Literal["pending", "failed", "silenced"], now: int, detail: str
) -> Delivery:
    return Delivery(alert_id=alert.id, seq=alert.seq, channel=channel, state=state, detail=detail, at=now)
