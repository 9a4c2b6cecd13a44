"""notify: llm.alerts in, requests out. llm.deliveries is its only state.

A pending delivery is written to llm.deliveries before the first attempt and again after each one. At the start
llm.alerts is read from its low watermark and finished deliveries are skipped: no offset has to be kept. A crash between
a request and its record repeats the request under the same id. Run one: a second one would send everything too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import msgspec
import structlog

from pipelines.busy import busy
from pipelines.clock import now_us
from pipelines.kafka import KafkaConfig, OffsetLostError, Producer, Source, TopicMissingError, read_each
from pipelines.notify.backlog import Lateness
from pipelines.notify.changed import ChangeBook
from pipelines.notify.channels import Channel, Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.content import outgoing
from pipelines.notify.decision_log import DecisionLog
from pipelines.notify.decisions import Decisions
from pipelines.notify.guard import Guard
from pipelines.notify.outcome import Outcome, RetryPolicy
from pipelines.notify.spec import ChannelSpec
from pipelines.notify.state import Book, ChannelRules, Item
from pipelines.notify.storm import StormRules
from pipelines.stage_progress import StageProgress
from schemas import faults
from schemas.alerts import Alert, Delivery
from schemas.errors import UNREADABLE, RetryableError
from schemas.records import Record
from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState
from schemas.topics import ALERTS, DELIVERIES

log = structlog.get_logger()

Now = Callable[[], int]
_POLL_S = 0.1
_POLL_BUSY_S = 0.02
"""While requests run. Finished ones are handled between polls: with 100 ms at most 40 messages a second are sent."""
_BATCH_ROWS = 1_000
"""Alerts of one step: what is owed for them is written to the brokers before the next report of the stage."""
_BACK_OFF_S = 1.0
_FLUSH_S = 5.0
_CLOCK_SET = 5_000_000
"""µs by which wall and monotonic time may differ between two looks: no clock is slewed by that much."""
_GRACE_S = 3.0
"""How long attempts under way may take at the end; what is cut off is repeated after the next start."""


@dataclass(frozen=True)
class NotifyConfig:
    """The configuration of notify. Durations in seconds."""

    kafka: KafkaConfig
    channels: tuple[ChannelSpec, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    """Hosts (or host:port) that may be private, loopback, plain http."""
    ca_file: str | None = None
    """More certificate authorities, PEM: for receivers inside the house."""
    texts: bool = False
    """Excerpts of prompts and answers may leave with an alert."""
    deadline_s: float = 10.0
    retry_base_s: float = 1.0
    retry_cap_s: float = 120.0
    give_up_after_s: float = 86_400.0
    late: Lateness = field(default_factory=Lateness)
    """What happens to alerts of the past."""
    storm: StormRules = field(default_factory=StormRules)
    """When alerts are more than people read one by one."""


def run(
    config: NotifyConfig, *, stop: threading.Event, now: Now = now_us, heartbeat: HeartbeatCallback = lambda facts: None
) -> None:
    """Deliver until ``stop``.

    Raises:
        SettingsError: a channel that cannot be.
        KafkaRefusedError: not allowed to read or write.
    """
    channels = _channels(config)
    while not stop.is_set():
        try:
            with busy(heartbeat, StageState.READING):  # what is owed, and what was decided, to the ends of their topics
                notifier = Notifier(config, channels, now)
        except RetryableError as error:
            log.warning("notify_waited", cause=str(error))
            heartbeat(StageFacts(state=StageState.WAITING, error=str(error)))
            stop.wait(_BACK_OFF_S)
            continue
        try:
            _serve(notifier, stop, heartbeat)
        finally:
            notifier.close()


def send_once(config: NotifyConfig, alert: Alert) -> dict[str, Outcome]:
    """Attempt ``alert`` once on every channel, past Kafka and all routing: for ``tailrace alerts ping``."""
    message = Message(*outgoing(alert, alert.to_json(), texts=config.texts), now_us())
    return {name: channel.send(message) for name, channel in _channels(config).items()}


def _serve(notifier: Notifier, stop: threading.Event, heartbeat: HeartbeatCallback) -> None:
    heartbeat(notifier.facts())  # before the first record: its position is then known if it ends the process
    while not stop.is_set():
        try:
            notifier.step()
        except RetryableError as error:
            # nothing is lost: what could not be written is kept, and written first when the brokers are back
            log.warning("notify_waited", cause=str(error))
            stop.wait(_BACK_OFF_S)
        heartbeat(notifier.facts())


class Notifier:
    """One session: the state of all deliveries, the consumer, the producer and the threads that send."""

    def __init__(self, config: NotifyConfig, channels: Mapping[str, Channel], now: Now) -> None:
        self._now = now
        self._channels = channels
        self._texts = config.texts
        self._outcomes: SimpleQueue[tuple[Item, Outcome]] = SimpleQueue()
        self._unsaved: list[Delivery] = []
        self._ready: list[Item] = []
        self._clock = now(), time.monotonic()
        """Wall and monotonic time of one look: where they diverge, the wall clock was set."""
        decisions = Decisions()
        self._changes = ChangeBook()
        self._decision_log = DecisionLog(config.kafka, decisions, self._changes)
        try:
            known = _known(config.kafka)
        except RetryableError:
            self._decision_log.close()
            raise
        self._decisions = decisions
        self._book = Book(
            _rules(config, channels),
            _retry_policy(config),
            known,
            decisions=decisions,
            lateness=config.late,
            storm=config.storm,
        )
        self._progress = StageProgress(now)
        self._source = Source(config.kafka, [ALERTS], batch_rows=_BATCH_ROWS, batch_wait_s=_POLL_S)
        try:
            self._rewind()
        except RetryableError:
            self._decision_log.close()
            self._source.close()
            raise
        self._producer = Producer(config.kafka)
        log.info("notify_started", channels=sorted(channels), **self._book.counts(), disabled=self._book.disabled())

    def step(self) -> None:
        """Read, finish, write, send. Nothing is sent before its pending state is written."""
        now = self._time()
        self._decision_log.poll()  # before alerts are read: a decision counts for what comes after it
        self._take_in(now)
        self._record_outcome(now)
        jobs, ended = self._book.due(now)
        self._ready += jobs
        self._unsaved += ended
        self._save()
        ready, self._ready = self._ready, []
        for item in ready:
            alert = self._changes.named(item.alert)  # here: the book is not for other threads
            threading.Thread(target=self._attempt, args=(item, alert), name="notify-attempt", daemon=True).start()

    def _time(self) -> int:
        """Read the clock once per step: waiting items are shifted by a clock change before anything is decided."""
        wall, steady = self._now(), time.monotonic()
        set_by = wall - self._clock[0] - int((steady - self._clock[1]) * 1_000_000)
        self._clock = wall, steady
        if abs(set_by) > _CLOCK_SET:
            log.warning("clock_was_set", by_s=round(set_by / 1_000_000))
            self._book.shift(set_by)
        return wall

    def facts(self) -> StageFacts:
        """Return the state for the supervisor and ``status``."""
        reached = self._progress.facts(self._source.positions(), self._source.lag())
        counts = self._book.counts() | {"silences": self._decisions.in_force(self._now())}
        return msgspec.structs.replace(reached, numbers=counts, details={"disabled": self._book.disabled()})

    def close(self) -> None:
        """Wait briefly for running requests, write their outcomes, close."""
        until = time.monotonic() + _GRACE_S
        while self._book.busy > len(self._ready) and time.monotonic() < until:
            self._record_outcome(self._time(), wait_s=0.05)
        try:
            self._save()
        except RetryableError as error:
            log.warning("notify_records_lost", records=len(self._unsaved), cause=str(error))
        self._producer.close(1.0)
        self._decision_log.close()
        self._source.close()

    def _take_in(self, now: int) -> None:
        try:
            batches = self._source.poll(_POLL_BUSY_S if self._book.busy else _POLL_S)
        except (OffsetLostError, TopicMissingError) as error:
            log.warning("notify_rewound", cause=str(error))
            self._rewind()
            return
        for batch in batches:
            for record in batch.rows():
                self._admit(record, now)
            self._progress.work(batch)

    def _admit(self, record: Record, now: int) -> None:
        try:
            alert = Alert.from_json(record.value or b"")
        except UNREADABLE as error:
            # land keeps it in ``dead``; here it only must not stop its neighbours
            log.warning("alert_rejected", partition=record.partition, offset=record.offset, cause=str(error))
            return
        self._changes.admit(alert)
        self._unsaved += self._book.admit(alert, record.value or b"", record.kafka_time, now)

    def _record_outcome(self, now: int, *, wait_s: float = 0.0) -> None:
        try:
            while True:
                item, outcome = self._outcomes.get(timeout=wait_s) if wait_s else self._outcomes.get_nowait()
                self._unsaved += self._book.record_outcome(item, outcome, now)
                self._progress.progress += 1
                log.info(
                    "alert_attempted",
                    alert=item.alert.id,
                    seq=item.alert.seq,
                    channel=item.delivery.channel,
                    state=item.delivery.state,
                    attempts=item.delivery.attempts,
                    detail=item.delivery.detail,
                )
        except Empty:
            return

    def _save(self) -> None:
        if not self._unsaved:
            return
        for delivery in self._unsaved:
            self._producer.send(DELIVERIES, msgspec.json.encode(delivery), delivery.key())
        self._producer.flush(_FLUSH_S)
        marked = any(d.state == "delivered" for d in self._unsaved)
        self._unsaved.clear()
        if marked:
            faults.point("notify.after_mark")

    def _attempt(self, item: Item, alert: Alert) -> None:
        """Send one message in a separate thread, so that a slow receiver does not delay others.

        Args:
            item: what is due.
            alert: the same with what changed before it.
        """
        body = item.body if alert is item.alert else alert.to_json()
        message = Message(*outgoing(alert, body, texts=self._texts), self._now())
        try:
            faults.point("notify.before_post")
            outcome = self._channels[item.delivery.channel].send(message)
            faults.point("notify.after_post")
        except Exception as error:  # noqa: BLE001 - a channel's bug costs an attempt, not the stage; its text may hold a URL
            outcome = Outcome("retry", f"the attempt raised {type(error).__name__}")
        self._outcomes.put((item, outcome))

    def _rewind(self) -> None:
        self._source.assign({(ALERTS, p): low for p, (low, _) in self._source.partitions(ALERTS).items()})


def _channels(config: NotifyConfig) -> dict[str, Channel]:
    guard = Guard.allowing(config.allow_hosts)
    poster = Poster(guard, deadline_s=config.deadline_s, ca_file=config.ca_file)
    return {spec.name: build(spec, poster) for spec in config.channels}


def _rules(config: NotifyConfig, channels: Mapping[str, Channel]) -> dict[str, ChannelRules]:
    specs = {spec.name: spec for spec in config.channels}
    return {
        name: ChannelRules(specs[name].refusal, channel.parallel, channel.coalesces, _quiet(specs[name]))
        for name, channel in channels.items()
    }


def _quiet(spec: ChannelSpec) -> Callable[[int], bool]:
    return spec.quiet.at if spec.quiet else lambda now: False


def _retry_policy(config: NotifyConfig) -> RetryPolicy:
    return RetryPolicy(config.retry_base_s, config.retry_cap_s, config.give_up_after_s)


def _known(kafka: KafkaConfig) -> Sequence[Delivery]:
    """The last record of every key of llm.deliveries."""
    last: dict[bytes, Delivery] = {}
    for record in read_each(kafka, DELIVERIES):
        try:
            last[record.key or b""] = msgspec.json.decode(record.value or b"", type=Delivery)
        except UNREADABLE as error:
            log.warning("delivery_rejected", partition=record.partition, offset=record.offset, cause=str(error))
    return list(last.values())
