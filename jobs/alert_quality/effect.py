"""What a proposed threshold does to the alerts that people judged, by two back-tests of the same days. Pure.

A back-test begins with less history than the live stage had, so it may miss an alert that was emitted. What a threshold
takes away is therefore counted among the alerts that the back-test finds with the rules as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.alert_quality.incidents import Incident, of_alerts
from schemas.alerts import Alert

_NEAR_S = 300.0
"""Two incidents of one app and detector this close to each other are one: a threshold moves the beginning."""


@dataclass(frozen=True)
class Counted:
    """The alerts with one verdict."""

    judged: int
    """In the days that were judged again."""
    found: int
    """Of these, what the back-test finds with the rules as they are."""
    kept: int
    """Of those, what it finds with the rules as proposed."""

    @property
    def gone(self) -> int:
        """What the proposal takes away."""
        return self.found - self.kept


@dataclass(frozen=True)
class Effect:
    """What the proposal does."""

    noise: Counted
    useful: Counted
    known: Counted
    alerts_now: int
    """All alerts of the back-test with the rules as they are."""
    alerts_then: int
    """And with the rules as proposed."""

    def text(self) -> str:
        """Return it as one sentence."""
        noise, useful, known = self.noise, self.useful, self.known
        missed = sum(each.judged - each.found for each in (noise, useful, known))
        parts = [
            f"{noise.gone} of {noise.found} noise alerts vanish",
            f"{useful.kept} of {useful.found} useful ones stay",
        ]
        if known.found:
            parts.append(f"{known.kept} of {known.found} known ones stay")
        text = f"{', '.join(parts)}; {self.alerts_now} alerts become {self.alerts_then}"
        return f"{text}; {missed} judged alerts are not found again with the rules as they are" if missed else text


def effect(incidents: Sequence[Incident], now: Sequence[Alert], then: Sequence[Alert]) -> Effect:
    """Compare two back-tests.

    Args:
        incidents: those of the days that were judged again, with their verdicts.
        now: alerts with the rules as they are, every state.
        then: alerts with the rules as proposed, every state.
    """
    as_it_is, as_proposed = of_alerts(now), of_alerts(then)

    def counted(verdict: str) -> Counted:
        judged = [i for i in incidents if i.verdict == verdict]
        found = [i for i in judged if is_among(i, as_it_is)]
        return Counted(len(judged), len(found), sum(is_among(i, as_proposed) for i in found))

    return Effect(counted("noise"), counted("useful"), counted("known"), len(as_it_is), len(as_proposed))


def is_among(incident: Incident, others: Sequence[Incident]) -> bool:
    """Whether one of ``others`` is the same: of its app and detector, at the same time."""
    return any(_is_same(incident, other) for other in others)


def _is_same(one: Incident, other: Incident) -> bool:
    if one.first.id == other.first.id:
        return True
    if (one.first.detector, one.first.series.get("app")) != (other.first.detector, other.first.series.get("app")):
        return False
    a, b = one.span(), other.span()
    return a is not None and b is not None and a[0] <= b[1] + _NEAR_S and b[0] <= a[1] + _NEAR_S
