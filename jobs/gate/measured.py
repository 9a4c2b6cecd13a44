"""What was measured on the candidate and the baseline: scores, answers, cost and latency by case. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.gate.golden_file import GoldenCase

Values = Mapping[str, Sequence[float]]
"""Case -> the values of its samples; samples without a value are left out."""


@dataclass(frozen=True)
class Agreement:
    """How well a judge agrees with people."""

    kappa: float | None
    labels: int


@dataclass(frozen=True)
class ScorerValues:
    """The scores of one scorer for both sides."""

    name: str
    kind: str
    """code, embedding, llm or human."""
    version: str
    candidate: Values
    baseline: Values
    failed: int = 0
    """Samples that it could not score because it failed."""
    agreement: Agreement | None = None
    """Of a judge; None: not known."""


@dataclass(frozen=True)
class Found:
    """What was measured on both sides."""

    cases: Sequence[GoldenCase]
    samples: int
    scorers: Sequence[ScorerValues]
    answered: tuple[Values, Values]
    """Candidate and baseline: 1 for an answer, 0 for none."""
    cost: tuple[Values, Values] = field(default_factory=lambda: ({}, {}))
    latency: tuple[Values, Values] = field(default_factory=lambda: ({}, {}))
    ttft: tuple[Values, Values] = field(default_factory=lambda: ({}, {}))

    def of_reviewed(self) -> Found:
        """Return what was measured on the reviewed cases."""
        shadow = frozenset(case.case_id for case in self.cases if case.shadow)

        def kept(sides: tuple[Values, Values]) -> tuple[Values, Values]:
            candidate, baseline = ({c: v for c, v in side.items() if c not in shadow} for side in sides)
            return candidate, baseline

        scorers = []
        for each in self.scorers:
            candidate, baseline = kept((each.candidate, each.baseline))
            scorers.append(replace(each, candidate=candidate, baseline=baseline))
        return Found(
            [case for case in self.cases if not case.shadow],
            self.samples,
            scorers,
            kept(self.answered),
            kept(self.cost),
            kept(self.latency),
            kept(self.ttft),
        )
