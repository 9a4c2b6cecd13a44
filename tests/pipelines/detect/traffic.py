"""Traffic made for the detectors: calls as decode hands them to meter, rolled up by meter's own function."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.decode import METERED
from pipelines.meter import wire
from pipelines.meter.plan import Plan
from pipelines.meter.rollup import roll_up
from schemas.records import Record
from schemas.rollups import H_KIND, SourceTick, Tick

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
T0 = 1_790_000_000 * SECOND // DAY * DAY + 14 * HOUR
"""Two in the afternoon: live begins."""
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli", "wayne")
_STRUCT = METERED.field("guardrails").type


def day_shape(time: np.ndarray | float) -> Any:
    return 1.0 + 0.5 * np.sin((np.asarray(time) / HOUR % 24 - 10) / 24 * 2 * math.pi)


PLAN = Plan(app=((), ("feature",), ("tenant",), ("model",), ("user",)), span=())


@dataclass
class App:
    """One app: calls a second, and how bursty it is (sigma of a log-normal factor a minute)."""

    name: str = "bot"
    rate: float = 2.0
    features: tuple[float, ...] = (0.75, 0.25)
    users: int = 300
    cost: float = 0.002
    sigma: float = 0.5
    burst: float = 0.0
    triggers: float = 0.012
    guardrails: tuple[str, ...] = ("pii", "injection")
    cycle: float = 1.0
    """Depth of the daily shape."""


@dataclass
class Incident:
    """Something planted: a runaway ``user`` with ``rate`` calls/s, a ``factor`` on all, a guardrail's ``share``."""

    start: int
    end: int
    user: str = ""
    rate: float = 0.0
    context: float = 9.0
    factor: float = 1.0
    guardrail: str = ""
    share: float = 0.0
    action: str = "flag"
    feature: str = ""
    slow: float = 1.0
    """Factor on the latency and the time to the first token."""
    uncached: bool = False
    """Whether nothing is read from the cache."""
    bloat: float = 1.0
    """Factor on the input tokens and the cost."""
    price: float = 1.0
    """Factor on the cost alone."""
    app: str = ""
    """Of which app; empty = of all, a ``user`` of the first."""


@dataclass
class Stream:
    """A reproducible stream of calls, and what detect would read of it."""

    seed: int = 0
    apps: tuple[App, ...] = (App(),)
    incidents: tuple[Incident, ...] = ()
    partitions: int = 2
    offsets: dict[int, int] = field(default_factory=dict)
    rollup_offset: int = 0
    now: int = T0
    """When history was read."""
    sources: dict[int, SourceTick] = field(default_factory=dict)

    def records(self, start: int, end: int, *, live: bool, batch_s: float = 1.0) -> Iterator[Record]:
        """Records of one rollups partition. History (not ``live``) is all read at T0, faster than it was lived."""
        step = int(batch_s * SECOND)
        for low in range(start, end, step):
            high = min(low + step, end)
            wall = high + SECOND // 2 if live else max(self.now, end)
            for partition, calls in self._calls(low, high).items():
                yield from self._rollups(partition, calls, wall)
            yield self._tick(wall)

    def idle(self, start: int, seconds: int, *, every_s: int = 1) -> Iterator[Record]:
        """Only ticks."""
        for i in range(0, seconds, every_s):
            yield self._tick(start + i * SECOND)

    def _tick(self, wall: int) -> Record:
        value = Tick(wall=wall, sources=dict(self.sources)).to_json()
        return self._record(b"*", value, ((H_KIND, b"tick"),), wall)

    def _record(self, key: bytes, value: bytes, headers: Any, wall: int) -> Record:
        self.rollup_offset += 1
        return Record("llm.rollups", 0, self.rollup_offset - 1, wall, key, value, headers)

    def _rollups(self, partition: int, calls: pa.Table, wall: int) -> Iterator[Record]:
        start = self.offsets.get(partition, 0)
        span = wire.Span(partition, start, start + len(calls), "p1")
        self.offsets[partition] = span.end
        top = int(calls["ts"].cast(pa.int64()).to_numpy().max())
        old = self.sources.get(partition)
        self.sources[partition] = SourceTick(span.end, max(top, old.max_ts if old else 0), wall, wall)
        for (_, app), table in roll_up(calls, PLAN).items():
            for message in wire.messages(span, app, table, epoch=0):
                yield self._record(message.key, message.value, message.headers, wall)

    def _calls(self, low: int, high: int) -> dict[int, pa.Table]:
        rng = np.random.default_rng([self.seed, low // 1000 % 2**32])
        parts = [self._base(rng, app, low, high) for app in self.apps]
        parts += [self._runaway(rng, i, low, high) for i in self.incidents if i.user and i.start < high and i.end > low]
        columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        order = np.argsort(columns["ts"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        home = np.array([int(u.rsplit("-", 1)[1]) if u[-1].isdigit() else 0 for u in columns["user"]]) % self.partitions
        return {
            p: self._table(rng, {n: v[home == p] for n, v in columns.items()}, p)
            for p in range(self.partitions)
            if (home == p).any()
        }

    def _table(self, rng: np.random.Generator, columns: dict[str, np.ndarray], partition: int) -> pa.Table:
        size = len(columns["ts"])
        first = self.offsets.get(partition, 0)
        ids = [str(uuid.UUID(int=(partition << 64) + first + i)) for i in range(size)]
        full: dict[str, Any] = {name: columns.get(name, [None] * size) for name in METERED.names}
        full |= {"id": ids, "_offset": np.arange(first, first + size), "_partition": np.full(size, partition)}
        full |= {"_epoch": np.zeros(size), "_kafka_time": columns["ts"], "retrieval": np.zeros(size, bool)}
        full |= {"cost_status": ["computed"] * size, "price_version": ["p1"] * size, "skewed": np.zeros(size, bool)}
        full["cost_nanousd"] = (columns["cost"] * 1e9).astype(np.int64)
        full["guardrails"] = pa.array(columns["guardrails"].tolist(), _STRUCT)
        arrays = [
            pa.array(full[f.name]).cast(f.type) if f.name != "guardrails" else full["guardrails"] for f in METERED
        ]
        return pa.table(arrays, schema=METERED)

    def _base(self, rng: np.random.Generator, app: App, low: int, high: int) -> dict[str, np.ndarray]:
        mine = [i for i in self.incidents if i.start < high and i.end > low and not i.user and i.app in ("", app.name)]
        times = []
        minute = 60 * SECOND
        for at in range(low // minute * minute, high, minute):
            begin, end = max(at, low), min(at + minute, high)
            shape = 1 + app.cycle * (day_shape(begin) - 1)
            draw = np.random.default_rng([self.seed, at // minute, len(app.name)])
            burst = math.exp(draw.normal(-(app.burst**2) / 2, app.burst)) if app.burst else 1.0
            factor = math.prod(i.factor for i in mine if i.start <= begin < i.end)
            size = rng.poisson(app.rate * shape * burst * factor * (end - begin) / SECOND)
            times.append(rng.integers(begin, end, size))
        ts = np.concatenate(times)
        users = (app.users * rng.random(len(ts)) ** 2).astype(int)
        guards = [self._checks(rng, app, mine, int(t)) for t in ts]
        shaped = self._shaped(rng, app, ts, users, guards, 1.0)
        for i in mine:
            within = (ts >= i.start) & (ts < i.end)
            shaped["input_tokens"] = np.where(within, i.bloat * shaped["input_tokens"], shaped["input_tokens"])
            shaped["cost"] = np.where(within, i.bloat * i.price * shaped["cost"], shaped["cost"])
        shaped["input_tokens"] = shaped["input_tokens"].astype(np.int64)
        return shaped | self._served(mine, shaped)

    def _served(self, mine: list[Incident], calls: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """How long calls take and what the cache serves; drawn apart, so that the other numbers stay what they are."""
        ts = calls["ts"]
        rng = np.random.default_rng([self.seed, 77, int(ts[0]) % 2**32 if len(ts) else 0])
        slow, cached = np.ones(len(ts)), np.where(rng.random(len(ts)) < 0.6, rng.beta(4.0, 2.4, len(ts)), 0.0)
        for i in mine:
            within = (ts >= i.start) & (ts < i.end)
            slow[within] *= i.slow
            cached[within & i.uncached] = 0.0
        read = (cached * calls["input_tokens"]).astype(np.int64)
        return {
            "latency_ms": (400 + 12 * calls["output_tokens"]) * slow * rng.lognormal(0, 0.25, len(ts)),
            "ttft_ms": 300 * slow * rng.lognormal(0, 0.4, len(ts)),
            "cache_read_tokens": read,
            "cache_saved_nanousd": read * 2000,
        }

    def _runaway(self, rng: np.random.Generator, i: Incident, low: int, high: int) -> dict[str, np.ndarray]:
        low, high = max(low, i.start), min(high, i.end)
        app = next((app for app in self.apps if app.name == i.app), self.apps[0])
        size = rng.poisson(i.rate * (high - low) / SECOND)
        users = np.full(size, int(i.user.rsplit("-", 1)[1]))
        guards = [self._checks(rng, app, [], t) for t in range(size)]
        shaped = self._shaped(rng, app, rng.integers(low, high, size), users, guards, i.context)
        return shaped | self._served([], shaped)

    def _shaped(
        self, rng: np.random.Generator, app: App, ts: np.ndarray, users: np.ndarray, guards: list[Any], context: float
    ) -> dict[str, np.ndarray]:
        size = len(ts)
        names = [f"f{k}" for k in range(len(app.features))]
        weight = rng.lognormal(0, app.sigma, size) * context
        model = rng.choice(["small", "large"], size, p=[0.8, 0.2])
        checks = np.empty(size, object)
        checks[:] = guards
        blocked = np.array([any(g["action"] == "block" for g in c) for c in checks], bool)
        return {
            "ts": ts,
            "app": np.full(size, app.name, object),
            "feature": rng.choice(names, size, p=app.features).astype(object),
            "model": model.astype(object),
            "tenant": np.array([TENANTS[u % len(TENANTS)] for u in users], object),
            "user": np.array([f"u-{u}" for u in users], object),
            "status": np.where(blocked, "blocked", np.where(rng.random(size) < 0.006, "error", "ok")).astype(object),
            "cost": app.cost * weight * np.where(model == "large", 10.0, 1.0),
            "input_tokens": (600 * weight).astype(np.int64),
            "output_tokens": rng.integers(50, 300, size),
            "guardrails": checks,
        }

    def _checks(self, rng: np.random.Generator, app: App, mine: list[Incident], t: int) -> list[dict[str, str]]:
        out = []
        for name in app.guardrails:
            surge = next((i for i in mine if i.guardrail == name and i.start <= t < i.end), None)
            draw = rng.random()
            if surge and draw < surge.share:
                out.append({"name": name, "action": surge.action})
            elif draw < app.triggers:
                out.append({"name": name, "action": "flag"})
        return out
