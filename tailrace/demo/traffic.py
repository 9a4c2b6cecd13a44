"""The demo's traffic: a pure function of a seed and a span of time.

Three apps with features, tenants, users and models; a daily shape; log-normal tokens; rare errors and guardrail
triggers. An incident changes rates or draws, nothing else, so what alerts does so for the planted reason alone.
"""

from __future__ import annotations

import heapq
import math
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tailrace.demo import texts

SECOND = 1_000_000
Kind = Literal["cost_spike", "guardrail_surge", "topic_shift"]


@dataclass(frozen=True)
class App:
    """One application: its share of traffic, who uses it and what it asks."""

    name: str
    team: str
    share: float
    features: dict[str, tuple[float, Sequence[texts.Topic]]]
    models: dict[str, tuple[str, float]]
    tokens_in: float
    tokens_out: float
    users: int
    guardrails: tuple[str, ...]
    prompt_version: str


APPS = (
    App(
        "support-bot",
        "care",
        0.5,
        {"chat": (0.75, (texts.BICYCLES, texts.SHIPPING)), "email-draft": (0.25, (texts.SHIPPING,))},
        {"gpt-4o-mini": ("openai", 0.8), "gpt-4o": ("openai", 0.2)},
        620,
        140,
        400,
        ("pii", "prompt-injection"),
        "17",
    ),
    App(
        "code-helper",
        "platform",
        0.3,
        {"complete": (0.6, (texts.CODE,)), "explain": (0.4, (texts.CODE,))},
        {"claude-sonnet-4-5": ("anthropic", 0.7), "gpt-4o": ("openai", 0.3)},
        1400,
        320,
        150,
        ("secrets",),
        "5",
    ),
    App(
        "doc-search",
        "knowledge",
        0.2,
        {"answer": (1.0, (texts.HANDBOOK,))},
        {"gemini-2.0-flash": ("google", 1.0)},
        2100,
        180,
        220,
        ("prompt-injection", "grounding"),
        "9",
    ),
)
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli", "wayne")
TRIGGER_SHARE = 0.012
ERROR_SHARE = 0.006
REFUSED_SHARE = {"support-bot": 0.03, "code-helper": 0.02, "doc-search": 0.12}
"""App -> share of the answers that refuse; the weekly report of the demo shows them."""


BUSY = tuple(app for app in APPS if app.name != "doc-search")
"""Apps in which a loop of twenty seconds costs more than ``spike`` takes to report it, 0.25 USD, and whose calls are
many enough to prove the end of a surge within a minute or two."""


@dataclass(frozen=True)
class Incident:
    """One planted incident: what, where, when (µs UTC), how strong."""

    kind: Kind
    app: str
    start: int
    end: int
    size: float
    """cost_spike: calls/s of the runaway user; guardrail_surge: share triggered; topic_shift: share of calls."""
    value: str
    """The user, the guardrail, the new topic's index."""
    action: str = ""


def plan(seed: int, start: int, *, gap_s: int = 26, lasts_s: tuple[int, int] = (20, 22)) -> tuple[Incident, ...]:
    """Draw the three incidents of one demo: order, moment, size, user; the first begins soon after ``start`` (µs).

    The surge comes first: its end is proven by some hundred calls, a minute or three at the pace of the demo.
    """
    rng = random.Random(f"incidents-{seed}")
    others: list[Kind] = ["cost_spike", "topic_shift"]
    rng.shuffle(others)
    kinds: list[Kind] = ["guardrail_surge", *others]
    planted = []
    for i, kind in enumerate(kinds):
        begin = start + (i * gap_s + rng.randint(0, 3)) * SECOND
        end = begin + rng.randint(*lasts_s) * SECOND
        if kind == "cost_spike":
            app = rng.choice(BUSY)
            user = f"u-{app.name}-{rng.randrange(app.users)}"
            planted.append(Incident(kind, app.name, begin, end, rng.uniform(8, 14), user))
        elif kind == "guardrail_surge":
            app = rng.choice(BUSY)
            action = rng.choice(("block", "flag"))
            planted.append(
                Incident(kind, app.name, begin, end, rng.uniform(0.3, 0.6), rng.choice(app.guardrails), action)
            )
        else:
            app = APPS[0]
            topic = rng.randrange(len(texts.SHIFTS))
            planted.append(Incident(kind, app.name, begin, end, rng.uniform(0.5, 0.8), str(topic)))
    return tuple(planted)


def events(
    seed: int,
    start: int,
    end: int,
    *,
    rate: float,
    incidents: Sequence[Incident] = (),
    content_share: float = 1.0,
) -> Iterator[dict[str, Any]]:
    """Yield the calls between ``start`` and ``end`` (µs UTC) in the order of their time, as wire objects.

    Args:
        seed: the same seed and span give the same calls.
        start: first moment.
        end: first moment that is no longer played.
        rate: mean calls a second over a day.
        incidents: what is planted.
        content_share: share of the calls that carry their texts.
    """
    streams = [_base(seed, app, start, end, rate, incidents, content_share) for app in APPS]
    streams += [_runaway(seed, i, start, end, content_share) for i in incidents if i.kind == "cost_spike"]
    for _, call in heapq.merge(*streams, key=lambda pair: pair[0]):
        yield call


def day_shape(time: int) -> float:
    """Traffic at ``time`` (µs UTC) relative to a day's mean: 0.5 at four in the morning, 1.5 in the afternoon."""
    hour = time / (3600 * SECOND) % 24
    return 1.0 + 0.5 * math.sin((hour - 10) / 24 * 2 * math.pi)


def _base(
    seed: int, app: App, start: int, end: int, rate: float, incidents: Sequence[Incident], content_share: float
) -> Iterator[tuple[int, dict[str, Any]]]:
    rng = random.Random(f"{seed}-{app.name}-{start}")
    mine = [i for i in incidents if i.app == app.name]
    time = float(start)
    while True:
        time += rng.expovariate(rate * app.share * day_shape(int(time))) * SECOND
        if time >= end:
            return
        active = [i for i in mine if i.start <= time < i.end]
        user = f"u-{app.name}-{int(app.users * rng.random() ** 2)}"
        yield int(time), _call(rng, app, int(time), user, active, content_share)


def _runaway(
    seed: int, incident: Incident, start: int, end: int, content_share: float
) -> Iterator[tuple[int, dict[str, Any]]]:
    rng = random.Random(f"{seed}-{incident.value}-{incident.start}")
    app = next(a for a in APPS if a.name == incident.app)
    time = float(max(start, incident.start))
    while True:
        time += rng.expovariate(incident.size) * SECOND
        if time >= min(end, incident.end):
            return
        # an agent in a loop: its context has grown, its questions are those of everybody
        yield int(time), _call(rng, app, int(time), incident.value, (), content_share, context=rng.uniform(6, 12))


def _call(
    rng: random.Random,
    app: App,
    time: int,
    user: str,
    active: Sequence[Incident],
    content_share: float,
    context: float = 1.0,
) -> dict[str, Any]:
    feature = rng.choices(list(app.features), [w for w, _ in app.features.values()])[0]
    model = rng.choices(list(app.models), [w for _, w in app.models.values()])[0]
    provider = app.models[model][0]
    topic = rng.choice(app.features[feature][1])
    shift = next((i for i in active if i.kind == "topic_shift"), None)
    if shift and rng.random() < shift.size:
        topic = texts.SHIFTS[int(shift.value)]
    question, answer = topic.draw(rng)
    tokens_in = int(app.tokens_in * context * rng.lognormvariate(0, 0.45)) + 1
    tokens_out = int(app.tokens_out * rng.lognormvariate(0, 0.5)) + 1
    checks = [_check(rng, name, active) for name in app.guardrails]
    status = "blocked" if any(c["action"] == "block" for c in checks) else "ok"
    error = rng.random() < ERROR_SHARE
    total_ms = round(180 + tokens_out * 11 * rng.lognormvariate(0, 0.25), 1)
    call: dict[str, Any] = {
        "v": 1,
        "type": "call",
        "id": str(_uuid7(time // 1000, rng)),
        "ts": time // 1000,
        "app": app.name,
        "model": model,
        "response_model": model,
        "provider": provider,
        "op": "chat",
        "env": "prod",
        "feature": feature,
        "team": app.team,
        "tenant": TENANTS[uuid.uuid5(uuid.NAMESPACE_OID, user).int % len(TENANTS)],
        "user": user,
        "session_id": f"s-{user}-{time // (900 * SECOND)}",
        "status": "error" if error else status,
        "release": "2.4.0",
        "prompt": {"name": feature, "version": app.prompt_version},
        "latency": {"total_ms": total_ms, "ttft_ms": round(total_ms * rng.uniform(0.15, 0.3), 1)},
        "guardrails": checks,
    }
    if error:
        call["error"] = {"type": "rate_limit_error", "code": "429", "message": "Too many requests"}
        return call
    cached = int(tokens_in * 0.4) if rng.random() < 0.5 else 0
    call["tokens"] = {"input": tokens_in, "output": 0 if status == "blocked" else tokens_out, "cache_read": cached}
    call["finish_reason"] = "stop"
    answer = texts.REFUSAL if _refuses(call["id"], app.name) else answer
    if rng.random() < content_share:
        call["content"] = {
            "mode": "redacted",
            "input": [{"role": "user", "text": question}],
            "output": "" if status == "blocked" else answer,
        }
    return call


def _refuses(call_id: str, app: str) -> bool:
    """Whether the answer refuses; drawn from the id, so that the other draws of a seed stay as they are."""
    return int(call_id[-6:], 16) / 0x1000000 < REFUSED_SHARE[app]


def _check(rng: random.Random, name: str, active: Sequence[Incident]) -> dict[str, Any]:
    surge = next((i for i in active if i.kind == "guardrail_surge" and i.value == name), None)
    draw = rng.random()
    usual = "flag" if draw < TRIGGER_SHARE else "pass"
    action = surge.action if surge and draw < surge.size else usual
    return {"name": name, "stage": "input", "action": action, "ms": round(rng.uniform(3, 20), 1)}


def _uuid7(milliseconds: int, rng: random.Random) -> uuid.UUID:
    value = (
        (milliseconds & ((1 << 48) - 1)) << 80
        | 0x7 << 76
        | rng.getrandbits(12) << 64
        | 0b10 << 62
        | rng.getrandbits(62)
    )
    return uuid.UUID(int=value)
