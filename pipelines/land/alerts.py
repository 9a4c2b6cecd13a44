"""Alerts that land itself raises: records lost to retention, and a topic that is mostly bad. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.alerts import Alert, Window, alert_id, fingerprint
from schemas.records import Move


def gap_alert(move: Move, *, at: int) -> Alert:
    """Return the alert for positions that cannot be read any more."""
    lost = move.end - move.start
    series = {"topic": move.topic, "partition": str(move.partition)}
    title = f"{lost:,} records of {move.topic}[{move.partition}] were lost: retention took them before land read them"
    runbook = (
        "look at `tailrace status`: for how long was land behind or stopped?",
        f"`tailrace sql \"FROM gaps WHERE topic = '{move.topic}'\"` names the positions",
        "raise the topic's retention above the longest outage you expect",
    )
    return _alert("gap", series, lost, (title, "records"), runbook, at)


def breaker_alert(topic: str, ratio: float, limit: float, *, at: int) -> Alert:
    """Return the alert for a topic that stopped landing because most of its events are bad."""
    title = f"{topic} stopped landing: {ratio:.0%} of its latest events are bad (limit {limit:.0%})"
    runbook = (
        "`tailrace dead list` and the log of land name the reasons; which release sends them?",
        "nothing is lost while the topic keeps its records; mend the producer before retention takes them",
        "to land what there is, bad events to `dead`: raise the limit to 1 and restart land",
    )
    return _alert("breaker", {"topic": topic}, ratio, (title, "share of dead events"), runbook, at)


def _alert(
    rule: str, series: dict[str, str], observed: float, words: tuple[str, str], runbook: tuple[str, ...], at: int
) -> Alert:
    moment = datetime.fromtimestamp(at / 1e6, UTC).isoformat()
    title, unit = words
    return Alert(
        id=alert_id(f"land.{rule}", series, at),
        seq=0,
        fingerprint=fingerprint(f"land.{rule}", series),
        detector="land",
        rule=f"land.{rule}",
        severity="critical",
        state="firing",
        series=series,
        window=Window(moment, moment),
        observed=float(observed),
        expected=0.0,
        score=float(observed),
        unit=unit,
        runbook=runbook,
        detected_at=moment,
        title=title,
    )
