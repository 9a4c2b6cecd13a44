"""One cause is one incident: which findings of one app open an alert, and which belong to one that is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.alerts.finding import Finding

NEAR = 60_000_000
"""Two onsets farther apart than this (µs) are two causes."""
SLACK = 1.3
"""A follower may touch this much more calls than its leader; beyond, it has a cause of its own."""


def leads(leader: Finding, follower: Finding) -> bool:
    """Whether ``follower`` is another face of ``leader``: a guardrail that blocks raises the share of blocked calls.

    Both are proportions of the calls of one app, and they began together; seen at one moment, the follower must be no
    larger as well (the excess of an open leader is that of the moment it fired).
    """
    return (
        leader.detector == follower.detector
        and leader.family != follower.family
        and leader.rank < follower.rank
        and abs(leader.start - follower.start) <= NEAR
    )


def _no_larger(leader: Finding, follower: Finding) -> bool:
    return follower.excess <= SLACK * max(leader.excess, float(leader.calls))


def group(
    findings: Sequence[Finding], open_: Mapping[str, Finding]
) -> tuple[list[Finding], dict[str, list[str]], dict[str, list[Finding]]]:
    """Sort findings into those that stand for themselves and those that follow an open incident.

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
    for finding in sorted(findings, key=lambda f: (f.rank, f.family)):
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
    told = [_with_children(f, [g for lead, g in followers if lead is f]) for f in leaders]
    following = {f.family: [g.family for lead, g in followers if lead is f] for f in leaders}
    return told, following, attached


def _with_children(leader: Finding, followers: list[Finding]) -> Finding:
    from msgspec.structs import replace

    strong = not leader.weak or any(not f.weak for f in followers)
    score = max([leader.score, *(f.score for f in followers)])
    children = tuple(child(f) for f in followers if not f.weak)
    return replace(leader, weak=not strong, score=score, children=(*leader.children, *children))


def child(finding: Finding) -> dict[str, str]:
    """How a follower stands in its leader's alert."""
    return {**finding.series, "rule": finding.rule}
