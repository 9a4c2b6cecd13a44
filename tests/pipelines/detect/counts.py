"""Traffic as counts per slot, made for the judge itself: an hour at 1,000 calls/s costs no more than one at 0.01."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.detectors.ceiling import SingleCallLimit
from pipelines.detect.exemplars import Exemplars
from pipelines.detect.items import COLUMN, COLUMNS, SLOT, Batch, TickAt
from pipelines.detect.judge import Judge, PartitionState
from schemas.alerts import Alert
from schemas.rollups import SourceTick, Tick, series_key

SECOND = 1_000_000
HOUR = 3600 * SECOND
T0 = 1_790_000_000 * SECOND // (24 * HOUR) * 24 * HOUR + 6 * HOUR
_OVER_LIMIT = 12_000_000_000
"""nano-USD of a single call."""
KINDS = ("loop", "tenfold", "dear_calls", "truncated", "blocked", "over_limit")
USERS = 12
Counts = NDArray[np.int64]


@dataclass
class Traffic:
    """One app with ``rate`` calls/s; from T0 on for ``hours`` something of ``kind`` is out of the ordinary."""

    kind: str
    rate: float
    hours: float
    seed: int = 0
    shape: float | None = None
    """Shape of the gamma distributed gaps between calls; None = Poisson arrivals. 0.1 is very bursty."""
    usd: float = 0.0
    """Mean cost of a call; 0 = such that an hour costs 30 USD."""
    history_h: float = 3.0
    """Hours before T0 of what is normal; longer where 400 calls take longer."""
    rng: np.random.Generator = field(init=False)
    next_offset: int = 0
    held: dict[str, Counts] = field(default_factory=dict)
    """Arrivals drawn and not yet handed out."""

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, int(self.rate * 1000), KINDS.index(self.kind)])
        self.usd = self.usd or 30 / 3600 / self.rate

    @property
    def end(self) -> int:
        """When the incident is over, µs UTC."""
        return T0 + int(self.hours * HOUR) // SLOT * SLOT

    def learn(self, judge: Judge, state: PartitionState) -> list[Alert]:
        """What is normal: at least ``history_h`` and 400 calls, read as history at T0."""
        slots = max(int(self.history_h * 360), int(400 / self.rate / 10))
        starts = T0 - np.arange(slots, 0, -1) * SLOT
        emitted = []
        for part in np.array_split(starts, max(1, slots // 360)):
            emitted += applied(judge, state, self._batch(part, T0))
            emitted += applied(judge, state, self._tick(int(part[-1]) + SLOT, T0 - SECOND))
        return emitted

    def live(self, until: int, *, ticks: int = 1) -> Iterator[Batch | TickAt]:
        """Slot by slot from T0; so many ``ticks`` a slot, the first 2.5 s after its end."""
        for start in range(T0, until, SLOT):
            wall = start + SLOT + 2_500_000
            batch = self._batch(np.array([start]), wall)
            if batch.series:
                yield batch
            for at in range(wall, wall + SLOT, SLOT // ticks):
                yield self._tick(at, at)

    def arrivals(self, slots: int, rate: float) -> Counts:
        """Calls per slot."""
        if self.shape is None or rate >= 50:
            return self.rng.poisson(rate * 10, slots)
        gaps = self.rng.gamma(self.shape, 1 / (rate * self.shape), int(rate * slots * 10 * 1.5 + 200)).cumsum()
        return np.bincount((gaps[gaps < slots * 10] / 10).astype(int), minlength=slots)[:slots]

    def _tick(self, at: int, wall: int) -> TickAt:
        return TickAt(Tick(wall, {0: SourceTick(self.next_offset, at, wall, wall)}), wall)

    def _batch(self, starts: Counts, wall: int) -> Batch:
        rows: dict[tuple[str, int], Counts] = {}
        expensive: list[tuple[int, int]] = []
        normal = self._drawn("normal", starts, self.rate)
        for start, calls in zip(starts.tolist(), normal, strict=True):
            on = T0 <= start < self.end
            self._add(rows, start, int(calls), on)
            if on and self.kind == "over_limit":
                expensive += [(start, _OVER_LIMIT)] * self.rng.binomial(int(calls), 0.3)
        if self.kind == "loop":
            on = starts[(starts >= T0) & (starts < self.end)]
            for start, calls in zip(on.tolist(), self._drawn("loop", on, max(self.rate, 0.3)), strict=True):
                self._row(rows, start, int(calls), ("user", "u-loop"), cost=max(self.usd, 0.05))
        own = series_key({"app": "bot"})[1]
        for start, cost in expensive:  # the sum of a row holds the calls that it shows
            rows[own, start][COLUMN["cost_nanousd"]] += cost
        return self._made(rows, expensive, wall)

    def _drawn(self, name: str, starts: Counts, rate: float) -> Counts:
        """The next arrivals of one process, whatever the length of the batches they come in."""
        if self.kind == "tenfold":
            inside = (starts >= T0) & (starts < self.end)
            return np.where(inside, self._take("tenfold", len(starts), 10 * rate), self._take(name, len(starts), rate))
        return self._take(name, len(starts), rate)

    def _take(self, name: str, slots: int, rate: float) -> Counts:
        held = self.held.get(name, np.zeros(0, np.int64))
        if len(held) < slots:
            held = np.concatenate([held, self.arrivals(slots + 3600, rate)])
        self.held[name] = held[slots:]
        return held[:slots]

    def _add(self, rows: dict[tuple[str, int], Counts], start: int, calls: int, on: bool) -> None:
        for user, count in enumerate(self.rng.multinomial(calls, [1 / USERS] * USERS).tolist()):
            cost = self.usd * (4.0 if on and self.kind == "dear_calls" else 1.0)
            self._row(rows, start, count, ("user", f"u-{user}"), cost=cost, on=on)

    def _row(
        self,
        rows: dict[tuple[str, int], Counts],
        start: int,
        calls: int,
        user: tuple[str, str],
        *,
        cost: float,
        on: bool = False,
    ) -> None:
        if not calls:
            return
        sums = np.zeros(len(COLUMNS), np.int64)
        weight = (
            self.rng.lognormal(-0.125, 0.5, calls).sum()
            if calls < 500
            else calls * self.rng.normal(1, 0.5 / calls**0.5)
        )
        sums[COLUMN["calls"]] = calls
        sums[COLUMN["cost_nanousd"]] = int(weight * cost * 1e9)
        sums[COLUMN["tokens"]] = int(weight * 800)
        sums[COLUMN["truncated"]] = self.rng.binomial(calls, 0.06 if on and self.kind == "truncated" else 0.01)
        sums[COLUMN["blocked"]] = self.rng.binomial(calls, 0.4 if on and self.kind == "blocked" else 0.01)
        feature = ("feature", "chat" if user[1] != "u-1" else "search")
        for pairs in ({}, dict([feature]), dict([user])):
            name = series_key({"app": "bot", **pairs})[1]
            rows[name, start] = rows.get((name, start), 0) + sums

    def _made(self, rows: dict[tuple[str, int], Counts], expensive: list[tuple[int, int]], wall: int) -> Batch:
        keys = list(rows)
        own = series_key({"app": "bot"})[1]
        self.next_offset += 1
        return Batch(
            app="bot",
            source=0,
            next_offset=self.next_offset,
            epoch=0,
            kafka_time=wall,
            series=[name for name, _ in keys],
            starts=np.array([start for _, start in keys], np.int64),
            sums=np.array([rows[key] for key in keys], np.int64).reshape(len(keys), len(COLUMNS)),
            triggers=[],
            exemplars=_shown([(keys.index((own, slot)), value) for slot, value in expensive]),
        )


def played(traffic: Traffic, *, after_h: float, judge: Judge | None = None) -> tuple[list[Alert], PartitionState]:
    """All alerts of ``traffic``, from T0 until ``after_h`` hours after its incident."""
    # a run of calls over the limit is also a spike of cost, which would be a second incident
    detectors = (SingleCallLimit(),) if traffic.kind == "over_limit" else DETECTORS
    judge, state = judge or Judge(detectors), PartitionState()
    emitted = traffic.learn(judge, state)
    for item in traffic.live(traffic.end + int(after_h * HOUR)):
        emitted += applied(judge, state, item)
    return emitted, state


def _shown(expensive: list[tuple[int, int]]) -> Exemplars | None:
    """(row, cost) of calls as exemplars; what makes them different is their place in the list."""
    if not expensive:
        return None
    rows, values = np.array(expensive, np.int64).T
    ids = pa.array([f"call-{i}" for i in range(len(expensive))])
    return Exemplars(rows, np.zeros(len(rows), np.int64), ["cost"], values, ids, np.arange(len(rows)))


def applied(judge: Judge, state: PartitionState, item: Batch | TickAt) -> list[Alert]:
    """Alerts of one record."""
    return [alert for alerts in judge.apply(state, state.position, item) for alert in alerts]
