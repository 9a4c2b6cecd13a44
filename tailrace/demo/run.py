"""``tailrace demo``: history faster than real time, then live traffic in which three incidents arrive."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from pipelines.clock import now_us
from schemas.alerts import Alert
from schemas.errors import RetryableError, TailraceError
from tailrace import wiring
from tailrace.demo import weekly
from tailrace.demo.judge import complete, judge
from tailrace.demo.receiver import Receiver, listening
from tailrace.demo.traffic import SECOND, Incident, day_shape, events, plan
from tailrace.events.publish import in_real_time, publish
from tailrace.events.replay import key_of
from tailrace.monitor.status import status
from tailrace.settings.model import Settings
from tailrace.supervisor.supervisor import Supervisor
from tailrace.supervisor.up import running

HISTORY_S = 65 * 60
RATE = 10.0
"""Calls a second now, at any hour; the history follows the daily curve up to it."""
QUIET_START_S = 4
"""Quiet live seconds before the first incident may begin."""
READY_WITHIN_S = 120.0
CATCH_UP_WITHIN_S = 120.0
RESOLVE_WITHIN_S = 120.0
TEXTS_IN_HISTORY = 1500
TICKS = 60
"""A lag below this is the clock's own records, eight a second, counted every five seconds."""
STEADY_S = 5.0

PrintLine = Callable[[str], None]


class DemoFailedError(RetryableError):
    """A part of the demo did not come up in time."""

    def __init__(self, what: str, facts: str) -> None:
        super().__init__(f"the demo stopped: {what} ({facts})")


@dataclass
class Outcome:
    """What one demo did."""

    incidents: tuple[Incident, ...]
    alerts: list[Alert] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sent: int = 0
    onset_to_alert_s: dict[str, float] = field(default_factory=dict)
    weekly: weekly.Outcome = field(default_factory=weekly.Outcome)


def play(
    settings: Settings,
    *,
    seed: int,
    echo: PrintLine,
    on_alert: Callable[[Alert], None],
    no_incidents: bool = False,
) -> Outcome:
    """Run the whole demo; everything it started has ended when it returns.

    Args:
        settings: with a separate home.
        seed: draws traffic and incidents.
        echo: prints one line of progress.
        on_alert: called for each alert as it arrives at the webhook.
        no_incidents: plant none; then any alert is a problem.

    Raises:
        DemoFailedError: a stage did not come up or catch up in time.
    """
    with listening(Receiver(on_alert)) as receiver:
        environment = {
            "TAILRACE_ALERT_CHANNELS": json.dumps([receiver.url]),
            "TAILRACE_WEBHOOK_SECRET": receiver.secret,
            "TAILRACE_WEBHOOK_ALLOW_HOSTS": receiver.url.split("/")[2],
            "TAILRACE_ALERT_TEXTS": "true",  # the texts are the demo's own, and its receiver is this process
            # the few texts of the history come within a second; all are sampled
            "TAILRACE_METER__SAMPLES_PER_S": "100000",
        }
        with running(settings, environment=environment) as (supervisor, _), _kept_alive(supervisor):
            echo(f"Kafka runs, the stages start; writing {HISTORY_S // 60} minutes of history")
            return _traffic(settings, supervisor, receiver, seed=seed, echo=echo, no_incidents=no_incidents)


def _traffic(
    settings: Settings,
    supervisor: Supervisor,
    receiver: Receiver,
    *,
    seed: int,
    echo: PrintLine,
    no_incidents: bool,
) -> Outcome:
    kafka = wiring.kafka(settings, supervisor.bootstrap_servers)
    now = now_us()
    rate = RATE / day_shape(now)
    past = events(
        seed,
        now - HISTORY_S * SECOND,
        now,
        rate=rate,
        content_share=TEXTS_IN_HISTORY / (HISTORY_S * RATE),
    )
    outcome = Outcome(())
    outcome.sent = len(publish(kafka, ((key_of(c), msgspec.json.encode(c)) for c in past)).positions)
    echo(f"{outcome.sent:,} calls of history sent; waiting until every stage runs and has read them")
    _await(settings, READY_WITHIN_S, "not every stage became ready", _ready)
    _await(settings, CATCH_UP_WITHIN_S, "the stages did not catch up", _caught_up, STEADY_S)
    start = now_us()
    incidents = () if no_incidents else plan(seed, start + QUIET_START_S * SECOND)
    outcome.incidents = incidents
    end = max((i.end for i in incidents), default=start + 90 * SECOND) + 12 * SECOND
    echo(f"live: {RATE:.0f} calls a second; incidents will arrive in the next {(end - start) / SECOND:.0f} seconds")
    # calls missed while the history was read fill the gap between the two
    live = events(seed + 1, now, end + int(RESOLVE_WITHIN_S) * SECOND, rate=rate, incidents=incidents)
    timed = ((max(0, c["ts"] * 1000 - start), key_of(c), msgspec.json.encode(c)) for c in live)
    finished = threading.Event()
    failed: list[TailraceError] = []

    def feed() -> None:
        try:
            publish(kafka, in_real_time(_until(timed, finished), 1.0))
        except TailraceError as error:
            failed.append(error)

    feeding = threading.Thread(target=feed, name="traffic", daemon=True)
    feeding.start()
    loop = weekly.Loop(settings, next((i for i in incidents if i.kind == "guardrail_surge"), None))
    while now_us() < end or (now_us() < end + RESOLVE_WITHIN_S * SECOND and not complete(incidents, receiver.alerts)):
        time.sleep(0.2)
    finished.set()
    feeding.join()
    if failed:
        raise failed[0]
    _await(settings, CATCH_UP_WITHIN_S, "the stages did not catch up", _caught_up)
    outcome.alerts = list(receiver.alerts)
    outcome.problems = judge(incidents, outcome.alerts)
    outcome.weekly = loop.result()
    if not no_incidents:
        outcome.problems += outcome.weekly.problems()
    return outcome


def _until(timed: Iterator[tuple[int, bytes, bytes]], finished: threading.Event) -> Iterator[tuple[int, bytes, bytes]]:
    for item in timed:
        if finished.is_set():
            return
        yield item


@contextmanager
def _kept_alive(supervisor: Supervisor) -> Iterator[None]:
    """Supervise from a thread while the demo runs."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            supervisor.look()

    supervisor.look()  # the first children are started by this thread: the kernel ties them to it
    thread = threading.Thread(target=look, name="supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _await(
    settings: Settings,
    timeout_s: float,
    failed: str,
    met: Callable[[dict[str, object]], bool],
    steady_s: float = 0.0,
) -> None:
    """Wait until ``met`` holds, and has held for ``steady_s``."""
    deadline = time.monotonic() + timeout_s
    since: float | None = None
    while True:
        facts, now = status(settings), time.monotonic()
        since = (since or now) if met(facts) else None
        if since is not None and now - since >= steady_s:
            return
        if now > deadline:
            raise DemoFailedError(failed, json.dumps(facts["stages"], default=str))
        time.sleep(0.3)


def _ready(facts: dict[str, object]) -> bool:
    return bool(facts["ready"])


def _caught_up(facts: dict[str, object]) -> bool:
    stages = facts["stages"]
    assert isinstance(stages, dict)
    return all(s["state"] == "running" and s["lag"] is not None and s["lag"] < TICKS for s in stages.values())
