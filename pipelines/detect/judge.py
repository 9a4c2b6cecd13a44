"""The judgement of one partition of llm.rollups: records in offset order in, alerts out. No clock, no I/O.

The live stage, the backtest and the tests all run ``slices``: the same records give the same alerts under the same ids.
One tick may close weeks of buckets. Its work is done in slices of bounded size; the state after every slice can be
written and read back, and the same record goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from msgspec.structs import replace

from pipelines.alerts.compose import compose
from pipelines.alerts.finding import Finding
from pipelines.alerts.lifecycle import Incident, Lifecycle, Timing, Transition, advance
from pipelines.alerts.recovery import absorb, step
from pipelines.detect import totals
from pipelines.detect.bounds import MOST, Ahead, is_in_ring
from pipelines.detect.clock import Clock
from pipelines.detect.detectors import DETECTORS, Detector, View
from pipelines.detect.detectors.cache_state import CacheState
from pipelines.detect.detectors.ceiling import CeilingState
from pipelines.detect.detectors.cold_start import ColdStartState
from pipelines.detect.detectors.latency_state import LatencyState
from pipelines.detect.detectors.spike import SpikeState
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.guards import Guard, Guards
from pipelines.detect.isolation import DetectorError, Isolations, learned
from pipelines.detect.items import GUARDRAIL, Batch, TickAt, parse
from pipelines.detect.stretch import ALIGNED, stretch
from pipelines.detect.windows import LATENESS, MAX_SERIES, RING, SLOT, WIDE, Windows
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import OTHER, series_pairs

LIVE = 60_000_000
"""µs: slots older than this by the wall are history; they are judged as they close and not while they are open."""
MAX_APPS = 1000
"""Per partition; an event may claim any app."""
SLICE = 50_000
"""Work of one slice: about 25 ms where nothing else runs. A bucket that closes by itself counts ALONE, in a stretch
TOGETHER; and every series of it counts one."""
ALONE, TOGETHER, DEFERRED = 5_000, 100, 100
NAMING = 3
"""Buckets after which the causes of open incidents are looked for again."""
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
    deferred: int = 0
    """Buckets that have closed last and are not learned yet: they are learned many at once."""
    cold_start: ColdStartState = field(default_factory=ColdStartState)
    cache: CacheState = field(default_factory=CacheState)
    latency: LatencyState = field(default_factory=LatencyState)

    def __post_init__(self) -> None:
        self.most = ALIGNED
        """Buckets to judge together next: fewer where something was found. Nothing depends on it but time."""
        self.guard: Guard | None = None
        """By which a look at open buckets is spared. Nothing depends on it but time."""
        self.without: frozenset[str] = frozenset()
        """Detectors that are left out at the record that is judged; see ``pipelines.detect.isolation``."""


@dataclass
class Pending:
    """What is done of a tick that is not judged to its end."""

    offset: int
    """Of the tick."""
    look: bool
    """Whether open slots are judged too."""
    done: str | None = None
    """Last app, in the order of names, that is judged up to this tick."""


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
    pending: Pending | None = None
    """The record at ``position``, where a part of it is in this state."""
    highest_usd: float = 0.0
    """Highest spend of any app so far, USD per slot in five minutes."""

    def __post_init__(self) -> None:
        self.guards = Guards()
        """Bounds of all apps, by which looks are spared. Nothing depends on them but time."""

    def event_time(self) -> int | None:
        """Event time up to which every app is judged, µs UTC; None before anything was closed."""
        done = self.pending.done if self.pending else None
        behind = [a.windows.closed for name, a in self.apps.items() if done is None or name > done]
        return min([t for t in behind if t] if self.pending else [], default=self.clock.watermark) or None

    def pass_over(self, offset: int, kafka_time: int) -> None:
        """Note that the record at ``offset`` is judged to its end."""
        self.position, self.at, self.pending = offset + 1, kafka_time, None

    def begin_again(self, position: int) -> None:
        """Go on at ``position`` of a topic that was made anew, or lost its end.

        Slots that have closed stay closed; the sums of the last minutes, which would be added to once more, are made
        again from what is there.
        """
        self.position, self.at, self.pending = position, 0, None
        for app in self.apps.values():
            windows = app.windows
            totals.take_back(windows, app.life)
            windows.begin_again()
            app.deferred, app.guard = 0, None


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

    def step(self, state: PartitionState, record: Record) -> tuple[PartitionState, list[Alert]]:
        """Move ``state`` over one record; a record it already covers changes nothing.

        The state handed in belongs to the judge from then on.
        """
        return state, [alert for alerts in self.slices(state, record) for alert in alerts]

    def slices(self, state: PartitionState, record: Record) -> Iterator[list[Alert]]:
        """Move ``state`` over one record in slices of bounded work; yield the alerts of each.

        At every yield ``state`` holds exactly what was yielded so far, and may be written down: the same record
        handed to a copy of it goes on from there. The position moves with the last slice.
        """
        if record.offset < state.position:
            return
        try:
            item = parse(record)
        except ValueError:
            state.poison += 1
            item = None
        if item is None:
            state.pass_over(record.offset, record.kafka_time)
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
            state.pass_over(offset, item.kafka_time)

    def run(self, records: Iterable[Record], state: PartitionState | None = None) -> Iterator[Alert]:
        """Judge records of one partition in offset order."""
        state = state or PartitionState()
        for record in records:
            for alerts in self.slices(state, record):
                yield from alerts

    def _add(self, state: PartitionState, partition: int, offset: int, batch: Batch) -> None:
        if batch.app not in state.apps:
            if len(state.apps) >= MAX_APPS and not _make_room(state):
                state.crowded_out += 1
                return
            windows = Windows(batch.app)
            windows.place(windows.own, 0)
            state.apps[batch.app] = AppState(windows, SpikeState(), SurgeState(), CeilingState())
        with self._judging(state, batch.app, partition, offset) as app:
            if app.windows.closed and _disturbs(app.windows, batch):
                self._learn(app)
                app.guard = None
            added = app.windows.add(batch, totals.watched(app.windows, app.life))
            totals.add(app.windows, app.life, added)

    def _tick(self, state: PartitionState, partition: int, offset: int, item: TickAt) -> Iterator[list[Alert]]:
        if state.pending is None or state.pending.offset != offset:
            state.clock.hear(item)
            state.pending = Pending(offset, look=state.clock.wall - state.judged >= 900_000)
        pending, alerts, work = state.pending, [], 0
        settled = self._settle(state, partition, offset) if self.together and pending.look else frozenset[str]()
        for name in sorted(state.apps.keys() - settled):
            if pending.done is not None and name <= pending.done:
                continue
            with self._judging(state, name, partition, offset) as app:
                app.windows.lake_usd = state.highest_usd
                while app.windows.behind(state.clock.watermark):
                    late = _is_past(app.windows.closed, state.clock.wall)
                    transitions, cost = self._close(app, state.clock)
                    alerts += [self._compose(app, t, item.kafka_time, late=late) for t in transitions]
                    work += cost
                    if work >= SLICE:
                        yield alerts
                        alerts, work = [], 0
                if pending.look:
                    alerts += [self._compose(app, t, item.kafka_time) for t in self._look(app, state)]
                    work += ALONE + len(app.windows.series)
            state.highest_usd = max(state.highest_usd, app.cold_start.highest[-1])
            pending.done = name
            if work >= SLICE:
                yield alerts
                alerts, work = [], 0
        if pending.look:
            state.judged = state.clock.wall
        state.pass_over(offset, item.kafka_time)
        yield alerts

    def _settle(self, state: PartitionState, partition: int, offset: int) -> frozenset[str]:
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
                guarded.append((name, app.life, guard))
            elif not app.life.open:
                while windows.closed <= watermark and self._may_defer(app, wall):
                    self._defer(app, wall)
                closing.append(guard)
                if windows.closed > watermark:
                    guarded.append((name, app.life, guard))
        state.guards.look(closing)
        return frozenset(
            name
            for name, life, guard in guarded
            if not guard.void and (wall - guard.until > LIVE or not (guard.found or _has_alerts(life)))
        )

    def _close(self, app: AppState, clock: Clock) -> tuple[list[Transition], int]:
        """Close the next slot, or as many as can be judged together; return the work it was, too."""
        windows = app.windows
        if self.together and self._may_defer(app, clock.wall):
            return self._defer(app, clock.wall), DEFERRED
        self._learn(app)
        if not app.life.open and (gap := windows.gap(clock.watermark)):
            windows.closed, app.guard = windows.closed + gap * SLOT, None
            for detector in self._of(app):
                self._put(app, detector, detector.idle(self._get(app, detector), gap))
            return [], ALONE
        if app.life.open or windows.reused or not self.together:
            return self._close_one(app, clock)
        buckets = stretch(windows, 0, clock.watermark, app.most)
        scans = [detector.scan(self._get(app, detector), buckets) for detector in self._of(app)]
        count = min((scan.quiet for scan in scans), default=buckets.count)
        app.most = min(2 * app.most, ALIGNED) if count else 1
        work = ALONE + buckets.count * (TOGETHER + len(windows.series))
        if not count:
            transitions, cost = self._close_one(app, clock)
            return transitions, work + cost
        for detector, scan in zip(self._of(app), scans, strict=True):
            self._put(app, detector, learned(detector, scan, count))
        totals.count(windows, app.life, buckets.first, buckets.first + count * SLOT)
        windows.close_all(count)
        past = min(count, max(0, (clock.wall - LIVE - 1 - buckets.first) // SLOT))
        if past:
            at = buckets.first + past * SLOT
            advance(app.life, [], wall=clock.wall, at=at, recovered={}, timing=self.timing)
        return [], work

    def _close_one(self, app: AppState, clock: Clock) -> tuple[list[Transition], int]:
        windows = app.windows
        slot = windows.closed
        leaving = windows.close()
        totals.count(windows, app.life, slot, slot + SLOT)
        view = View(windows, 0, slot + SLOT, closed=slot, leaving=leaving)
        transitions = self._judge(app, clock.wall, view, ring=_is_past(slot, clock.wall))
        return transitions, ALONE + len(windows.series)

    def _look(self, app: AppState, state: PartitionState) -> list[Transition]:
        """Judge the open slots of an app that is not in the past."""
        until, wall = app.windows.latest(), state.clock.wall
        if wall - until > LIVE:
            return []
        if self.together and self._is_quiet(app, until, state.guards):
            return self._advance(app, [], wall, until, {}) if _has_alerts(app.life) else []
        self._learn(app)
        return self._judge(app, wall, View(app.windows, 0, until))

    def _is_quiet(self, app: AppState, until: int, guards: Guards) -> bool:
        """Whether a look cannot find anything, by the bounds of all detectors."""
        if app.windows.reused:
            return False
        guard = app.guard
        if guard is not None:
            guards.look([guard])
        if guard is None or guard.void:
            self._learn(app)
            count = min(MOST, -(app.windows.closed // SLOT) % ALIGNED)  # then surge may learn
            ahead = Ahead(app.windows, 0, until, count, _open(app.life))
            app.guard = guard = guards.put(ahead, [d.bound(self._get(app, d), ahead) for d in self._of(app)])
        return not guard.found

    def _may_defer(self, app: AppState, wall: int) -> bool:
        """Whether the next bucket may close without being learned: nothing that is found in it would be emitted."""
        windows, slot = app.windows, app.windows.closed
        if app.deferred >= MOST or _is_past(slot, wall) or windows.reused or not is_in_ring(windows):
            return False
        for incident in app.life.open.values():
            detector = self._by_name(app, incident.finding.detector)
            if detector and not detector.has_steady_terms(self._get(app, detector), incident.finding, slot):
                return False
        return True

    def _defer(self, app: AppState, wall: int) -> list[Transition]:
        """Close the next bucket of the present without learning; test whether open incidents are over."""
        windows, slot = app.windows, app.windows.closed
        totals.count(windows, app.life, slot, slot + SLOT)
        windows.closed += SLOT
        app.deferred += 1
        if not app.life.open:
            return []
        view = View(windows, 0, slot + SLOT, closed=slot)
        recovered = self._recovered(app, view, slot)
        self._name_causes(app, view)
        return self._only_recovered(app, wall, view.until, recovered) if recovered else []

    def learn(self, state: PartitionState) -> None:
        """Learn the buckets of all apps that have closed and are not learned yet."""
        for app in state.apps.values():
            self._learn(app)

    def _learn(self, app: AppState, open_: Mapping[str, int] | None = None) -> None:
        """Learn the buckets that have closed last, while incidents of the families ``open_`` were open."""
        windows, until = app.windows, app.windows.closed
        if app.deferred and open_ is None:
            open_ = _open(app.life)
        while app.deferred:
            windows.closed = until - app.deferred * SLOT
            buckets = stretch(windows, 0, until + LATENESS, app.deferred, open_ or {})
            scans = [detector.scan(self._get(app, detector), buckets) for detector in self._of(app)]
            count = min((scan.quiet for scan in scans), default=buckets.count)
            if count:
                for detector, scan in zip(self._of(app), scans, strict=True):
                    self._put(app, detector, learned(detector, scan, count))
                windows.close_all(count)
            else:  # it is known to be without consequence: only what is learned differs
                slot = windows.closed
                leaving = windows.close()
                self._step(app, View(windows, 0, slot + SLOT, closed=slot, leaving=leaving, open=dict(open_ or {})))
            app.deferred -= max(count, 1)
            windows.closed = until

    def _step(self, app: AppState, view: View) -> list[Finding]:
        findings: list[Finding] = []
        for detector in self._of(app):
            state, found = detector.step(self._get(app, detector), view)
            self._put(app, detector, state)
            findings += [f for f in found if all(f.family != known.family for known in findings)]
        app.windows.reused.clear()
        return findings

    def _judge(self, app: AppState, wall: int, view: View, *, ring: bool = True) -> list[Transition]:
        view.open |= _open(app.life)
        findings = self._step(app, view)
        if view.closed is None and not findings and app.guard is not None:
            app.guard.found = app.guard.always  # until something moves, the next look would find nothing either
        recovered = self._recovered(app, view, view.closed) if view.closed is not None else {}
        if view.closed is not None and view.closed // SLOT % NAMING == 0:
            self._name_causes(app, view)
        if ring:
            return self._advance(app, findings, wall, view.until, recovered)
        return self._only_recovered(app, wall, view.until, recovered) if recovered else []

    def _only_recovered(self, app: AppState, wall: int, at: int, recovered: dict[str, int]) -> list[Transition]:
        """End incidents; whatever else is found in a bucket that closes in the present was looked at before."""
        held = dict(app.life.held)
        emitted = self._advance(app, [], wall, at, recovered)
        app.life.held = held
        return emitted

    def _advance(
        self, app: AppState, findings: list[Finding], wall: int, at: int, recovered: dict[str, int]
    ) -> list[Transition]:
        open_ = _open(app.life) if app.deferred else {}
        emitted = advance(app.life, findings, wall=wall, at=at, recovered=recovered, timing=self.timing)
        if any(transition.state == "resolved" for transition in emitted):
            self._learn(app, open_)  # while it was open; then its detector forgets it
        for transition in emitted:
            self._moved(app, transition, at)
            app.guard = None
        return emitted

    def _name_causes(self, app: AppState, view: View) -> None:
        """Look for the causes of open incidents again; where they are clearer now, an update is due."""
        for incident in app.life.open.values():
            detector = self._by_name(app, incident.finding.detector)
            if clearer := getattr(detector, "clearer", None):
                found: Finding | None = clearer(self._get(app, cast("Detector", detector)), view, incident.finding)
                if found is not None:
                    incident.finding, incident.told = found, 0

    def _recovered(self, app: AppState, view: View, slot: int) -> dict[str, int]:
        """Family -> end, of the open incidents that are over by what the slot that has just closed adds."""
        over = {}
        for family, incident in app.life.open.items():
            detector = self._by_name(app, incident.finding.detector)
            if detector and (end := self._test(app, detector, view, incident, slot)):
                over[family] = end
        return over

    def _test(self, app: AppState, detector: Detector, view: View, incident: Incident, slot: int) -> int:
        """Test ``slot``; slots that closed before the alarm, or before a reopening, belong to the incident."""
        windows, recovery, finding = app.windows, incident.recovery, incident.finding
        since = max(recovery.until or finding.start, windows.closed - RING * SLOT)
        if since > slot:  # it began in a slot that is still open
            return 0
        terms, buckets = detector.observe(self._get(app, detector), view, finding, since, slot + SLOT)
        for i, bucket in enumerate(buckets[:-1]):
            absorb(recovery, terms, bucket, since + (i + 1) * SLOT)
        incident.emitted_excess = incident.emitted_excess or recovery.excess
        end = step(recovery, terms, buckets[-1], slot, slot + SLOT, self.timing.recovery)
        place = windows.index.get(finding.target)
        incident.count_after(windows.row(place, slot, slot + SLOT) if place is not None else (), slot)
        if finding.target != windows.own and self._goes_on_in_app(app, detector, view, incident, since, over=bool(end)):
            return 0
        return end

    def _goes_on_in_app(
        self, app: AppState, detector: Detector, view: View, incident: Incident, since: int, *, over: bool
    ) -> bool:
        """Tally the app's own series beside that of the incident; where only that is over, it is one of the app."""
        state, whole, until = self._get(app, detector), incident.whole, incident.recovery.until
        finding = detector.about_app(state, view, incident.finding)
        terms, buckets = detector.observe(state, view, finding, since, until)
        whole.absorb(terms, buckets, incident.recovery)
        if not over or not whole.goes_on(terms, self.timing.recovery):
            return False
        incident.widen(finding, until)
        return True

    def _moved(self, app: AppState, transition: Transition, at: int) -> None:
        """Begin to count what a new incident costs; let its detector forget one that is over."""
        finding, incident = transition.finding, transition.incident
        if transition.state == "firing" and not incident.seq:
            totals.begin(app.windows, app.life.open[finding.family])
        elif transition.state == "resolved":
            if transition.accepted and finding.learning:
                app.windows.first = at  # nothing was learned of it so far: spike waits until it has seen what is normal
            for detector in self._of(app):
                shares = getattr(detector, "shares", ())
                for family in (finding.family, *incident.followers):
                    also = shares if family == finding.family else (*shares, *getattr(detector, "follows", ()))
                    if detector.name != finding.detector and family not in also:
                        continue
                    over = replace(finding, family=family)
                    state = detector.on_resolved(self._get(app, detector), over, finding.end, at)
                    self._put(app, detector, state)

    def _compose(self, app: AppState, transition: Transition, kafka_time: int, *, late: bool = False) -> Alert:
        return compose(transition, app.windows, detected_at=kafka_time, runbooks=self.runbooks, late=late)

    def _of(self, app: AppState) -> tuple[Detector, ...]:
        """The detectors that judge ``app`` at this record."""
        return tuple(d for d in self.detectors if d.name not in app.without) if app.without else self.detectors

    def _by_name(self, app: AppState, name: str) -> Detector | None:
        return next((d for d in self._of(app) if d.name == name), None)

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

    def _get(self, app: AppState, detector: Detector) -> object:
        return getattr(app, detector.name)

    def _put(self, app: AppState, detector: Detector, state: object) -> None:
        setattr(app, detector.name, state)


def judge(records: Iterable[Record], *, detectors: tuple[Detector, ...] = DETECTORS) -> Iterator[Alert]:
    """Alerts of one partition of llm.rollups, from its records in offset order, with the defaults."""
    return Judge(detectors).run(records)


def _open(life: Lifecycle) -> dict[str, int]:
    """Family of every open incident, those that follow included -> its start."""
    return {f: i.finding.start for family, i in life.open.items() for f in (family, *i.followers)}


def _has_alerts(life: Lifecycle) -> bool:
    """Whether time alone may change anything."""
    return bool(life.open or life.closed or life.held)


def _disturbs(windows: Windows, batch: Batch) -> bool:
    """Whether a batch changes closed buckets, or what is judged: then what is not learned yet is learned before."""
    known = {kind.removeprefix(GUARDRAIL) for kind in windows.kinds}
    if bool((batch.starts < windows.closed).any()) or len(windows.series) + len(batch.series) > MAX_SERIES:
        return True
    if OTHER not in known and any(name not in known for _, name, _, _ in batch.triggers):
        return True
    new = set(batch.series) - windows.index.keys()
    return any(not any(dimension in WIDE for dimension in series_pairs(name)) for name in new)


def _is_past(slot: int, wall: int) -> bool:
    """Whether a slot was history when it closed: what is found in it is late."""
    return wall - slot - SLOT > LIVE


def _make_room(state: PartitionState) -> bool:
    """Let go of the app that was silent for longest, if it was for long enough and nothing of it is open."""
    quiet = [(int(app.windows.last[0]), name) for name, app in state.apps.items() if not app.life.open]
    last, name = min(quiet, default=(state.clock.watermark, ""))
    if last > state.clock.watermark - SILENT:
        return False
    del state.apps[name]
    state.guards.forget([name])
    return True


__all__ = ["AppState", "Incident", "Judge", "PartitionState", "judge"]
