"""Precision of each rule: the share of useful alerts among those that were judged useful or noise. Pure.

An alert that was right but known before is no evidence on the threshold, so it is counted separately.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.alert_quality.incidents import Incident
from jobs.wilson import wilson


@dataclass(frozen=True)
class RulePrecision:
    """The verdicts on the incidents of one rule."""

    rule: str
    detector: str
    useful: int
    noise: int
    known: int
    unjudged: int

    @property
    def judged(self) -> int:
        """Verdicts that count."""
        return self.useful + self.noise

    @property
    def precision(self) -> float | None:
        """None where no verdict counts."""
        return self.useful / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bounds of the precision at 95 % (Wilson 1927); None where no verdict counts."""
        return wilson(self.useful, self.judged) if self.judged else None


def precisions(incidents: Sequence[Incident]) -> tuple[RulePrecision, ...]:
    """Return every rule that raised an alert, that with most noise first."""
    counts: dict[tuple[str, str], Counter[str | None]] = {}
    for incident in incidents:
        key = incident.first.rule, incident.first.detector
        counts.setdefault(key, Counter())[incident.verdict] += 1
    found = [RulePrecision(*key, n["useful"], n["noise"], n["known"], n[None]) for key, n in counts.items()]
    return tuple(sorted(found, key=lambda r: (-r.noise, -r.judged, -r.unjudged, r.rule)))
