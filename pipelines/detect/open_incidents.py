"""Tests after each closed bucket whether the open incidents of its app are over, and updates their causes."""

from __future__ import annotations

from msgspec.structs import replace

from pipelines.alerts.finding import Finding
from pipelines.alerts.incident import Incident, Transition
from pipelines.alerts.recovery import RecoveryConfig, absorb, step
from pipelines.detect import totals
from pipelines.detect.detectors import Detector, View
from pipelines.detect.partition_state import AppState
from pipelines.detect.windows import RING, SLOT

Detectors = tuple[Detector, ...]


def name_causes(detectors: Detectors, app: AppState, view: View) -> None:
    """Look for the causes of open incidents again; where they are clearer now, an update is due."""
    for incident in app.life.open.values():
        detector = by_name(detectors, app, incident.finding.detector)
        if detector and (clearer := getattr(detector, "clearer", None)):
            found: Finding | None = clearer(app.get(detector), view, incident.finding)
            if found is not None:
                incident.finding, incident.emitted_at = found, 0


def recovered(detectors: Detectors, app: AppState, view: View, config: RecoveryConfig) -> dict[str, int]:
    """Family -> end, of the open incidents that are over by what the slot that has just closed adds."""
    over = {}
    for family, incident in app.life.open.items():
        detector = by_name(detectors, app, incident.finding.detector)
        if detector and (end := _test(app, detector, view, incident, config=config)):
            over[family] = end
    return over


def _test(app: AppState, detector: Detector, view: View, incident: Incident, *, config: RecoveryConfig) -> int:
    """Test the slot that has closed; earlier ones, before the alarm or a reopening, belong to the incident."""
    windows, recovery, finding, slot = app.windows, incident.recovery, incident.finding, view.until - SLOT
    reach = getattr(detector, "reach", RING * SLOT)  # how long before now its slots are kept, µs
    since = max(recovery.until or finding.start, windows.closed - reach)
    if since > slot:  # it began in a slot that is still open
        return 0
    terms, buckets = detector.observe(app.get(detector), view, finding, since, slot + SLOT)
    for i, bucket in enumerate(buckets[:-1]):
        absorb(recovery, terms, bucket, since + (i + 1) * SLOT)
    incident.emitted_excess = incident.emitted_excess or recovery.excess
    end = step(recovery, terms, buckets[-1], slot, slot + SLOT, config)
    place = windows.index.get(finding.target)
    incident.count_after(windows.row(place, slot, slot + SLOT) if place is not None else (), slot)
    if finding.target != windows.own and _goes_on_in_app(
        app, detector, view, incident, since=since, over=bool(end), config=config
    ):
        return 0
    return end


def _goes_on_in_app(
    app: AppState,
    detector: Detector,
    view: View,
    incident: Incident,
    *,
    since: int,
    over: bool,
    config: RecoveryConfig,
) -> bool:
    """Update the tally of the app's own series; return whether the incident goes on in the app.

    If the series of the incident has recovered and the app has not, the
    incident becomes one of the app.
    """
    state, whole, until = app.get(detector), incident.whole, incident.recovery.until
    finding = detector.about_app(state, view, incident.finding)
    terms, buckets = detector.observe(state, view, finding, since, until)
    whole.absorb(terms, buckets, incident.recovery)
    if not over or not whole.goes_on(terms, config):
        return False
    incident.widen(finding, until)
    return True


def on_transition(detectors: Detectors, app: AppState, transition: Transition, at: int) -> None:
    """Start the totals of a new incident; reset the evidence of detectors for one that is resolved."""
    finding, incident = transition.finding, transition.incident
    if transition.state == "firing" and not incident.seq:
        totals.begin(app.windows, app.life.open[finding.family])
    elif transition.state == "resolved":
        if transition.accepted and finding.learning:
            app.windows.first = at  # nothing was learned of it so far: the warm-up of spike starts again
        for detector in app.judged_by(detectors):
            shares = getattr(detector, "shares", ())
            for family in (finding.family, *incident.followers):
                also = shares if family == finding.family else (*shares, *getattr(detector, "follows", ()))
                if detector.name != finding.detector and family not in also:
                    continue
                over = replace(finding, family=family)
                state = detector.on_resolved(app.get(detector), over, finding.end, at)
                app.put(detector, state)


def by_name(detectors: Detectors, app: AppState, name: str) -> Detector | None:
    """The detector ``name``, where it judges ``app`` at this record."""
    return next((d for d in app.judged_by(detectors) if d.name == name), None)
