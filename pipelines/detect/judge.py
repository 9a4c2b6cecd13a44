"""The judgement of one partition of llm.rollups: records in offset order in, alerts out. No clock, no I/O.

The live stage, the backtest and the tests all run ``step``: the same records give the same alerts under the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from pipelines.alerts.compose import compose
from pipelines.alerts.lifecycle import Incident, Lifecycle, Timing, Transition, advance
from pipelines.detect.clock import Clock
from pipelines.detect.detectors import DETECTORS, Detector, View
from pipelines.detect.detectors.ceiling import CeilingState
from pipelines.detect.detectors.spike import SpikeState
from pipelines.detect.detectors.surge import SurgeState
from pipelines.detect.items import Batch, TickAt, parse
from pipelines.detect.windows import LATENESS, SLOT, Windows
from schemas.alerts import Alert
from schemas.records import Record

LIVE = 60_000_000
"""µs: slots older than this by the wall are history; they are judged as they close and not while they are open."""
MAX_APPS = 1000
"""Per partition; an event may claim any app."""
SILENT = 3_600_000_000
"""µs of event time after which an app gives its place to a new one, where all are taken."""


@dataclass
class AppState:
    """All that is known of one app."""

    windows: Windows
    spike: SpikeState
    surge: SurgeState
    ceiling: CeilingState
    life: Lifecycle = field(default_factory=Lifecycle)


@dataclass
class PartitionState:
    """All that is known of one partition of llm.rollups, true up to ``position``."""

    position: int = 0
    """Next offset of llm.rollups."""
    topic: str = ""
    """The broker's id of that topic; empty where nobody asked."""
    at: int = 0
    """Kafka's time of the record before ``position``, µs UTC: another record stands there where the log was cut."""
    clock: Clock = field(default_factory=Clock)
    apps: dict[str, AppState] = field(default_factory=dict)
    judged: int = 0
    """Wall time of the last look at open slots, µs UTC."""
    poison: int = 0
    """Records that were neither rollup nor tick."""
    crowded_out: int = 0
    """Rollups of apps beyond MAX_APPS."""

    def begin_again(self, position: int) -> None:
        """Go on at ``position`` of a topic that was made anew, or lost its end.

        Slots that have closed stay closed; the sums of the last minutes, which would be added to once more, are made
        again from what is there.
        """
        self.position, self.at = position, 0
        for app in self.apps.values():
            windows = app.windows
            for incident in app.life.open.values():
                place = windows.index.get(incident.finding.target)
                if place is not None:
                    held = windows.total(incident.finding.start, windows.latest())[place]
                    for column in incident.total:
                        incident.total[column] -= int(held[column]) if column < len(held) else 0
            windows.slots.clear()


@dataclass(frozen=True)
class Judge:
    """Detectors and the settings of the life cycle."""

    detectors: tuple[Detector, ...] = DETECTORS
    timing: Timing = field(default_factory=Timing)
    runbooks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def step(self, state: PartitionState, record: Record) -> tuple[PartitionState, list[Alert]]:
        """Move ``state`` over one record; a record it already covers changes nothing.

        The state handed in belongs to the judge from then on.
        """
        if record.offset < state.position:
            return state, []
        state.position, state.at = record.offset + 1, record.kafka_time
        try:
            item = parse(record)
        except ValueError:
            state.poison += 1
            return state, []
        return state, self.take(state, item)

    def take(self, state: PartitionState, item: Batch | TickAt | None) -> list[Alert]:
        """Move ``state`` over what one record says; its position is the caller's."""
        if isinstance(item, Batch):
            self._hear(state, item)
        elif item is not None:
            return self._tick(state, item)
        return []

    def run(self, records: Iterable[Record], state: PartitionState | None = None) -> Iterator[Alert]:
        """Judge records of one partition in offset order."""
        state = state or PartitionState()
        for record in records:
            state, alerts = self.step(state, record)
            yield from alerts

    def _hear(self, state: PartitionState, batch: Batch) -> None:
        if batch.app not in state.apps:
            if len(state.apps) >= MAX_APPS and not _make_room(state):
                state.crowded_out += 1
                return
            windows = Windows(batch.app)
            windows.place(windows.own, 0)
            state.apps[batch.app] = AppState(windows, SpikeState(), SurgeState(), CeilingState())
        app = state.apps[batch.app]
        added = app.windows.add(batch)
        for incident in app.life.open.values():
            for name, start, sums in added:
                if name == incident.finding.target and start >= incident.finding.start:
                    for column in incident.total:
                        incident.total[column] += int(sums[column]) if column < len(sums) else 0

    def _tick(self, state: PartitionState, item: TickAt) -> list[Alert]:
        state.clock.hear(item)
        look = state.clock.wall - state.judged >= 900_000
        alerts: list[Alert] = []
        for name in sorted(state.apps):
            app = state.apps[name]
            told = self._close(app, state.clock)
            if look and state.clock.wall - app.windows.latest() <= LIVE:
                told += self._judge(app, state.clock.wall, View(app.windows, 0, app.windows.latest()))
            alerts += [self._compose(app, t, item.kafka_time) for t in told]
        if look:
            state.judged = state.clock.wall
        return alerts

    def _close(self, app: AppState, clock: Clock) -> list[Transition]:
        """Close every slot that the watermark has passed."""
        windows = app.windows
        told: list[Transition] = []
        while windows.closed and windows.closed + SLOT + LATENESS <= clock.watermark:
            if not app.life.open and (gap := windows.gap(clock.watermark)):
                windows.closed += gap * SLOT
                for detector in self.detectors:
                    self._put(app, detector, detector.idle(self._get(app, detector), gap))
                continue
            slot = windows.closed
            leaving = windows.close()
            view = View(windows, 0, slot + SLOT, closed=slot, leaving=leaving)
            told += self._judge(app, clock.wall, view, ring=clock.wall - slot - SLOT > LIVE)
        return told

    def _judge(self, app: AppState, wall: int, view: View, *, ring: bool = True) -> list[Transition]:
        for family, incident in app.life.open.items():
            view.open |= dict.fromkeys([family, *incident.followers], incident.finding.start)
        findings = []
        for detector in self.detectors:
            state, found = detector.step(self._get(app, detector), view)
            self._put(app, detector, state)
            findings += found
        app.windows.reused.clear()
        calm = self._calm(app, view) if view.closed is not None else {}
        if not ring and not calm:
            return []
        held = dict(app.life.held)
        told = advance(app.life, findings if ring else [], wall=wall, at=view.until, calm=calm, timing=self.timing)
        if not ring:
            app.life.held = held
        for transition in told:
            self._moved(app, transition)
        return told

    def _calm(self, app: AppState, view: View) -> dict[str, int]:
        over = {}
        for family, incident in app.life.open.items():
            detector = self._by_name(incident.finding.detector)
            if detector and (end := detector.calm(self._get(app, detector), view, incident.finding)):
                over[family] = end
        return over

    def _moved(self, app: AppState, transition: Transition) -> None:
        """Begin to count what a new incident costs; let its detector forget one that is over."""
        finding, windows = transition.finding, app.windows
        if transition.state == "firing":
            place = windows.index[finding.target]
            sums = windows.total(finding.start, windows.latest())[place]
            app.life.open[finding.family].total = {i: int(sums[i]) for i in range(len(sums))}
        elif transition.state == "resolved" and (detector := self._by_name(finding.detector)):
            for family in (finding.family, *transition.incident.followers):
                over = replace(finding, family=family)
                self._put(app, detector, detector.settle(self._get(app, detector), over, finding.end))

    def _compose(self, app: AppState, transition: Transition, kafka_time: int) -> Alert:
        return compose(transition, app.windows, detected_at=kafka_time, runbooks=self.runbooks)

    def _by_name(self, name: str) -> Detector | None:
        return next((d for d in self.detectors if d.name == name), None)

    def _get(self, app: AppState, detector: Detector) -> object:
        return getattr(app, detector.name)

    def _put(self, app: AppState, detector: Detector, state: object) -> None:
        setattr(app, detector.name, state)


def judge(records: Iterable[Record], *, detectors: tuple[Detector, ...] = DETECTORS) -> Iterator[Alert]:
    """Alerts of one partition of llm.rollups, from its records in offset order, with the defaults."""
    return Judge(detectors).run(records)


def _make_room(state: PartitionState) -> bool:
    """Let go of the app that was silent for longest, if it was for long enough and nothing of it is open."""
    quiet = [(app.windows.last[0], name) for name, app in state.apps.items() if not app.life.open]
    last, name = min(quiet, default=(state.clock.watermark, ""))
    if last > state.clock.watermark - SILENT:
        return False
    del state.apps[name]
    return True


__all__ = ["AppState", "Incident", "Judge", "PartitionState", "judge"]
