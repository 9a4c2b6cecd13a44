"""The judgement of one app: buckets that close, one by one or many at once, and looks at open ones. Pure.

While a bucket is of the present, alerts come from looks at it before it closes. So it may close without being learned
(``defer``): it is learned later, together with others, and before anything depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.alerts.finding import Finding
from pipelines.alerts.incident import Transition
from pipelines.alerts.lifecycle import Timing, advance, may_change
from pipelines.detect import open_incidents, totals
from pipelines.detect.bounds import BOUND_BUCKETS, Ahead, is_in_ring
from pipelines.detect.clock import Clock
from pipelines.detect.detectors import DETECTORS, Detector, View
from pipelines.detect.guards import Guards
from pipelines.detect.isolation import learned
from pipelines.detect.partition_state import AppState
from pipelines.detect.stretch import ALIGNED, Stretch, stretch
from pipelines.detect.windows import LATENESS, SLOT

LIVE = 60_000_000
"""µs of wall time after which a slot is history: it is judged when it closes, and not while it is open."""
ALONE, TOGETHER, DEFERRED = 5_000, 100, 100
"""Work of a bucket that closes by itself, in a stretch, and without being learned; see ``pipelines.detect.judge``."""
NAMING = 3
"""Buckets after which the causes of open incidents are looked for again."""


@dataclass(frozen=True)
class AppJudge:
    """Detectors and the settings of the life cycle."""

    detectors: tuple[Detector, ...] = DETECTORS
    timing: Timing = field(default_factory=Timing)
    together: bool = True
    """Whether buckets without a finding are judged many at once: the alerts are the same."""

    def close(self, app: AppState, clock: Clock) -> tuple[list[Transition], int]:
        """Close the next slot, or as many as can be judged together; return the work it was, too."""
        windows = app.windows
        if self.together and self.may_defer(app, clock.wall):
            return self.defer(app, clock.wall), DEFERRED
        self.learn(app)
        if not app.life.open and (gap := windows.gap(clock.watermark)):
            windows.closed, app.guard = windows.closed + gap * SLOT, None
            for detector in app.judged_by(self.detectors):
                app.put(detector, detector.idle(app.get(detector), gap))
            return [], ALONE
        if app.life.open or windows.reused or not self.together:
            return self._close_one(app, clock)
        buckets = stretch(windows, 0, clock.watermark, app.most)
        scans = [detector.scan(app.get(detector), buckets) for detector in app.judged_by(self.detectors)]
        count = min((scan.quiet for scan in scans), default=buckets.count)
        app.most = min(2 * app.most, ALIGNED) if count else 1
        work = ALONE + buckets.count * (TOGETHER + len(windows.series))
        if not count:
            transitions, cost = self._close_one(app, clock)
            return transitions, work + cost
        for detector, scan in zip(app.judged_by(self.detectors), scans, strict=True):
            app.put(detector, learned(detector, scan, count))
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
        evicted = windows.close()
        totals.count(windows, app.life, slot, slot + SLOT)
        view = View(windows, 0, slot + SLOT, closed=slot, evicted=evicted)
        transitions = self._judge(app, clock.wall, view, may_fire=is_past(slot, clock.wall))
        return transitions, ALONE + len(windows.series)

    def look(self, app: AppState, wall: int, guards: Guards) -> list[Transition]:
        """Judge the open slots of an app that is not in the past."""
        until = app.windows.latest()
        if wall - until > LIVE:
            return []
        if self.together and self._is_quiet(app, until, guards):
            return self._advance(app, [], wall, until, {}) if self.is_due(app, wall, found=False) else []
        self.learn(app)
        return self._judge(app, wall, View(app.windows, 0, until))

    def is_due(self, app: AppState, wall: int, *, found: bool) -> bool:
        """Whether a look at the open buckets of ``app`` may change anything; ``found``: by its bounds it may."""
        life = app.life
        if not (found or life.open or life.closed or life.held):
            return False
        until = app.windows.latest()
        return wall - until <= LIVE and (found or may_change(life, wall=wall, at=until, timing=self.timing))

    def _is_quiet(self, app: AppState, until: int, guards: Guards) -> bool:
        """Whether a look cannot find anything, by the bounds of all detectors."""
        if app.windows.reused:
            return False
        guard = app.guard
        if guard is not None:
            guards.look([guard])
        if guard is None or guard.void:
            self.learn(app)
            count = min(BOUND_BUCKETS, -(app.windows.closed // SLOT) % ALIGNED)  # then surge may learn
            ahead = Ahead(app.windows, 0, until, count, app.families())
            bounds = {d.name: d.bound(app.get(d), ahead) for d in app.judged_by(self.detectors)}
            app.guard = guard = guards.put(ahead, bounds)
        return not guard.found

    def may_defer(self, app: AppState, wall: int) -> bool:
        """Whether the next bucket may close without being learned: nothing that is found in it would be emitted."""
        windows, slot = app.windows, app.windows.closed
        if app.deferred >= BOUND_BUCKETS or is_past(slot, wall) or windows.reused or not is_in_ring(windows):
            return False
        for incident in app.life.open.values():
            detector = open_incidents.by_name(self.detectors, app, incident.finding.detector)
            if detector and not detector.has_steady_terms(app.get(detector), incident.finding, slot):
                return False
        return True

    def defer(self, app: AppState, wall: int) -> list[Transition]:
        """Close the next bucket of the present without learning; test whether open incidents are over."""
        windows, slot = app.windows, app.windows.closed
        totals.count(windows, app.life, slot, slot + SLOT)
        windows.closed += SLOT
        app.deferred += 1
        if not app.life.open:
            return []
        view = View(windows, 0, slot + SLOT, closed=slot)
        recovered = self._recovered(app, view)
        self._name_causes(app, view, slot)
        return self._only_recovered(app, wall, view.until, recovered) if recovered else []

    def learn(self, app: AppState, open_: Mapping[str, int] | None = None) -> None:
        """Learn the buckets that have closed last, while incidents of the families ``open_`` were open."""
        windows, until = app.windows, app.windows.closed
        if app.deferred and open_ is None:
            open_ = app.families()
        trials, alone = app.guard.trials if app.guard else {}, False
        while app.deferred:
            slot = windows.closed = until - app.deferred * SLOT
            count = 0
            if not alone:
                buckets = stretch(windows, 0, until + LATENESS, app.deferred, open_ or {}, trials)
                count = self._learn_together(app, buckets)
            if not count:  # what is found here would not be emitted: only the learned state matters
                evicted = windows.close()
                view = View(windows, 0, slot + SLOT, closed=slot, evicted=evicted, open=dict(open_ or {}))
                alone = bool(self._step(app, view))  # what is found in one bucket is mostly found in the next one
            app.deferred -= max(count, 1)
            windows.closed = until

    def _learn_together(self, app: AppState, buckets: Stretch) -> int:
        """Learn the first buckets in which nothing is found; return how many."""
        scans = [detector.scan(app.get(detector), buckets) for detector in app.judged_by(self.detectors)]
        count = min((scan.quiet for scan in scans), default=buckets.count)
        if count:
            for detector, scan in zip(app.judged_by(self.detectors), scans, strict=True):
                app.put(detector, learned(detector, scan, count))
            app.windows.close_all(count)
        return count

    def _step(self, app: AppState, view: View) -> list[Finding]:
        findings: list[Finding] = []
        for detector in app.judged_by(self.detectors):
            state, found = detector.step(app.get(detector), view)
            app.put(detector, state)
            findings += [f for f in found if all(f.family != known.family for known in findings)]
        app.windows.reused.clear()
        return findings

    def _judge(self, app: AppState, wall: int, view: View, *, may_fire: bool = True) -> list[Transition]:
        view.open |= app.families()
        findings = self._step(app, view)
        if view.closed is None and not findings and app.guard is not None:
            app.guard.found = app.guard.always  # until a row is added, the next look would find nothing either
        recovered = self._recovered(app, view) if view.closed is not None else {}
        if view.closed is not None:
            self._name_causes(app, view, view.closed)
        if may_fire:
            return self._advance(app, findings, wall, view.until, recovered)
        return self._only_recovered(app, wall, view.until, recovered) if recovered else []

    def _only_recovered(self, app: AppState, wall: int, at: int, recovered: dict[str, int]) -> list[Transition]:
        """End incidents. Other findings in a bucket that closes in the present were judged while it was open."""
        held = dict(app.life.held)
        emitted = self._advance(app, [], wall, at, recovered)
        app.life.held = held
        return emitted

    def _advance(
        self, app: AppState, findings: list[Finding], wall: int, at: int, recovered: dict[str, int]
    ) -> list[Transition]:
        families = app.families()
        open_ = families if app.deferred else {}
        emitted = advance(app.life, findings, wall=wall, at=at, recovered=recovered, timing=self.timing)
        if any(transition.state == "resolved" for transition in emitted):
            self.learn(app, open_)  # as while it was open; after this its detector drops its evidence
        for transition in emitted:
            open_incidents.on_transition(self.detectors, app, transition, at)
            if transition.state != "update":
                app.guard = None
        if app.families() != families:  # a family that is attached to an incident has no other finding
            app.guard = None
        return emitted

    def _name_causes(self, app: AppState, view: View, slot: int) -> None:
        if slot // SLOT % NAMING == 0:
            open_incidents.name_causes(self.detectors, app, view)

    def _recovered(self, app: AppState, view: View) -> dict[str, int]:
        return open_incidents.recovered(self.detectors, app, view, self.timing.recovery)


def is_past(slot: int, wall: int) -> bool:
    """Whether a slot was history when it closed: what is found in it is late."""
    return wall - slot - SLOT > LIVE
