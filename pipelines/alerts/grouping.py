"""One cause is one incident: which findings of one app open an alert, and which belong to one that is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.alerts.finding import Finding

NEAR = 60_000_000
"""Two onsets farther apart than this (µs) are two causes."""
SAME_CAUSE = 300_000_000
"""The same (µs) of findings of two detectors, one of which judges once a minute."""
RETRIES = 3
"""Most further attempts of a call that fails that are taken to follow from its failing."""
PACE = 6.0
"""What a rise per call costs an hour is a rough estimate: a follower may cost up to this many times as much and still
be part of the same incident."""
LATER = 1_800_000_000
"""Time (µs) after a rise per call within which the spend of a slice of few calls may show it."""
PART = 0.3
"""Least share of a rise per call of a cause that is one of its slices, named or not."""
SLACK = 1.3
"""A follower may touch this much more calls than its leader; beyond, it has a cause of its own."""


def leads(leader: Finding, follower: Finding) -> bool:
    """Whether ``follower`` has the cause of ``leader``: a guardrail that blocks raises the share of blocked calls.

    Both are proportions of the calls of one app, and they began together; seen at one moment, the follower must be no
    larger as well (the excess of an open leader is that of the moment it fired).
    """
    if leader.detector != follower.detector:
        return _explains(leader, follower)
    return (
        leader.detector == follower.detector
        and leader.family != follower.family
        and leader.rank < follower.rank
        and abs(leader.start - follower.start) <= NEAR
    )


def _explains(leader: Finding, follower: Finding) -> bool:
    """Whether what one detector found follows from what another one found.

    Calls that fail are tried again: more calls, slower or faster ones, no more than the errors account for. A cache
    that serves nothing raises the cost, by no more than what it served before. Calls that hold or cost more raise the
    spend, and a loop of expensive calls raises what a call costs.
    """
    if {leader.family, follower.family} == {"per_call", "spend"}:
        return _is_one_rise(leader, follower)
    if abs(leader.start - follower.start) > SAME_CAUSE:
        return False
    if leader.family == "errors":
        more_calls = follower.measure == "calls" and follower.excess <= SLACK * RETRIES * leader.calls
        return more_calls or follower.family == "latency"
    if leader.family == "cache":
        by_call = follower.measure == "cost_per_call"
        less = leader.usd_lost is not None and follower.excess <= SLACK * leader.usd_lost
        return by_call or (follower.measure == "cost" and less)
    if leader.family == "per_call" and follower.family == "latency":
        return leader.measure == "tokens_per_call" and bool(_slices(leader) & _slices(follower))
    return leader.measure in ("cost", "cost_per_call") and follower.family == "cache"


def _is_one_rise(leader: Finding, follower: Finding) -> bool:
    """Whether a rise of the spend and one per call are one: of one slice, or together and of one size."""
    if "calls" in (leader.measure, follower.measure):
        return False
    if _slices(leader) & _slices(follower):
        return follower.start >= leader.start - SAME_CAUSE
    if leader.usd_per_hour is None or follower.usd_per_hour is None:
        return False
    if not -SAME_CAUSE <= follower.start - leader.start <= (LATER if leader.family == "per_call" else SAME_CAUSE):
        return False
    return follower.usd_per_hour <= PACE * leader.usd_per_hour


def _slices(finding: Finding) -> set[tuple[str, str]]:
    """The slices that a finding names, in its series or as its causes."""
    per_call = finding.family == "per_call"
    causes = [cause for cause in finding.causes if cause.named or (per_call and cause.share >= PART)]
    named = {(cause.dimension, cause.value) for cause in causes}
    return named | {(name, value) for name, value in finding.series.items() if name != "app"}


def _no_larger(leader: Finding, follower: Finding) -> bool:
    if leader.detector != follower.detector:
        return True  # of another unit, and compared by ``_explains``
    return follower.excess <= SLACK * max(leader.excess, float(leader.calls))


def group(
    findings: Sequence[Finding], open_: Mapping[str, Finding]
) -> tuple[list[Finding], dict[str, list[str]], dict[str, list[Finding]]]:
    """Split findings into those that open an incident and those that follow an open one.

    Args:
        findings: of one app, now; weak ones only lend their name.
        open_: family of each open incident -> the finding that opened it, kept up to date.

    Returns:
        (leaders, with their followers' series as children; family of a leader -> its followers' families; family of
        an open incident -> its new followers)
    """
    attached: dict[str, list[Finding]] = {}
    leaders: list[Finding] = []
    followers: list[tuple[Finding, Finding]] = []
    # spend follows from what other detectors find, so it comes last
    for finding in sorted(findings, key=lambda f: (f.family == "spend", f.rank, f.family)):
        if finding.family in open_:
            continue
        above = next((f for family, f in sorted(open_.items()) if leads(f, finding)), None)
        leader = next((f for f in leaders if leads(f, finding) and _no_larger(f, finding)), None)
        if above is not None:
            attached.setdefault(above.family, []).append(finding)
        elif leader is not None:
            followers.append((leader, finding))
        else:
            leaders.append(finding)
    leaders.sort(key=lambda f: (f.rank, f.family))
    with_children = [_with_children(f, [g for lead, g in followers if lead is f]) for f in leaders]
    following = {f.family: [g.family for lead, g in followers if lead is f] for f in leaders}
    return with_children, following, attached


def _with_children(leader: Finding, followers: list[Finding]) -> Finding:
    from msgspec.structs import replace

    strong = not leader.weak or any(not f.weak for f in followers)
    score = max([leader.score, *(f.score for f in followers)])
    children = tuple(child(f) for f in followers if not f.weak)
    return replace(leader, weak=not strong, score=score, children=(*leader.children, *children))


def child(finding: Finding) -> dict[str, str]:
    """The entry of a follower in its leader's alert."""
    return {**finding.series, "rule": finding.rule}
