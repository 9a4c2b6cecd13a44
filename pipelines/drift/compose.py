"""A state change of a drift incident as an alert."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pipelines.alerts.runbook import filled
from pipelines.drift.incident import RULES, Incident, Shift
from schemas.alerts import Alert, Evidence, Impact, Window, fingerprint

STEPS = (
    "Read the texts (`tailrace alerts show ALERT_ID`): a new use, a campaign, an attack, or a bug that repeats?",
    "A new client or feature: check that prompt, retrieval and guardrails fit it; sample answers for quality.",
    "A release just before: compare the prompts that the app builds before and after; roll back if they are not meant.",
    "Meant to stay: do nothing; after a while the new mix becomes the reference and the alert closes.",
)
STYLE_STEPS = (
    "Did the provider change the model behind its name? Compare `response_model` and `fingerprint` of the calls.",
    "A release just before: compare system prompt and temperature before and after; roll back if it is not meant.",
    "Read a few of the answers (`tailrace call ID`), and ask the same questions again: `tailrace gate` compares both.",
    "Meant to stay: do nothing; after a while the new style becomes the reference and the alert closes.",
)


def compose_alert(
    incident: Incident,
    state: Literal["firing", "update", "resolved"],
    *,
    side: str,
    observed: float,
    window: tuple[int, int],
    wall: int,
    note: str = "",
) -> Alert:
    """Compose the alert of one state change."""
    shift = incident.shift
    rule = RULES[side]
    return Alert(
        id=incident.id,
        seq=incident.seq,
        fingerprint=fingerprint(rule, incident.series),
        detector="drift",
        rule=rule,
        severity="warning",
        state=state,
        series=incident.series,
        window=Window(iso(window[0]), iso(window[1])),
        observed=observed,
        expected=shift.expected,
        score=incident.score,
        unit="share of texts",
        impact=Impact(calls=shift.calls, users=shift.users),
        cause=shift.causes,
        evidence=Evidence(shift.sql if state == "firing" else "", shift.call_ids),
        runbook=filled(STYLE_STEPS if shift.linear else STEPS, alert_id=incident.id, call_ids=shift.call_ids),
        detected_at=iso(wall),
        title=_title(incident, state, side, observed, note),
    )


def _title(
    incident: Incident, state: Literal["firing", "update", "resolved"], side: str, observed: float, note: str
) -> str:
    where = "/".join(v for k, v in incident.series.items() if k != "side")
    if state == "resolved":
        return f"{where}: {side}s {note}"
    drifted = _drifted(incident.shift, side, observed)
    if state == "update":
        return f"{where}: still, {drifted}"
    return f"{'again: ' if incident.seq else ''}{where}: {drifted}"


def _drifted(shift: Shift, side: str, observed: float) -> str:
    """Return what drifted, without an excerpt of a text: a title is shown in every list of alerts."""
    if not shift.linear:
        return f"{side}s drifted, {observed:.0%} are like the texts of one topic, expected {shift.expected:.0%}"
    moved = ", ".join(cause.value for cause in shift.causes if cause.dimension == "style")
    prompts = ", no change of prompts" if shift.are_prompts_steady else ""
    return f"answers changed style ({moved}){prompts}: {observed:.0%} are like this, expected {shift.expected:.0%}"


def iso(microseconds: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
