"""Out of landed rollups: where the capsule of an alert begins and ends, and the state of the detectors before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipelines.detect import backtest
from pipelines.detect.clock import Clock
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from schemas.alerts import Alert

CONTEXT_US = 900_000_000
"""Event time before the beginning of an alert from which on the rollups are in its capsule."""


@dataclass
class Cut:
    """What was found of one alert in one partition of llm.rollups."""

    partition: int
    epoch: int
    first: int
    """Offset of the first record after ``state``."""
    state: bytes
    ends: dict[int, int] = field(default_factory=dict)
    """seq of the alert -> offset behind the record that raised it."""
    alerts: dict[int, Alert] = field(default_factory=dict)
    """seq -> state of the alert, as it was raised."""


def find_cut(
    query: backtest.Query,
    ranges: Sequence[backtest.OffsetRange],
    judge: Judge,
    wanted: Sequence[Alert],
    *,
    start: int,
    progress: Callable[[int], None] = lambda positions: None,
) -> Cut | None:
    """Judge what landed until every state of an alert was raised; None where it was not raised at all.

    Args:
        query: on the lake.
        ranges: of one partition, in the order of their epochs.
        judge: detectors and timing, as the live stage has them.
        wanted: the states of the alert.
        start: of its window, µs UTC.
        progress: called with the positions that were judged, now and then.
    """
    place = _first_tick_after(query, ranges, start - CONTEXT_US)
    if place is None:
        return None
    state, cut, last = PartitionState(), None, max(alert.seq for alert in wanted)
    for stretch in ranges:
        judge.learn(state)
        state.restart_at(stretch.first)
        if cut is not None:  # the topic was made again in the middle of it: what follows is another log
            return cut
        for first, upto in backtest.pages(query, stretch):
            for offset, item in backtest.items(query, stretch.partition, stretch.epoch, first, upto):
                if cut is None and (stretch.epoch, offset) >= place:
                    cut = Cut(stretch.partition, stretch.epoch, offset, dump(_of(state, wanted[0])))
                for alert in (a for alerts in judge.apply(state, offset, item) for a in alerts):
                    if cut is not None and alert.id == wanted[0].id:
                        cut.alerts[alert.seq], cut.ends[alert.seq] = alert, offset + 1
                if cut is not None and last in cut.ends:
                    return cut
            progress(upto - first)
    return cut if cut is not None and cut.alerts else None


def _of(state: PartitionState, alert: Alert) -> PartitionState:
    """Return a copy of ``state`` with the app of ``alert`` only; what is known of the whole partition stays."""
    copied = load(dump(state))
    copied.apps = {name: app for name, app in copied.apps.items() if name == alert.series["app"]}
    return copied


def _first_tick_after(
    query: backtest.Query, ranges: Sequence[backtest.OffsetRange], moment: int
) -> tuple[int, int] | None:
    """Return (epoch, offset) of the first tick that moves the watermark beyond ``moment``."""
    clock = Clock()
    for stretch in ranges:
        for first, upto in backtest.pages(query, stretch):
            for offset, tick in backtest.ticks(query, replace(stretch, first=first, upto=upto)):
                clock.apply(tick)
                if clock.watermark > moment:
                    return stretch.epoch, offset
    return None
