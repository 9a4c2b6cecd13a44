"""Alerts out of one run: detector ``data_quality``, one for each expectation that fails. Pure.

It is resolved by a later run that passes; a run that could not judge changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from jobs.data_quality.suite import Outcome, Window
from schemas.alerts import Alert, Cause, Evidence, alert_id, fingerprint, rfc3339
from schemas.alerts import Window as Span

DETECTOR, RULE = "data_quality", "data_quality"
_SCOPES = 5


def data_quality_alerts(
    outcomes: Iterable[Outcome], open_alerts: Iterable[Alert], window: Window, *, docs: str = ""
) -> tuple[Alert, ...]:
    """Return the state changes that a run leads to.

    Args:
        outcomes: of the run.
        open_alerts: newest state of each alert of this detector that is not resolved.
        window: what was judged.
        docs: path of Data Docs in the home, for the runbook.
    """
    known = {alert.fingerprint: alert for alert in open_alerts}
    changes = []
    for outcome in outcomes:
        before = known.get(fingerprint(RULE, series_of(outcome)))
        if outcome.state == "failed" and before is None:
            changes.append(_firing(outcome, window, docs))
        elif outcome.state == "passed" and before is not None and _later(window, before):
            changes.append(_resolved(before, outcome, window))
    return tuple(changes)


def series_of(outcome: Outcome) -> dict[str, str]:
    """Return the series of an expectation."""
    return {"suite": outcome.suite, "expectation": outcome.check}


def _firing(outcome: Outcome, window: Window, docs: str) -> Alert:
    series = series_of(outcome)
    observed = outcome.observed if outcome.observed is not None else float(outcome.failing or 0)
    return Alert(
        id=alert_id(RULE, series, window.since),
        seq=0,
        fingerprint=fingerprint(RULE, series),
        detector=DETECTOR,
        rule=RULE,
        severity=outcome.severity,
        state="firing",
        series=series,
        window=Span(rfc3339(window.since), rfc3339(window.until)),
        observed=observed,
        expected=0.0,
        score=observed,
        unit=outcome.unit,
        cause=tuple(Cause("app", app, 1 / len(outcome.scopes), f"app {app}") for app in outcome.scopes[:_SCOPES]),
        evidence=Evidence(outcome.sql),
        runbook=_steps(outcome, docs),
        detected_at=rfc3339(window.now),
        title=_title(outcome),
    )


def _title(outcome: Outcome) -> str:
    where = f" in {', '.join(outcome.scopes[:_SCOPES])}" if outcome.scopes else ""
    more = f" and {len(outcome.scopes) - _SCOPES} more" if len(outcome.scopes) > _SCOPES else ""
    return f"{outcome.suite}: expectation {outcome.check} failed{where}{more}. Expected: {outcome.description}"


def _resolved(alert: Alert, outcome: Outcome, window: Window) -> Alert:
    return replace(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Span(alert.window.start, rfc3339(window.since)),
        observed=0.0,
        evidence=Evidence(),
        runbook=(),
        detected_at=rfc3339(window.now),
        title=f"over: {outcome.suite}: expectation {outcome.check} holds again",
    )


def _later(window: Window, alert: Alert) -> bool:
    return rfc3339(window.since) >= alert.window.end


def _steps(outcome: Outcome, docs: str) -> tuple[str, ...]:
    page = (f"Read the page of the run: {docs} in the home.",) if docs else ()
    return (
        "See the failing rows: the SQL of this alert returns them, with their number in the first column.",
        *_STEPS.get(outcome.check, ("Find what wrote them: compare app, model, release and _landed_at of the rows.",)),
        *page,
        f"Where it is meant to be so: name {outcome.key} in data_quality.skip, or its limit in data_quality.limits.",
    )


_STEPS: Mapping[str, tuple[str, ...]] = {
    "positions_unique": ("Run `tailrace verify`: it proves the lake from its rows, and names the positions.",),
    "calls_agree": ("Run `tailrace verify`: it compares rollups and calls span by span.",),
    "fresh": ("Run `tailrace status`: a stage that hangs, or is behind, is named there.",),
    "volume_low": ("Run `tailrace status`, then ask the owner of the app whether it sends less.",),
    "volume_high": ("Look for a replay, a loop or a new client: group the rows of the hour by app and release.",),
    "unpriced_share": ("Run `tailrace prices explain` for a model of the rows; add a price to `prices`.",),
    "unknown_model_share": ("Run `tailrace prices explain` for a model of the rows; add a price to `prices`.",),
    "content_missing_share": ("Compare the emitter's content mode and version between good and bad rows.",),
    "clock_skew_share": ("Set the clocks of the hosts that send these rows.",),
}
