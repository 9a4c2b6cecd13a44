"""Apps at a steady rate that change at one moment, played into a whole ``tailrace up``: when does the webhook get it?

A step is one app with ``HISTORY_S`` seconds of usual calls, sent before as fast as they are taken, and live ones until
it has alerted. What changes is one of ``KINDS``.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import confluent_kafka as ck
import msgspec
import numpy as np
from _report import QUICK
from _up import Up

from schemas.alerts import Alert
from schemas.topics import EVENTS
from tailrace.demo.receiver import Receiver

STEPS = 3 if QUICK else 12
STEP_EVERY_S = 4.0
KILLS = ("meter", "detect", "notify") * (1 if QUICK else 3)
KILL_EVERY_S = 22.0  # far enough apart that a stage is back before the next
KILL_WITHIN_S = 11.0  # of the step: an undisturbed alert takes longer
HISTORY_S = 45 * 60
STEP_RATE = 10.0
LONGEST_WINDOW_S = 400
GIVE_UP_S = 60.0
GUARDRAIL = "prompt_injection"


@dataclass(frozen=True)
class Mix:
    """What the calls of an app are like."""

    times: int = 1
    """Tokens, and so cost, as a multiple of the usual."""
    failed: float = 0.005
    """Share of calls that end in an error."""
    blocked: float = 0.01
    """Share of calls that the guardrail blocks."""


USUAL = Mix()
KINDS = {
    "cost_x10": Mix(times=10),
    "cost_x3": Mix(times=3),
    "errors_30_percent": Mix(failed=0.3),
    "guardrails_10_percent": Mix(blocked=0.1),
}
"""Name -> what the calls are like from the step on."""


class Calls:
    """Made-up calls of one app, distinct and about 1 KB where they carry texts. What each costs is known."""

    def __init__(self, app: str, seed: int, *, words: int = 0) -> None:
        self._app, self._words = app, words
        self._draw = random.Random(f"{app}-{seed}")
        lexicon = [f"{c}{v}{d}{i}" for i in range(20) for c in "bdfglmnprst" for v in "aeiou" for d in "nrs"]
        self._pool = self._draw.choices(lexicon, k=20_000)

    def call(self, ts_ms: int, mix: Mix = Mix(failed=0.0, blocked=0.0)) -> tuple[bytes, int]:
        """Return a call of gpt-4o drawn from ``mix``, and its cost in nano-USD."""
        draw = self._draw
        asked, answered = draw.randrange(300, 900) * mix.times, draw.randrange(50, 250) * mix.times
        status = "ok"
        if mix.failed or mix.blocked:
            status = draw.choices(("error", "blocked", "ok"), (mix.failed, mix.blocked, 1 - mix.failed - mix.blocked))[
                0
            ]
        event: dict[str, Any] = {
            "v": 1,
            "type": "call",
            "id": str(uuid.UUID(int=ts_ms << 80 | 7 << 76 | 2 << 62 | draw.getrandbits(62))),
            "ts": ts_ms,
            "app": self._app,
            "model": "gpt-4o",
            "provider": "openai",
            "feature": "chat",
            "user": f"u{int(400 * draw.random() ** 2)}",
            "status": status,
            "latency": {"total_ms": 640.0, "ttft_ms": 120.0},
            "tokens": {"input": asked, "output": answered},
        }
        if status == "error":
            event |= {"error": {"type": "overloaded_error", "code": "529"}, "tokens": {}}
            asked = answered = 0
        elif status == "blocked":
            event["guardrails"] = [{"name": GUARDRAIL, "stage": "input", "action": "block"}]
        if self._words:
            event["content"] = {
                "mode": "redacted",
                "input": [{"role": "user", "text": self._text()}],
                "output": self._text(),
            }
        return msgspec.json.encode(event), asked * 2500 + answered * 10_000

    def _text(self) -> str:
        at = self._draw.randrange(len(self._pool) - self._words)
        return " ".join(self._pool[at : at + self._words])


def producer_of(bootstrap: str) -> ck.Producer:
    """As the emitter has it."""
    return ck.Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )


@dataclass
class Step:
    """One app whose calls are of another mix from ``at`` on."""

    app: str
    kind: str = "cost_x10"
    """One of ``KINDS``."""
    rate: float = STEP_RATE
    """Calls a second."""
    usual: Mix = USUAL
    kill: str = ""
    """The stage that is killed between this step and its alert."""
    at: float = 0.0
    calls: list[tuple[float, int, int]] = field(default_factory=list)
    """(Produced at, time in µs, nano-USD) of each live call and of those ``LONGEST_WINDOW_S`` before."""
    first: float = 0.0
    """When the first call of the other mix was produced."""


FirstAlerts = dict[str, tuple[float, Alert]]
"""App -> when its first alert arrived, and the alert."""


def history(bootstrap: str, steps: Sequence[Step], until: float) -> None:
    """Send the usual calls of each app for ``HISTORY_S`` seconds before ``until``, as fast as they are taken."""
    producer = producer_of(bootstrap)
    makers = {step.app: Calls(step.app, 0) for step in steps}
    rng = random.Random("history")
    for second in range(HISTORY_S):
        # in the order of their time: an app behind the others would be late
        moments = sorted((rng.random(), i) for i, step in enumerate(steps) for _ in range(int(step.rate)))
        for part, i in moments:
            milliseconds = int((until - HISTORY_S + second + part) * 1000)
            value, nano = makers[steps[i].app].call(milliseconds, steps[i].usual)
            if second >= HISTORY_S - LONGEST_WINDOW_S:
                steps[i].calls.append((until, milliseconds * 1000, nano))
            while True:
                try:
                    producer.produce(EVENTS, value, key=value[30:60])
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def play_steps(bootstrap: str, steps: Sequence[Step], first_alerts: FirstAlerts, gap_from: float) -> None:
    """Play every app live from ``gap_from`` on, until each has stepped and alerted, or has had its time."""
    producer = producer_of(bootstrap)
    makers = {s.app: Calls(s.app, 1) for s in steps}
    rng = random.Random("live")
    due = [(gap_from + rng.random() / step.rate, i) for i, step in enumerate(steps)]
    heapq.heapify(due)
    last = max(s.at for s in steps) + GIVE_UP_S
    while time.time() < last and not all(s.app in first_alerts for s in steps):
        at, i = heapq.heappop(due)
        step = steps[i]
        if (wait := at - time.time()) > 0:
            producer.poll(0)
            time.sleep(wait)
        changed = at >= step.at
        value, nano = makers[step.app].call(int(at * 1000), KINDS[step.kind] if changed else step.usual)
        now = time.time()
        producer.produce(EVENTS, value, key=value[30:60])
        step.calls.append((now, int(at * 1000) * 1000, nano))
        if changed and not step.first:
            step.first = now
        heapq.heappush(due, (at + rng.expovariate(step.rate), i))
    producer.flush(30)


def decided_at(step: Step, alert: Alert) -> float | None:
    """When the last call was produced that ``observed`` counts; None where no run of calls gives that value."""
    if alert.unit not in ("USD", "USD/call"):
        return None
    start = datetime.fromisoformat(alert.window.start).timestamp() * 1e6
    calls = sorted((call for call in step.calls if call[1] >= start), key=lambda call: call[1])
    if not calls:
        return None
    values = np.cumsum([nano for _, _, nano in calls]) / 1e9
    if alert.unit == "USD/call":
        values = values / np.arange(1, len(calls) + 1)
    nearest = int(np.argmin(np.abs(values - alert.observed)))
    return calls[nearest][0] if abs(values[nearest] - alert.observed) <= 1e-9 * abs(alert.observed) else None


def learn(up: Up, bootstrap: str, steps: Sequence[Step]) -> float:
    """Send the history of ``steps``, wait until every stage has read it, and return when it ended."""
    until = time.time()
    history(bootstrap, steps, until)
    sent = sum(int(step.rate) for step in steps) * HISTORY_S
    print(f"{sent:,} calls of history sent in {time.time() - until:.0f} s", flush=True)
    up.caught_up(900)
    return until


def play(bootstrap: str, receiver: Receiver, steps: Sequence[Step], gap_from: float) -> FirstAlerts:
    """Play ``steps``; return the first alert of each app, also of those that have not stepped yet."""
    first_alerts: FirstAlerts = {}
    stop = threading.Event()

    def listen() -> None:
        while not stop.wait(0.005):
            for alert in list(receiver.alerts):
                if alert.state == "firing" and alert.series.get("app") not in first_alerts:
                    first_alerts[alert.series.get("app", "")] = (time.time(), alert)

    threading.Thread(target=listen, daemon=True).start()
    play_steps(bootstrap, steps, first_alerts, gap_from)
    time.sleep(1)
    stop.set()
    return first_alerts


def is_early(step: Step, first_alerts: FirstAlerts) -> bool:
    """Whether the app of ``step`` alerted before it changed."""
    return step.app in first_alerts and (not step.first or first_alerts[step.app][0] < step.first)


def with_kills(up: Up, bootstrap: str, receiver: Receiver) -> dict[str, Any]:
    """How long a tenfold cost at ten calls a second takes to reach the webhook, undisturbed and with a stage killed."""
    only_cost = Mix(failed=0.0, blocked=0.0)
    steps = [Step(f"step-{i}", usual=only_cost) for i in range(STEPS)]
    steps += [Step(f"killed-{i}", usual=only_cost, kill=stage) for i, stage in enumerate(KILLS)]
    until = learn(up, bootstrap, steps)
    start = time.time() + 12
    rng = random.Random("steps")
    for i, step in enumerate(steps):
        step.at = start + i * STEP_EVERY_S + rng.random() * 10
        if step.kill:
            step.at = start + STEPS * STEP_EVERY_S + 20 + (i - STEPS) * KILL_EVERY_S
            threading.Timer(step.at + rng.random() * KILL_WITHIN_S - time.time(), up.kill, (step.kill,)).start()
    first_alerts = play(bootstrap, receiver, steps, until)
    early = [step.app for step in steps if is_early(step, first_alerts)]
    alerted = [(s, *first_alerts[s.app]) for s in steps if s.app in first_alerts and s.app not in early]
    onsets = [at - s.first for s, at, _ in alerted if not s.kill]
    killed = [at - s.first for s, at, _ in alerted if s.kill]
    after = [at - since for s, at, alert in alerted if not s.kill and (since := decided_at(s, alert)) is not None]
    for s, at, alert in alerted:
        about = f" ({s.kill} killed)" if s.kill else ""
        print(f"{s.app}{about}: {at - s.first:.1f} s after the first expensive call: {alert.title}", flush=True)
    return {
        "onset_p50_s": quantile(onsets, 0.5),
        "onset_p90_s": quantile(onsets, 0.9),
        "onset_max_s": quantile(onsets, 1.0),
        "onset_killed_p50_s": quantile(killed, 0.5),
        "onset_killed_max_s": quantile(killed, 1.0),
        # the worst of them against the usual undisturbed one
        "late_after_kill_max_s": round(max(killed) - float(np.median(onsets)), 2) if killed and onsets else None,
        "killed": len(KILLS),
        "alert_p50_s": quantile(after, 0.5),
        "alert_p99_s": quantile(after, 0.99),
        "steps": len(steps),
        "alerted": len(alerted),
        "false_alerts": len(early) + len(set(first_alerts) - {step.app for step in steps}),
    }


def onset_to_alert(up: Up, bootstrap: str, receiver: Receiver, rate: float, apps: int) -> dict[str, Any]:
    """From the first call after a change of each of ``KINDS`` to the HTTP request, in seconds.

    Args:
        up: what runs; it has read no other calls of these apps.
        bootstrap: address of its brokers.
        receiver: its webhook.
        rate: calls a second of each app.
        apps: apps of each kind; one after the other changes.
    """
    steps = [Step(f"{kind.replace('_', '-')}-{i}", kind, rate) for i in range(apps) for kind in KINDS]
    until = learn(up, bootstrap, steps)
    start = time.time() + 12
    rng = random.Random("kinds")
    for i, step in enumerate(steps):
        step.at = start + i * STEP_EVERY_S + rng.random() * STEP_EVERY_S
    first_alerts = play(bootstrap, receiver, steps, until)
    found: dict[str, Any] = {}
    for kind in KINDS:
        mine = [step for step in steps if step.kind == kind]
        early = [step.app for step in mine if is_early(step, first_alerts)]
        alerted = [(s, *first_alerts[s.app]) for s in mine if s.app in first_alerts and s.app not in early]
        onsets = [at - s.first for s, at, _ in alerted]
        for s, at, alert in alerted:
            print(f"{s.app}: {at - s.first:.1f} s after its change: {alert.title}", flush=True)
        found[kind] = {
            "p50_s": quantile(onsets, 0.5),
            "p90_s": quantile(onsets, 0.9),
            "apps": len(mine),
            "alerted": len(alerted),
            "early": len(early),
        }
    return found


def quantile(values: Any, q: float) -> float | None:
    """Rounded; None of nothing."""
    return round(float(np.quantile(np.asarray(values), q)), 2) if len(values) else None
