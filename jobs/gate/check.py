"""One line of a report: what was compared, what was found, its effect on the verdict, and its text. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jobs.gate.settings import Mode
from jobs.gate.verdict import Verdict

Kind = Literal["quality", "safety", "availability", "cost", "latency"]


@dataclass(frozen=True)
class Check:
    """One line of the report. Values are shares: 0.05 is five points, or five percent where ``relative``."""

    kind: Kind
    name: str
    scope: str
    """Empty: all cases; else ``feature checkout`` or ``task summarise``."""
    mode: Mode
    verdict: Verdict
    cases: int
    estimate: float
    lower: float
    upper: float
    limit: float
    baseline: float
    candidate: float
    relative: bool = False
    cases_needed: int = 0
    samples_needed: int = -1
    false_block_risk: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> Verdict | None:
        """What it adds to the verdict over all; None: nothing."""
        if self.mode is Mode.INFORM or (self.mode is Mode.MUST_NOT_REGRESS and self.verdict is Verdict.UNDECIDED):
            return None
        return self.verdict


def reason(check: Check) -> str:
    """Return why a check is no pass."""
    return f"{check.name}{' of ' + check.scope if check.scope else ''}: {check.verdict.value}, {shown(check)}"


def shown(check: Check) -> str:
    """Return what a check found, in words."""
    if math.isnan(check.estimate):
        return "not known" if check.relative else "no case judged"
    unit = " %" if check.relative else " points"
    numbers = f"{check.estimate * 100:+.1f}{unit} [{check.lower * 100:+.1f}, {check.upper * 100:+.1f}]"
    sign = "+" if check.relative else "-"
    needed = f"; about {check.cases_needed} more cases needed" if check.cases_needed > 0 else ""
    if needed and check.samples_needed > 0:
        needed += f", or {check.samples_needed} samples a case"
    return f"{numbers}, limit {sign}{check.limit * 100:g}{unit}{needed}"
