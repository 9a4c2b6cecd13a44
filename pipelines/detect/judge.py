"""The judgement of one partition of llm.rollups: it reads records in offset order and returns alerts. No clock, no I/O.

The live stage, the backtest and the tests all run ``slices``: the same records give the same alerts under the same ids.
One tick may close weeks of buckets. Its work is done in slices of bounded size; the state after every slice can be
written and read back, and the same record continues from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.alerts.compose import compose
from pipelines.alerts.incident import Incident, Transition
from pipelines.alerts.lifecycle import Timing
from pipelines.detect import totals
from pipelines.detect.app_judge import ALONE, TOGETHER, AppJudge, is_past
from pipelines.detect.detectors import DETECTORS, Detector
from pipelines.detect.isolation import DetectorError, Isolations
from pipelines.detect.items import GUARDRAIL, Batch, TickAt, parse
from pipelines.detect.kinds import is_counted
from pipelines.detect.partition_state import AppState, PartitionState, Pending
from pipelines.detect.windows import HIGH_CARDINALITY, LATENESS, MAX_SERIES, SLOT, Windows
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import OTHER, series_pairs

MAX_APPS = 1000
"""Per partition; an event may claim any app."""
SLICE = 50_000
"""Work of one slice: about 25 ms where nothing else runs. A bucket that closes by itself counts ALONE, in a stretch
TOGETHER; and every series of it counts one."""
IDLE_APP = 3_600_000_000
"""µs of event time without a call after which an app is removed for a new one, where there are MAX_APPS."""


@dataclass(frozen=True)
class Judge:
    """Detectors and the settings of the life cycle."""

    detectors: tuple[Detector, ...] = DETECTORS
    timing: Timing = field(default_factory=Timing)
    runbooks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    together: bool = True
    """Whether buckets without a finding are judged many at once: the alerts are the same."""
    isolations: Isolations | None = None
    """Detectors that are left out, by app and record."""

    @cached_property
    def _apps(self) -> AppJudge:
        return AppJudge(self.detectors, self.timing, self.together)

    def step(self, state: PartitionState, record: Record) -> tuple[PartitionState, list[Alert]]:
        """Move ``state`` over one record; a record it already covers changes nothing.

        The judge changes the state in place.
        """
        return state, [alert for alerts in self.slices(state, record) for alert in alerts]

    def slices(self, state: PartitionState, record: Record) -> Iterator[list[Alert]]:
        """Move ``state`` over one record in slices of bounded work; yield the alerts of each.

        At every yield ``state`` holds exactly what was yielded so far, and may be written down: the same record
        given to a copy of it continues from there. The position moves with the last slice.
        """
        if record.offset < state.position:
            return
        try:
            item = parse(record)
        except ValueError:
            state.poison += 1
            item = None
        if item is None:
            state.mark_judged(record.offset, record.kafka_time)
        else:
            yield from self.apply(state, record.offset, item, record.partition)

    def apply(
        self, state: PartitionState, offset: int, item: Batch | TickAt, partition: int = 0
    ) -> Iterator[list[Alert]]:
        """Move ``state`` over what one record holds; see ``slices``."""
        if isinstance(item, TickAt):
            yield from self._tick(state, partition, offset, item)
        else:
            self._add(state, partition, offset, item)
            state.mark_judged(offset, item.kafka_time)

    def run(self, records: Iterable[Record], state: PartitionState | None = None) -> Iterator[Alert]:
        """Judge records of one partition in offset order."""
        state = state or PartitionState()
        for record in records:
            for alerts in self.slices(state, record):
                yield from alerts

    def _add(self, state: PartitionState, partition: int, offset: int, batch: Batch) -> None:
        if batch.app not in state.apps:
            if len(state.apps) >= MAX_APPS and not _evict_app(state):
                state.crowded_out += 1
                return
            windows = Windows(batch.app)
            windows.place(windows.own, 0)
            state.apps[batch.app] = AppState(windows, {d.name: d.initial_state() for d in self.detectors})
        with self._judging(state, batch.app, partition, offset) as app:
            if app.windows.closed and _needs_learning(app.windows, batch):
                self._apps.learn(app)
                app.guard = None
            added = app.windows.add(batch, totals.watched(app.windows, app.life))
            totals.add(app.windows, app.life, added)

    def _tick(self, state: PartitionState, partition: int, offset: int, item: TickAt) -> Iterator[list[Alert]]:
        if state.pending is None or state.pending.offset != offset:
            state.clock.apply(item)
            state.pending = Pending(offset, look=state.clock.wall - state.judged >= 900_000)
        pending, alerts, work = state.pending, [], 0
        unchanged = (
            self._close_bounded(state, partition, offset) if self.together and pending.look else frozenset[str]()
        )
        for name in sorted(state.apps.keys() - unchanged):
            if pending.done is not None and name <= pending.done:
                continue
            with self._judging(state, name, partition, offset) as app:
                app.windows.lake_usd = state.highest_usd
                while app.windows.behind(state.clock.watermark):
                    late = is_past(app.windows.closed, state.clock.wall)
                    transitions, cost = self._apps.close(app, state.clock)
                    alerts += [self._compose(app, t, item.kafka_time, late=late) for t in transitions]
                    work += cost
                    if work >= SLICE:
                        yield alerts
                        alerts, work = [], 0
                if pending.look:
                    alerts += [
                        self._compose(app, t, item.kafka_time)
                        for t in self._apps.look(app, state.clock.wall, state.guards)
                    ]
                    work += ALONE + len(app.windows.series)
            state.highest_usd = max(state.highest_usd, app.cold_start.highest[-1])
            pending.done = name
            if work >= SLICE:
                yield alerts
                alerts, work = [], 0
        if pending.look:
            state.judged = state.clock.wall
        state.mark_judged(offset, item.kafka_time)
        yield alerts

    def _close_bounded(self, state: PartitionState, partition: int, offset: int) -> frozenset[str]:
        """Close the buckets of all apps that have bounds, and compare those at once.

        Returns:
            the apps in which nothing is found, and of which nothing else is due in this tick.
        """
        watermark, wall = state.clock.watermark - LATENESS - SLOT, state.clock.wall
        leaves_out = self.isolations is not None and self.isolations.all
        guarded, closing = [], []
        for name, app in state.apps.items():
            if leaves_out:
                self._leave_out(state, name, partition, offset)
            state.highest_usd = max(state.highest_usd, app.cold_start.highest[-1])
            if (guard := app.guard) is None:
                continue
            windows = app.windows
            if windows.moved is None:
                guard.void = True
            elif windows.closed > watermark:
                guarded.append((name, app, guard))
            elif not app.life.open:
                while windows.closed <= watermark and self._apps.may_defer(app, wall):
                    self._apps.defer(app, wall)
                closing.append(guard)
                if windows.closed > watermark:
                    guarded.append((name, app, guard))
        state.guards.look(closing)
        is_due = self._apps.is_due
        return frozenset(n for n, app, guard in guarded if not guard.void and not is_due(app, wall, found=guard.found))

    def learn(self, state: PartitionState) -> None:
        """Learn the buckets of all apps that have closed and are not learned yet."""
        for app in state.apps.values():
            self._apps.learn(app)

    def _compose(self, app: AppState, transition: Transition, kafka_time: int, *, late: bool = False) -> Alert:
        return compose(transition, app.windows, detected_at=kafka_time, runbooks=self.runbooks, late=late)

    @contextmanager
    def _judging(self, state: PartitionState, name: str, partition: int, offset: int) -> Iterator[AppState]:
        """The app ``name`` without the detectors that are left out; what a detector raises names the app."""
        app = state.apps[name]
        self._leave_out(state, name, partition, offset)
        try:
            yield app
        except DetectorError as error:
            error.app = error.app or name
            raise

    def _leave_out(self, state: PartitionState, name: str, partition: int, offset: int) -> None:
        """Set which detectors do not judge the app ``name`` at this record."""
        if self.isolations is not None and self.isolations.all:
            app, without = state.apps[name], self.isolations.without(state.topic, partition, offset, name)
            if without != app.without:
                app.without, app.guard = without, None


def judge(records: Iterable[Record], *, detectors: tuple[Detector, ...] = DETECTORS) -> Iterator[Alert]:
    """Alerts of one partition of llm.rollups, from its records in offset order, with the defaults."""
    return Judge(detectors).run(records)


def _needs_learning(windows: Windows, batch: Batch) -> bool:
    """Whether a batch changes closed buckets, or which series are judged: then closed buckets are learned before it."""
    cells = batch.cells
    if cells is not None and (cells.is_before(windows.closed) or not windows.side.index.keys() >= set(cells.names)):
        return True
    if bool((batch.starts < windows.closed).any()) or len(windows.series) + len(batch.series) > MAX_SERIES:
        return True
    if batch.triggers:
        known = {kind.removeprefix(GUARDRAIL) for kind in windows.kinds if kind.startswith(GUARDRAIL)}
        if OTHER not in known and any(name not in known for _, name, _, _ in batch.triggers):
            return True
    if any(kind not in windows.kinds and is_counted(windows.kinds, kind) for _, kind, _ in batch.signals):
        return True
    new = {name for name in batch.series if name not in windows.index}
    return any(not any(dimension in HIGH_CARDINALITY for dimension in series_pairs(name)) for name in new)


def _evict_app(state: PartitionState) -> bool:
    """Remove the app without a call for the longest time, if that is IDLE_APP or more and no incident of it is open."""
    quiet = [(int(app.windows.last[0]), name) for name, app in state.apps.items() if not app.life.open]
    last, name = min(quiet, default=(state.clock.watermark, ""))
    if last > state.clock.watermark - IDLE_APP:
        return False
    del state.apps[name]
    state.guards.remove([name])
    return True


__all__ = ["ALONE", "TOGETHER", "AppState", "Incident", "Judge", "PartitionState", "Pending", "judge"]
