"""Whether exactly the planted incidents alerted: one firing and one resolved each, on the right series."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.alerts import Alert
from tailrace.demo.traffic import Incident

DETECTORS = {"cost_spike": "spike", "guardrail_surge": "surge", "topic_shift": "drift"}


def matches(incident: Incident, alert: Alert) -> bool:
    """Return whether ``alert`` is about ``incident``: its detector, its app and the dimension that was planted."""
    if alert.detector != DETECTORS[incident.kind] or alert.series.get("app") != incident.app:
        return False
    if incident.kind == "cost_spike":
        return alert.series.get("user") == incident.value
    if incident.kind == "guardrail_surge":
        return alert.series.get("guardrail") == incident.value
    return alert.series.get("side", "input") == "input"


def judge(incidents: Sequence[Incident], alerts: Sequence[Alert]) -> list[str]:
    """Return what is wrong, in words; empty = exactly the planted incidents alerted."""
    problems = []
    explained: set[str] = set()
    for incident in incidents:
        mine = [a for a in alerts if matches(incident, a)]
        explained |= {a.id for a in mine}
        for state in ("firing", "resolved"):
            count = sum(a.state == state for a in mine)
            if count != 1:
                problems.append(f"{incident.kind} on {incident.app} ({incident.value}): {count} x {state}, expected 1")
    problems += [
        f"not planted: {a.detector} {a.rule} {a.state} on {a.series}: {a.title}"
        for a in alerts
        if a.id not in explained
    ]
    return problems


def complete(incidents: Sequence[Incident], alerts: Sequence[Alert]) -> bool:
    """Return whether every incident has been resolved, so that waiting longer brings nothing."""
    return all(any(a.state == "resolved" and matches(i, a) for a in alerts) for i in incidents)
