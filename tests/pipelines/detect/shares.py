"""One app whose calls have a share of something, as history: two days at 0.4 calls/s are judged in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from pipelines.detect.detectors.surge import Surge
from pipelines.detect.detectors.surge_state import BASES, KINDS
from pipelines.detect.items import COLUMN, COLUMNS, SLOT, Batch, TickAt
from pipelines.detect.judge import Judge, PartitionState
from schemas.alerts import Alert
from schemas.rollups import SourceTick, Tick, series_key
from tests.pipelines.detect.counts import HOUR, SECOND, T0, applied

OWN = series_key({"app": "bot"})[1]
Stretches = Sequence[tuple[float, float]]
"""(hours, share), one after the other from T0 on."""


@dataclass
class Shares:
    """Poisson arrivals at ``rate`` calls/s; every call counts as ``kind`` with the share of its time."""

    rate: float
    stretches: Stretches
    seed: int = 0
    kind: str = "truncated"

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, int(self.rate * 1000)])
        share = np.concatenate([np.full(int(hours * 360), p) for hours, p in self.stretches])
        self.calls = rng.poisson(self.rate * 10, len(share))
        self.hits = rng.binomial(self.calls, share)

    def played(
        self, judge: Judge | None = None, state: PartitionState | None = None, *, first: bool = False
    ) -> list[Alert]:
        """All alerts, an hour of history a tick; with ``first`` until there is one. ``state`` is moved along."""
        judge, state = judge or Judge(detectors=(Surge(),)), state or PartitionState()
        emitted = []
        for at in range(0, len(self.calls), 360):
            rows = at + np.flatnonzero(self.calls[at : at + 360])
            end = T0 + min(at + 360, len(self.calls)) * SLOT
            offset = state.position
            if len(rows):
                emitted += applied(judge, state, self._batch(rows, end + HOUR, offset + 1))
            tick = Tick(end + HOUR, {0: SourceTick(offset + 1, end + 3 * SECOND, end + HOUR, end + HOUR)})
            emitted += applied(judge, state, TickAt(tick, end + HOUR))
            if first and emitted:
                break
        return emitted

    def calls_until(self, at: str, since_h: float) -> int:
        """Calls from ``since_h`` hours after T0 until the event time ``at``."""
        until = int(datetime.fromisoformat(at).timestamp() * SECOND - T0) // SLOT
        return int(self.calls[int(since_h * 360) : until].sum())

    def _batch(self, rows: np.ndarray, wall: int, next_offset: int) -> Batch:
        sums = np.zeros((len(rows), len(COLUMNS)), np.int64)
        sums[:, COLUMN["calls"]] = self.calls[rows]
        sums[:, COLUMN[BASES.get(self.kind, "calls")]] = self.calls[rows]
        sums[:, COLUMN[self.kind]] = self.hits[rows]
        return Batch(
            app="bot",
            source=0,
            next_offset=next_offset,
            epoch=0,
            kafka_time=wall,
            series=[OWN] * len(rows),
            starts=T0 + rows * SLOT,
            sums=sums,
            triggers=[],
            exemplars=None,
        )


def learned(state: PartitionState, kind: str = "truncated") -> float:
    """The share that is normal for the app."""
    surge = state.apps["bot"].surge
    return float(surge.hits[0, KINDS.index(kind)] / surge.calls[0, KINDS.index(kind)])
