"""One app with latencies and cache reads, as history in slots of ten seconds: what the tests of a minute read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.detect.detectors import Detector
from pipelines.detect.items import COLUMN, COLUMNS, SLOT, Batch, TickAt
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.side import CODE, PER_CALL, TTFT, Cells, is_minute_only
from schemas.alerts import Alert
from schemas.rollups import BUCKET_GAMMA, CALL_GAMMA, SourceTick, Tick, series_key
from tests.pipelines.detect.counts import HOUR, SECOND, T0, applied

OWN = series_key({"app": "bot"})[1]


def series(**pairs: str) -> str:
    """The series of the app ``bot`` with ``pairs``."""
    return series_key({"app": "bot", **pairs})[1]


@dataclass
class Calls:
    """Calls of one slot; arrays are (calls,)."""

    below: Sequence[str]
    """Series below the app, of each call one."""
    input: np.ndarray
    output: np.ndarray
    cached: np.ndarray
    latency: np.ndarray
    ttft: np.ndarray
    usd: np.ndarray | None = None
    """Cost of each call; None = not known."""


Make = Callable[[np.random.Generator, float, int], Calls]
"""(draws, hours since T0, number of calls) -> the calls of a slot."""


def play(
    make: Make, hours: float, detector: Detector, *, rate: float, usd_per_token: float | None = 1e-6
) -> list[Alert]:
    """Return the alerts of ``hours`` of history at ``rate`` calls a second; an hour is judged at a time."""
    draws, judge, state, found = np.random.default_rng(5), Judge((detector,)), PartitionState(), []
    slots = int(hours * 360)
    for first in range(0, slots, 360):
        end = T0 + min(first + 360, slots) * SLOT
        rows: list[tuple[str, int, np.ndarray]] = []
        for slot in range(first, min(first + 360, slots)):
            if count := int(draws.poisson(rate * 10)):
                calls = make(draws, slot / 360, count)
                for name in (OWN, *dict.fromkeys(calls.below)):
                    mine = np.ones(count, bool) if name == OWN else np.array([b == name for b in calls.below])
                    rows.append((name, T0 + slot * SLOT, _cells(calls, mine, usd_per_token)))
        offset = state.position
        found += applied(judge, state, _batch(rows, end + HOUR, offset + 1))
        tick = Tick(end + HOUR, {0: SourceTick(offset + 1, end + 3 * SECOND, end + HOUR, end + HOUR)})
        found += applied(judge, state, TickAt(tick, end + HOUR))
    return found


def _cells(calls: Calls, mine: np.ndarray, usd_per_token: float | None) -> np.ndarray:
    count, read = int(mine.sum()), int(calls.cached[mine].sum())
    cells = [
        (CODE["calls"], count),
        (CODE["input_tokens"], int(calls.input[mine].sum())),
        (CODE["output_tokens"], int(calls.output[mine].sum())),
        (CODE["cache_read_tokens"], read),
    ]
    if usd_per_token is not None:
        cells += [(CODE["cache_saved_nanousd"], round(read * usd_per_token * 1e9)), (CODE["saved_known_calls"], count)]
    for first, times in ((0, calls.latency), (TTFT, calls.ttft)):
        buckets = np.ceil(np.log(np.maximum(times[mine], 1.0)) / np.log(BUCKET_GAMMA)).astype(int)
        cells += [(first + bucket, 1) for bucket in buckets.tolist()]
    each = {"call_tokens": (calls.input + calls.output)[mine]}
    if calls.usd is not None:
        each["call_cost"] = np.round(1e9 * calls.usd[mine])
        cells.append((CODE["cost_nanousd"], int(each["call_cost"].sum())))
    for name, values in each.items():
        buckets = np.ceil(np.log(values[values > 0]) / np.log(CALL_GAMMA)).astype(int)
        cells += [(PER_CALL[name] + bucket, 1) for bucket in buckets.tolist()]
    return np.array(cells, np.int64)


def _batch(rows: list[tuple[str, int, np.ndarray]], wall: int, next_offset: int) -> Batch:
    names = list(dict.fromkeys(name for name, _, _ in rows))
    judged = [(name, start, cells) for name, start, cells in rows if not is_minute_only(name)]
    sums = np.zeros((len(judged), len(COLUMNS)), np.int64)
    sums[:, COLUMN["calls"]] = [int(cells[0, 1]) for _, _, cells in judged]
    beside = [np.column_stack([np.full(len(cells), names.index(name)), cells]) for name, _, cells in rows]
    return Batch(
        app="bot",
        source=0,
        next_offset=next_offset,
        epoch=0,
        kafka_time=wall,
        series=[name for name, _, _ in judged],
        starts=np.array([start for _, start, _ in judged], np.int64),
        sums=sums,
        triggers=[],
        cells=Cells(
            names,
            np.concatenate([np.full(len(cells), start) for _, start, cells in rows]),
            np.concatenate(beside),
        ),
    )
