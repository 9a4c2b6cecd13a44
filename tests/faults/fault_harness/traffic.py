"""Traffic with a delivery ledger: what the broker acknowledged, where, and what it must cost."""

import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import confluent_kafka as ck
import msgspec

MODEL = "fault-model"
INPUT_USD, OUTPUT_USD = Decimal("0.0000025"), Decimal("0.00001")
PRICES = [{"model": MODEL, "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"}]
"""A book of our own, so that the reference sum owes nothing to the code under test."""


@dataclass
class Sent:
    """What was acknowledged: (partition, offset) -> the id of a good event, None for a bad one."""

    positions: dict[tuple[int, int], str | None] = field(default_factory=dict)
    cost: dict[str, Decimal] = field(default_factory=dict)
    """id -> what it must cost."""
    unplaced: set[str] = field(default_factory=set)
    """Good ids that were acknowledged without an offset: sent again after a time-out, and known to the broker."""
    failed: int = 0

    @property
    def ids(self) -> set[str]:
        return {i for i in self.positions.values() if i} | self.unplaced

    @property
    def bad(self) -> int:
        return sum(i is None for i in self.positions.values())

    @property
    def usd(self) -> Decimal:
        """The sum over distinct ids: a duplicate costs nothing."""
        return sum((self.cost[i] for i in self.ids), Decimal(0))


def call(rng: random.Random | None = None, **fields: Any) -> dict[str, Any]:
    """Return a good call as it stands on the wire."""
    rng = rng or random.Random()
    event = {
        "v": 1,
        "type": "call",
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "ts": int(time.time() * 1000),
        "app": rng.choice(("shop", "desk")),
        "model": MODEL,
        "user": f"u{rng.randrange(50)}",
        "team": f"t{rng.randrange(4)}",
        "status": "ok",
        "tokens": {"input": rng.randrange(1, 4000), "output": rng.randrange(1, 900)},
        "latency": {"total_ms": rng.randrange(50, 4000)},
        "content": {"mode": "redacted", "input": [{"role": "user", "text": "where is my order?"}], "output": "soon"},
    }
    return {**event, **fields}


def cost(event: dict[str, Any]) -> Decimal:
    """What the book says this call costs."""
    tokens = event.get("tokens", {})
    return tokens.get("input", 0) * INPUT_USD + tokens.get("output", 0) * OUTPUT_USD


def past(seconds: int, apps: int, **fields: Any) -> Iterator[dict[str, Any]]:
    """A call a second of each app steady-0, steady-1 … until now, in the order of their time: what is usual."""
    draw, now = random.Random("past"), int(time.time() * 1000)
    for i in range(seconds):
        for app in range(apps):
            tokens = {"input": draw.randrange(300, 900), "output": draw.randrange(50, 250)}
            ts = now - (seconds - i) * 1000 + app * 1000 // apps
            yield call(random.Random(draw.getrandbits(32)), ts=ts, app=f"steady-{app}", tokens=tokens, **fields)


def spike(seed: int, count: int, app: int) -> Iterator[dict[str, Any]]:
    """Calls ten times as dear as those of the past of steady-``app``."""
    draw = random.Random(seed)
    for _ in range(count):
        tokens = {"input": draw.randrange(3000, 9000), "output": draw.randrange(500, 2500)}
        yield call(random.Random(draw.getrandbits(32)), app=f"steady-{app}", tokens=tokens)


class Traffic:
    """Produces to one topic and keeps the ledger. Acknowledged by all replicas, never doubled by a retry."""

    def __init__(self, bootstrap: str, topic: str, **settings: Any) -> None:
        self.topic, self.sent = topic, Sent()
        self._producer = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": 16 << 20,
                "log_level": 0,
                "queue.buffering.max.messages": 1_000_000,
                "partitioner": "murmur2_random",
                **settings,
            }
        )

    def send(self, event: dict[str, Any] | bytes, *, partition: int = -1, bad: bool = False) -> None:
        """Queue one event; ``bytes`` are taken as bad unless they parse to an object with an id and ``bad`` is off."""
        if isinstance(event, dict):
            value, name = msgspec.json.encode(event), str(event["id"])
            usd, key = cost(event), str(event.get("trace_id") or name).encode()
        else:
            value, name, usd, key = event, None, Decimal(0), None
        ledger_id = None if bad else name

        def acknowledged(error: ck.KafkaError | None, message: ck.Message) -> None:
            if error is not None:
                self.sent.failed += 1
                return
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                self.sent.positions[partition, offset] = ledger_id
            elif ledger_id is not None:
                self.sent.unplaced.add(ledger_id)
            if ledger_id is not None:
                self.sent.cost.setdefault(ledger_id, usd)

        while True:
            try:
                self._producer.produce(self.topic, value, key, partition, on_delivery=acknowledged)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def knows(self, partitions: int, within_s: float = 30) -> None:
        """Wait until the producer has seen so many partitions: it refuses those that it does not know."""
        end = time.monotonic() + within_s
        while len(self._producer.list_topics(self.topic, timeout=10).topics[self.topic].partitions) < partitions:
            assert time.monotonic() < end, f"{self.topic} has not {partitions} partitions within {within_s} s"
            time.sleep(0.1)

    def send_all(self, events: Iterable[dict[str, Any] | bytes], **how: Any) -> None:
        for event in events:
            self.send(event, **how)

    def good(self, count: int, rng: random.Random | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Send ``count`` new good calls and return them; does not wait."""
        events = [call(rng, **fields) for _ in range(count)]
        self.send_all(events)
        return events

    def flush(self, within_s: float = 60) -> None:
        left = self._producer.flush(within_s)
        assert left == 0, f"{left} events without an answer after {within_s} s"
        assert not self.sent.failed, f"{self.sent.failed} events were refused"


def raw(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()
