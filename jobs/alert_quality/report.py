"""What a report shows of the alerts: precision by rule, and proposed thresholds with their back-test. Pure.

Nothing here changes a rule: a proposal is a setting that a person may write into ``tailrace.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jobs.alert_quality.effect import Effect
from jobs.alert_quality.incidents import Incident
from jobs.alert_quality.precision import RulePrecision, precisions
from jobs.alert_quality.thresholds import MIN_NOISE, Proposal, propose

ROWS_PER_S = 15_000
"""Rows of rollups that a back-test judges in a second on one core (docs/how-to/judge-alerts.md)."""


@dataclass(frozen=True)
class Tried:
    """A proposal, and what its back-test showed."""

    proposal: Proposal
    effect: Effect | None
    """None: it was not back-tested."""
    command: str
    """That back-tests it."""
    cost: str
    """What the command costs, in words."""

    def lines(self) -> list[str]:
        """Return the proposal in whole sentences; names of rules and fields are ours."""
        p = self.proposal
        change = f"{p.rule}: {p.detector}.{p.field} = {p.then:g} in place of {p.now:g} is proposed, and not applied."
        seen = f"{p.below} of {p.noise} noise alerts stayed below it, and no useful one."
        if self.effect is None:
            return [change, seen, f"Not back-tested here: `{self.command}` does it; {self.cost}."]
        return [change, seen, f"Back-test: {self.effect.text()}.", f"See the alerts: `{self.command}`; {self.cost}."]


@dataclass(frozen=True)
class AlertQuality:
    """The alerts of some days."""

    since: date
    until: date
    rules: tuple[RulePrecision, ...]
    tried: tuple[Tried, ...]
    undecided: tuple[str, ...]
    """Rules with noise enough, for which no threshold keeps it away without a useful alert."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the rules as rows of a table, as text."""
        return [_row(rule) for rule in self.rules]

    def sentence(self) -> str:
        """Return it as one line."""
        useful, judged = sum(r.useful for r in self.rules), sum(r.judged for r in self.rules)
        none, count = sum(r.unjudged for r in self.rules), len(self.tried)
        useful_text = f"{useful:,} of {judged:,} judged alerts were useful" if judged else "no alert was judged"
        proposed = f"; {count} threshold{'s are' if count > 1 else ' is'} proposed" if count else ""
        return f"Alerts of four weeks: {useful_text}, {none:,} have no verdict{proposed}."

    def data(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "rules": [_facts(rule) for rule in self.rules],
            "proposals": [_tried(each) for each in self.tried],
            "no_threshold": list(self.undecided),
        }


def proposals(
    incidents: Sequence[Incident], current: Mapping[str, Mapping[str, float]]
) -> tuple[list[Proposal], list[str]]:
    """Return what is proposed, and the rules with noise enough for which nothing can be.

    Args:
        incidents: with their verdicts.
        current: detector -> field -> value that holds.
    """
    found, none = [], []
    for rule in precisions(incidents):
        if rule.noise < MIN_NOISE:
            continue
        proposal = propose(rule.rule, incidents, current)
        if proposal:
            found.append(proposal)
        else:
            none.append(rule.rule)
    return found, none


def cost(rows: int) -> str:
    """Return the cost of judging ``rows`` of rollups twice, in words."""
    minutes = 2 * rows / ROWS_PER_S / 60
    return f"it judges {rows:,} rows of rollups twice, about {max(1, round(minutes)):,} min on one core"


def _row(rule: RulePrecision) -> dict[str, Any]:
    interval = rule.interval
    return {
        "rule": rule.rule,
        "useful": f"{rule.useful:,}",
        "noise": f"{rule.noise:,}",
        "known": f"{rule.known:,}",
        "unjudged": f"{rule.unjudged:,}",
        "precision": "no verdict" if rule.precision is None else f"{100 * rule.precision:.0f} %",
        "interval": f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %" if interval else "",
    }


def _facts(rule: RulePrecision) -> dict[str, Any]:
    counts = {name: getattr(rule, name) for name in ("rule", "detector", "useful", "noise", "known", "unjudged")}
    return {**counts, "precision": rule.precision, "interval": list(rule.interval) if rule.interval else None}


def _tried(tried: Tried) -> dict[str, Any]:
    p, effect = tried.proposal, tried.effect
    facts = {"rule": p.rule, "setting": p.setting, "now": p.now, "then": p.then, "noise": p.noise, "below": p.below}
    seen = None
    if effect is not None:
        seen = {name: vars(getattr(effect, name)) for name in ("noise", "useful", "known")}
        seen |= {"alerts_now": effect.alerts_now, "alerts_then": effect.alerts_then}
    return {**facts, "backtest": seen, "command": tried.command, "cost": tried.cost}
