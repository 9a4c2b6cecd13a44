"""``tailrace demo --here``: traffic with two incidents for stages that run already, and the alerts they raise.

Everything goes through Kafka: the traffic in, the alerts out. The stages may be in other containers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import msgspec

from pipelines.clock import now_us
from pipelines.kafka import KafkaConfig, Source
from schemas.alerts import Alert
from schemas.errors import UNREADABLE, RetryableError
from schemas.topics import ALERTS, EVENTS, ROLLUPS
from tailrace.demo.judge import matches
from tailrace.demo.run import HISTORY_S, RATE, TEXTS_IN_HISTORY, TICKS, DemoFailedError, PrintLine
from tailrace.demo.traffic import APPS, SECOND, Incident, day_shape, events, plan
from tailrace.events.publish import in_real_time, publish
from tailrace.events.replay import key_of

CATCH_UP_WITHIN_S = 240.0
ALERT_WITHIN_S = 120.0
LOOK_EVERY_S = 0.5
EMPTY = 1_000
"""Records of llm.events below which the history is sent; a second demo continues from the first one's."""
READERS = ((EVENTS, "meter"), (ROLLUPS, "detect"))
"""Topics and the groups that must have read them before the incidents begin."""


@dataclass
class Outcome:
    """What was sent, and the alerts on it."""

    incidents: tuple[Incident, ...]
    sent: int = 0
    alerts: list[Alert] = field(default_factory=list)

    @property
    def missing(self) -> list[Incident]:
        """Incidents without an alert."""
        return [i for i in self.incidents if not any(a.state == "firing" and _about(i, a) for a in self.alerts)]


def play(kafka: KafkaConfig, *, seed: int, echo: PrintLine, on_alert: Callable[[Alert], None]) -> Outcome:
    """Send the traffic and return when both incidents have alerted, or after ``ALERT_WITHIN_S``.

    Args:
        kafka: of the running stages; the apps of the demo are in their lake afterwards.
        seed: draws traffic and incidents.
        echo: prints one line of progress.
        on_alert: called for each alert on an app of the demo.

    Raises:
        DemoFailedError: the stages do not read what was sent.
        KafkaUnavailableError: the brokers do not answer.
    """
    outcome = Outcome(())
    now = now_us()
    rate = RATE / day_shape(now)
    with _following(kafka, outcome.alerts, on_alert):
        if _records(kafka) < EMPTY:
            start = now - HISTORY_S * SECOND
            past = events(seed, start, now, rate=rate, content_share=TEXTS_IN_HISTORY / (HISTORY_S * RATE))
            outcome.sent = len(publish(kafka, ((key_of(c), msgspec.json.encode(c)) for c in past)).positions)
            echo(f"{outcome.sent:,} calls of history sent; waiting until meter and detect have read them")
        _await_readers(kafka)
        # drift learns from samples of days: an hour's history shows no change of topic on every setting
        planned = plan(seed, now_us() + 4 * SECOND)
        outcome.incidents = tuple(i for i in planned if i.kind != "topic_shift")
        for incident in outcome.incidents:
            echo(f"planted: {incident.kind} on {incident.app} ({incident.value})")
        outcome.sent += _live(kafka, seed, now, rate, outcome)
    return outcome


def _live(kafka: KafkaConfig, seed: int, began: int, rate: float, outcome: Outcome) -> int:
    """Send calls as time goes by until every incident has alerted; return how many."""
    start = now_us()
    end = max(i.end for i in outcome.incidents) + int(ALERT_WITHIN_S) * SECOND
    calls = events(seed + 1, began, end, rate=rate, incidents=outcome.incidents)
    timed = ((max(0, c["ts"] * 1000 - start), key_of(c), msgspec.json.encode(c)) for c in calls)

    def until() -> Iterator[tuple[int, bytes, bytes]]:
        for each in timed:
            if not outcome.missing:
                return
            yield each

    return len(publish(kafka, in_real_time(until(), 1.0)).positions)


@contextmanager
def _following(kafka: KafkaConfig, found: list[Alert], on_alert: Callable[[Alert], None]) -> Iterator[None]:
    """Collect the alerts on the demo's apps that are written while the block lasts."""
    stop = threading.Event()
    source = Source(kafka, [ALERTS], batch_wait_s=LOOK_EVERY_S)
    source.assign({(ALERTS, p): high for p, (_, high) in source.partitions(ALERTS).items()})
    apps = {app.name for app in APPS}

    def follow() -> None:
        while not stop.is_set():
            for value in (value for batch in source.poll() for value in batch.values):
                alert = _alert(value)
                if alert is not None and alert.series.get("app") in apps:
                    found.append(alert)
                    on_alert(alert)

    thread = threading.Thread(target=follow, name="alerts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        source.close()


def _alert(value: bytes | None) -> Alert | None:
    try:
        return Alert.from_json(value or b"")
    except UNREADABLE:
        return None


def _records(kafka: KafkaConfig) -> int:
    with closing(Source(kafka, [EVENTS])) as source:
        return sum(high - low for low, high in source.partitions(EVENTS).values())


def _await_readers(kafka: KafkaConfig) -> None:
    deadline = time.monotonic() + CATCH_UP_WITHIN_S
    sources = [(topic, group, Source(kafka, [topic], group=group)) for topic, group in READERS]
    try:
        while late := [
            f"{group} is {lag} records behind" for topic, group, s in sources if (lag := _lag(s, topic)) > TICKS
        ]:
            if time.monotonic() > deadline:
                raise DemoFailedError("the stages did not read the history", ", ".join(late))
            time.sleep(LOOK_EVERY_S)
    finally:
        for _, _, source in sources:
            source.close()


def _lag(source: Source, topic: str) -> int:
    """Records that the group of ``source`` has not committed; all of them while it does not answer."""
    try:
        marks = source.partitions(topic)
        committed = source.committed(topic, marks)
    except RetryableError:
        return TICKS + 1
    return sum(max(0, high - committed.get(p, (low, ""))[0]) for p, (low, high) in marks.items())


def _about(incident: Incident, alert: Alert) -> bool:
    """Whether ``alert`` is about ``incident``; with a key of users the stages name a user by a pseudonym."""
    user = alert.series.get("user")
    return matches(replace(incident, value=user) if incident.kind == "cost_spike" and user else incident, alert)


def judged(outcome: Outcome) -> Sequence[str]:
    """Return a line for each incident."""
    missing = outcome.missing
    return [f"{i.kind} on {i.app} ({i.value}): {'NO ALERT' if i in missing else 'alerted'}" for i in outcome.incidents]
