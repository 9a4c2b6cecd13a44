"""Alerts out of the weekly report: detector ``quality``, rule ``quality_drop``. Pure.

A decision of the report whose drop is larger than 5 points fires; scorers that only inform ask for no decision. It is
resolved by a later report in which the same scorer, at the same version, is back within 5 points of what was
expected over the same slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec.structs import replace

from jobs.evals.lines import Line
from jobs.evals.summary import Period, Summary
from pipelines.alerts.evidence import literal
from schemas.alerts import Alert, Evidence, Impact, Window, alert_id, fingerprint, rfc3339

DETECTOR, RULE = "quality", "quality_drop"
LEAST_DROP = 0.05
"""Drops up to 5 points of 100 stay in the report."""
CRITICAL_DROP = 0.10
"""A drop is critical where the whole interval is beyond it: few labels give large drops with wide intervals."""
_CALLS = 5
_CONDITIONS = {"app", "feature", "model", "prompt_name", "prompt_version", "variant", "experiment", "release"}


def quality_alerts(summary: Summary, open_alerts: Iterable[Alert], *, now: int) -> tuple[Alert, ...]:
    """Return the state changes that the report leads to.

    Args:
        summary: the numbers.
        open_alerts: newest state of each alert of this detector that is not resolved.
        now: µs UTC.
    """
    known = {alert.fingerprint: alert for alert in open_alerts}
    changes = []
    for decision in summary.decisions:
        line = decision.line
        if line.change is None or line.change.value > -LEAST_DROP:
            continue
        alert = _firing(line, decision.sentence, summary, now)
        if alert.fingerprint not in known:
            changes.append(alert)
    lines = {_print(line): line for line in summary.lines}
    for alert in known.values():
        found = lines.get(alert.fingerprint)
        if found is not None and _is_recovered(alert, found, summary.period):
            changes.append(_resolved(alert, found, summary.period, now))
        elif found is None and (why := _ended(alert, summary)):
            changes.append(_closed(alert, why, summary.period, now))
    return tuple(changes)


def series_of(line: Line) -> dict[str, str]:
    """Return the series of a line: its slice, the scorer and its version."""
    return {**line.series, "scorer": line.scorer, "version": line.version}


def _print(line: Line) -> str:
    return fingerprint(RULE, series_of(line))


def _firing(line: Line, sentence: str, summary: Summary, now: int) -> Alert:
    assert line.change is not None and line.now.mean is not None and line.before is not None  # noqa: PT018
    series, period = series_of(line), summary.period
    start = _micros(period.since)
    failed = [call.call_id for call in summary.worst if any(name == line.scorer for name, _, _ in call.failed)]
    half = max((line.change.high - line.change.low) / 2, 1e-9)
    return Alert(
        id=alert_id(RULE, series, start),
        seq=0,
        fingerprint=fingerprint(RULE, series),
        detector=DETECTOR,
        rule=RULE,
        severity="critical" if line.change.high <= -CRITICAL_DROP else "warning",
        state="firing",
        series=series,
        window=_window(period),
        observed=line.now.mean,
        expected=line.before.mean or 0.0,
        score=-line.change.value / half,
        unit="share",
        impact=Impact(calls=round(line.now.calls)),
        evidence=Evidence(_sql(line, period), tuple(failed[:_CALLS])),
        runbook=_steps(period, failed),
        detected_at=rfc3339(now),
        title=sentence.removesuffix(": roll back, fix or accept?"),
    )


def _is_recovered(alert: Alert, line: Line, period: Period) -> bool:
    later = _micros(period.since) >= _parsed(alert.window.end)
    return later and line.now.mean is not None and line.now.mean >= alert.expected - LEAST_DROP


def _ended(alert: Alert, summary: Summary) -> str:
    """Return why a slice that the report does not have can never recover; empty where that is not sure."""
    scorer, later = alert.series.get("scorer"), _micros(summary.period.since) >= _parsed(alert.window.end)
    mine = [line for line in summary.lines if line.scorer == scorer]
    if not later or not mine:
        return ""
    if mine[0].version != alert.series.get("version"):
        return f"{scorer} changed, so that later scores cannot be compared"
    if summary.left_out or alert.fingerprint in {_print(line) for line in mine}:
        return ""
    where = ", ".join(f"{name} {value}" for name, value in alert.series.items() if name not in ("scorer", "version"))
    return f"no calls of {where} any more"


def _closed(alert: Alert, why: str, period: Period, now: int) -> Alert:
    return replace(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Window(alert.window.start, _window(period).start),
        runbook=(),
        detected_at=rfc3339(now),
        title=f"closed without a verdict: {why}",
    )


def _resolved(alert: Alert, line: Line, period: Period, now: int) -> Alert:
    assert line.now.mean is not None
    title = f"over: {line.scorer} of {line.slice} is back at {100 * line.now.mean:.1f} %"
    return replace(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Window(alert.window.start, _window(period).start),
        observed=line.now.mean,
        evidence=Evidence(_sql(line, period), ()),
        runbook=(),
        detected_at=rfc3339(now),
        title=title,
    )


def _steps(period: Period, failed: Sequence[str]) -> tuple[str, ...]:
    call = failed[0] if failed else "CALL_ID"
    return (
        f"Read the report: `tailrace eval report --from {period.since} --to {period.until}`.",
        f"Read three of its worst calls: `tailrace call {call}`.",
        "Compare prompt versions and models in the report: if one of them fell alone, roll it back.",
        "Put the failures into the golden set, so that the gate sees them: `tailrace golden refresh`.",
    )


def _sql(line: Line, period: Period) -> str:
    """Return the query for the weighted mean: scores of the run, each id once, by the inverse of their probability."""
    conditions = [f"c.{name} = {literal(value)}" for name, value in line.series.items() if name in _CONDITIONS]
    if "variant" not in line.series:
        conditions.append("c.user_facing")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return (
        "SELECT sum(e.score / e.p) / sum(1 / e.p) AS observed FROM (SELECT call_id, score, "
        "TRY_CAST(extra->>'inclusion_probability' AS DOUBLE) AS p FROM evals WHERE dataset IS NULL "
        f"AND run_id = {literal(period.run_id)} AND name = {literal(line.scorer)} "
        f"AND coalesce(evaluator_version, '') = {literal(line.version)} AND score IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY id ORDER BY _epoch, _partition, _offset) = 1) AS e "
        f"JOIN calls AS c ON c.id = e.call_id AND c.day BETWEEN '{period.since}' AND '{period.until}'{where}"
    )


def _window(period: Period) -> Window:
    return Window(rfc3339(_micros(period.since)), rfc3339(_micros(period.until + timedelta(days=1))))


def _micros(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def _parsed(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
