"""One hour of events: real traffic or the demo's, three planted incidents, bad events between the good ones.

What each call must cost is reckoned here, from the published prices of the one model used and nothing of ours.
"""

import base64
import heapq
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from tailrace.demo import texts as demo_texts
from tailrace.demo import traffic as demo
from tailrace.events.replay import Texts, key_of, read_traffic

SECOND = 1_000_000
HOUR_S = 3500
CORPUS = Path(__file__).parents[2] / "corpus" / "events.jsonl"

MODEL = "gpt-4o"
USD_PER_MTOK = {"input": Decimal("2.50"), "cache_read": Decimal("1.25"), "output": Decimal("10.00")}
"""OpenAI's price list for gpt-4o."""

CONTENT_SHARE = 0.14
"""Share of the calls that carry texts: the embedding of a whole hour is not what is tested here."""
SHIFT_S = (2610, 2810)
"""More texts follow than the 400 that drift waits for at most before it says that they are as before."""
GUARDRAIL = "pii"
USUAL_TRIGGERS = 0.01


@dataclass(frozen=True)
class Planted:
    """What one planted incident must alert as."""

    detector: str
    series: dict[str, str]
    """Part of the alert's series that is certain."""


@dataclass(frozen=True)
class Bad:
    """An event that must die, and of what."""

    value: bytes | None
    reason: str
    name: str


@dataclass(frozen=True)
class Message:
    """One message of the hour, ``after`` µs from its start. ``call`` is None where it is ``bad``."""

    after: int
    key: bytes | None
    value: bytes | None
    call: dict[str, Any] | None = None
    bad: Bad | None = None


@dataclass
class Hour:
    """Everything that is sent, in its order, and what must come of it."""

    messages: list[Message]
    planted: tuple[Planted, ...]
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calls = {m.call["id"]: m.call for m in self.messages if m.call}

    @property
    def usd(self) -> Decimal:
        """The bill."""
        return sum((cost(c) for c in self.calls.values()), Decimal(0))

    def per_app(self) -> dict[str, tuple[int, int, int, Decimal]]:
        """App -> calls, input tokens, output tokens, USD."""
        calls: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        said: Counter[str] = Counter()
        usd: dict[str, Decimal] = {}
        for call in self.calls.values():
            app, tokens = call["app"], call.get("tokens", {})
            calls[app] += 1
            asked[app] += tokens.get("input", 0)
            said[app] += tokens.get("output", 0)
            usd[app] = usd.get(app, Decimal(0)) + cost(call)
        return {app: (calls[app], asked[app], said[app], usd[app]) for app in calls}


def cost(call: dict[str, Any]) -> Decimal:
    """What the provider bills: cached input at its own price, the rest of the input, the output."""
    tokens = call.get("tokens", {})
    cached = tokens.get("cache_read", 0)
    billed = {
        "input": tokens.get("input", 0) - cached,
        "cache_read": cached,
        "output": tokens.get("output", 0),
    }
    return sum((n * USD_PER_MTOK[kind] for kind, n in billed.items()), Decimal(0)) / 1_000_000


def azure(data: Path, *, start: int, seed: int) -> Hour:
    """The hour of Azure's two services with AlpacaEval's texts; the incidents are in the conversations."""
    rng = random.Random(f"azure-{seed}")
    app, runaway = "azure-conv", "user-runaway"
    texts = Texts.read(data / "texts")
    other = pl.read_parquet(data / "texts" / "gsm8k_model_solutions.parquet").unique("question_id", maintain_order=True)
    sums = other.select("question", "solution").rows()
    surge = (2860, 2930)
    calls = []
    for timed in read_traffic(data / "traffic" / "azure_llm_2023.parquet", texts=texts, seed=seed, start=start):
        call, at = timed.event, timed.after / SECOND
        usual = "flag" if rng.random() < USUAL_TRIGGERS else "pass"
        attacked = call["app"] == app and surge[0] <= at < surge[1] and rng.random() < 0.5
        call["guardrails"] = [{"name": GUARDRAIL, "stage": "input", "action": "flag" if attacked else usual}]
        if rng.random() >= CONTENT_SHARE:
            del call["content"]
        elif call["app"] == app and SHIFT_S[0] <= at < SHIFT_S[1] and rng.random() < 0.85:
            question, answer = rng.choice(sums)
            call["content"] = {**call["content"], "input": [{"role": "user", "text": question}], "output": answer}
        calls.append((timed.after, call))
    calls += _runaway(rng, app, runaway, start, 2520, 2600)
    planted = (
        Planted("spike", {"app": app, "user": runaway}),
        Planted("surge", {"app": app, "guardrail": GUARDRAIL}),
        Planted("drift", {"app": app}),
    )
    return _compose(calls, planted, rng)


def generated(*, start: int, seed: int) -> Hour:
    """The demo's own traffic, every call to the one model whose price is written above."""
    incidents = (
        demo.Incident("cost_spike", "support-bot", _at(start, 2520), _at(start, 2600), 10.0, "u-support-bot-17"),
        demo.Incident("guardrail_surge", "doc-search", _at(start, 2860), _at(start, 2930), 0.5, "grounding", "flag"),
        demo.Incident("topic_shift", "support-bot", *(_at(start, SHIFT_S[0]), _at(start, SHIFT_S[1])), 0.8, "0"),
    )
    calls = []
    hour = demo.events(seed, start, _at(start, HOUR_S), rate=6.0, incidents=incidents, content_share=CONTENT_SHARE * 2)
    for call in hour:
        call |= {"model": MODEL, "response_model": MODEL, "provider": "openai"}
        calls.append((call["ts"] * 1000 - start, call))
    planted = (
        Planted("spike", {"app": "support-bot", "user": "u-support-bot-17"}),
        Planted("surge", {"app": "doc-search", "guardrail": "grounding"}),
        Planted("drift", {"app": "support-bot"}),
    )
    assert demo_texts.SHIFTS
    return _compose(calls, planted, random.Random(f"generated-{seed}"))


def bad_events() -> list[Bad]:
    """The corpus' dead, as bytes."""
    found = []
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        if "reason" in case:
            found.append(Bad(_bytes(case), case["reason"], case["name"]))
    return found


def _bytes(case: dict[str, Any]) -> bytes | None:
    if "repeat" in case:
        before, unit, times, after = case["repeat"]
        return f"{before}{unit * times}{after}".encode()
    if "base64" in case:
        return base64.b64decode(case["base64"])
    return None if case["value"] is None else case["value"].encode()


def _compose(calls: Sequence[tuple[int, dict[str, Any]]], planted: tuple[Planted, ...], rng: random.Random) -> Hour:
    good = [Message(after, key_of(call), msgspec.json.encode(call), call=call) for after, call in calls]
    good.sort(key=lambda m: m.after)
    bad = bad_events()
    rng.shuffle(bad)
    between = [
        Message(int((i + 0.5) * HOUR_S * SECOND / len(bad)), rng.randbytes(4), one.value, bad=one)
        for i, one in enumerate(bad)
    ]
    return Hour(list(heapq.merge(good, between, key=lambda m: m.after)), planted)


def _runaway(
    rng: random.Random, app: str, user: str, start: int, begin: int, end: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """An agent in a loop: eight calls a second with a context that has grown."""
    at = float(begin)
    while (at := at + rng.expovariate(8.0)) < end:
        after = int(at * SECOND)
        milliseconds = (start + after) // 1000
        yield (
            after,
            {
                "v": 1,
                "type": "call",
                "id": str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | rng.getrandbits(60))),
                "ts": milliseconds,
                "app": app,
                "model": MODEL,
                "provider": "openai",
                "user": user,
                "feature": "chat",
                "tokens": {"input": rng.randrange(6000, 14_000), "output": rng.randrange(50, 400)},
                "finish_reason": "stop",
                "guardrails": [{"name": GUARDRAIL, "stage": "input", "action": "pass"}],
            },
        )


def _at(start: int, seconds: int) -> int:
    return start + seconds * SECOND
