"""A state change in the words and fields of an alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pipelines.alerts import evidence, runbook
from pipelines.alerts.finding import Finding
from pipelines.alerts.incident import Incident, Transition
from schemas.alerts import Alert, Evidence, Impact, Window, rfc3339

if TYPE_CHECKING:
    from pipelines.detect.windows import Windows

_NOUNS = {
    "cost": "cost",
    "tokens": "tokens",
    "calls": "calls",
    "cost_per_call": "cost per call",
    "tokens_per_call": "tokens per call",
    "empty_retrievals": "retrievals without a document",
    "usage_missing": "calls without usage",
    "unpriced": "calls without a whole price",
    "blocked": "blocked calls",
    "refused": "refused calls",
    "truncated": "truncated answers",
    "fallbacks": "fallbacks",
    "errors": "errors",
    "cost_differs": "reported costs more than 1 % off the computed ones",
}

_OF = {"cost_differs": "compared calls"}
"""What a share is a share of, where that is not all calls."""
_BESIDE = ("guardrail", "signal")
"""In the series of an alert, beside the dimensions of its calls."""


def compose(
    transition: Transition,
    windows: Windows,
    *,
    detected_at: int,
    runbooks: Mapping[str, Sequence[str]],
    late: bool = False,
) -> Alert:
    """Make the message.

    Args:
        transition: what changed.
        windows: of the app, now.
        detected_at: µs UTC, the broker's time of the tick that decided.
        runbooks: steps by rule.
        late: what changed was history when it was judged: open slots lie ahead of it.
    """
    finding, incident = _up_to_now(transition, windows, late=late), transition.incident
    return Alert(
        id=incident.id,
        seq=incident.seq,
        fingerprint=incident.fingerprint,
        detector=finding.detector,
        rule=finding.rule,
        severity=finding.severity,
        state=transition.state,
        series=finding.series,
        window=Window(rfc3339(finding.start), rfc3339(finding.end)),
        observed=finding.observed,
        expected=round(finding.expected, 9),
        score=finding.score,
        unit=finding.unit,
        impact=_impact(finding),
        cause=finding.causes,
        evidence=_evidence(finding, windows),
        runbook=runbook.filled(_steps(finding, runbooks), alert_id=incident.id, call_ids=finding.call_ids),
        late=late,
        detected_at=rfc3339(detected_at),
        title=title(finding, _title_state(transition)),
        children=finding.children,
    )


def _up_to_now(transition: Transition, windows: Windows, *, late: bool) -> Finding:
    """The finding of a transition; after the first message with the numbers of the whole incident so far."""
    finding, incident = transition.finding, transition.incident
    if finding.value_sql:
        return _tallied(finding, incident) if incident.seq else finding
    if transition.state == "resolved":
        return _whole(finding, incident.total, incident.after, windows)
    if not incident.seq:
        return finding
    return _whole(replace(finding, end=windows.closed if late else windows.latest()), incident.total, {}, windows)


def _impact(finding: Finding) -> Impact:
    users = 1 if "user" in finding.series else finding.users
    return Impact(calls=finding.calls, users=users, usd_per_hour=finding.usd_per_hour, usd_so_far=_usd_so_far(finding))


def _evidence(finding: Finding, windows: Windows) -> Evidence:
    sql = evidence.sql(finding, windows.positions, windows.epoch)
    return Evidence(sql, finding.call_ids, finding.cause_sql if finding.causes else "")


def _usd_so_far(finding: Finding) -> float | None:
    if finding.usd_lost is not None:
        return round(finding.usd_lost, 6)
    return round(finding.excess, 6) if finding.family == "spend" and finding.unit.startswith("USD") else None


def _steps(finding: Finding, runbooks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return runbook.steps(finding.rule, runbooks, own=finding.steps)


def _tallied(finding: Finding, incident: Incident) -> Finding:
    """The finding with the share, or the mean, of the whole incident, up to its last bucket that has closed."""
    recovery = incident.recovery
    over = bool(recovery.since) and finding.end == recovery.since
    seen = recovery.before if over and recovery.before is not None else recovery.seen
    if seen.exposure <= 0:
        return finding
    value = round(seen.value * 1e9) / 1e9 if finding.unit.startswith("USD") else seen.value  # a sum of whole nano-USD
    share = value / seen.exposure
    end = finding.end if over else max(recovery.until, finding.end)
    is_share = finding.unit == "share"
    calls = round(seen.calls if finding.falls or not is_share else seen.value)
    excess, usd = finding.excess, finding.usd_lost
    if finding.falls or not is_share:  # the value of a token that the cache did not serve stays what it was
        usual = 1 - finding.expected if finding.falls else finding.expected
        excess = seen.value - usual * seen.exposure
        usd = None if usd is None or finding.excess <= 0 else usd * excess / finding.excess
    observed = 1 - share if finding.falls else share
    return replace(finding, observed=observed, end=end, calls=calls, excess=excess, usd_lost=usd)


def _title_state(transition: Transition) -> str:
    if transition.accepted:
        return "accepted"
    return "reopened" if transition.state == "firing" and transition.incident.seq else transition.state


def title(finding: Finding, state: str) -> str:
    """One plain line: who, what, how much, against what."""
    who = " ".join(f"{name} {value}" for name, value in finding.series.items() if name not in _BESIDE)
    over = {"resolved": "over: ", "reopened": "again: ", "accepted": "taken for the new normal: "}.get(state, "")
    if finding.rule == "single_call_cost":
        return f"{over}{who}: a single call cost {finding.observed:.2f} USD"
    if finding.learning:
        return f"{over}{who}: {_learning(finding)}, still learning what is usual"
    if finding.unit == "share":
        guardrail = finding.series.get("guardrail")
        noun = finding.noun or _NOUNS.get(finding.measure, finding.measure)
        what = f"guardrail {guardrail}" if guardrail else noun
        of = finding.of if finding.noun else _OF.get(finding.measure, "calls")
        return f"{over}{who}: {what} in {finding.observed:.1%} of {of}, usually {finding.expected:.1%}"
    ratio = finding.observed / finding.expected if finding.expected > 0 else float("inf")
    times = f"{ratio:.1f}x the usual" if ratio < 1000 else "next to nothing usually"
    amount = f"{finding.observed:,.4g} {finding.unit}"
    return f"{over}{who}: {_NOUNS.get(finding.measure, finding.measure)} {amount}, {times}"


def _learning(finding: Finding) -> str:
    if finding.unit == "share":
        return f"{_NOUNS.get(finding.measure, finding.measure)} in {finding.observed:.1%} of calls"
    ratio = finding.observed / finding.expected if finding.expected > 0 else float("inf")
    times = f"{ratio:.1f}x the highest so far" if ratio < 1000 else "next to nothing before"
    return f"{_NOUNS.get(finding.measure, finding.measure)} {finding.observed:,.4g} {finding.unit}, {times}"


def _whole(finding: Finding, total: Mapping[int, int], after: Mapping[int, int], windows: Windows) -> Finding:
    """The finding with the numbers of the whole incident, which may be longer than the ring of slots.

    Args:
        finding: its ``end`` is that of the incident, or now.
        total: sums over the closed slots since the start of the incident.
        after: the part of them after its end.
        windows: what is in the open slots.
    """
    from pipelines.detect.detectors.surge_bases import base_of
    from pipelines.detect.kinds import column
    from pipelines.detect.windows import SLOT

    if finding.rule == "single_call_cost":
        return finding
    place = windows.index.get(finding.target)
    sums = {c: v - after.get(c, 0) for c, v in total.items()}
    if place is not None and finding.end > windows.closed:
        open_sums = windows.row(place, windows.closed, finding.end)
        sums = {c: v + int(open_sums[c]) for c, v in sums.items()}
    calls = sums[column(windows.kinds, "calls")]
    if finding.unit == "share":
        base = sums[column(windows.kinds, base_of(finding.measure, windows.kinds))]
        hits = sums[column(windows.kinds, finding.family)]
        return replace(finding, observed=hits / max(base, 1), calls=hits)
    slots = max((finding.end - finding.start) // SLOT, 1)
    cost = sums[column(windows.kinds, "cost_nanousd")] / 1e9
    tokens = float(sums[column(windows.kinds, "tokens")])
    seen = {"cost": cost, "tokens": tokens, "calls": float(calls)}
    seen |= {"cost_per_call": cost / max(calls, 1), "tokens_per_call": tokens / max(calls, 1)}
    observed = seen[finding.measure]
    if finding.expected_rate is None:
        return replace(finding, observed=observed, calls=calls)
    expected = finding.expected_rate * slots
    hourly = round((cost - finding.usd_rate * slots) / slots * (3_600_000_000 // SLOT), 6)
    return replace(
        finding, observed=observed, expected=expected, excess=observed - expected, calls=calls, usd_per_hour=hourly
    )
