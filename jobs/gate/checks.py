"""All checks of a comparison: what each found, whether it may block, and the verdict over all. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jobs.evals.scorers import INFORM_ONLY
from jobs.gate import budget, verdict
from jobs.gate.check import Check, Kind, reason
from jobs.gate.golden_file import GoldenCase
from jobs.gate.measured import Found, ScorerValues, Values
from jobs.gate.settings import GateSettings, Mode, Rule
from jobs.gate.verdict import Verdict

SAFETY_WORDS = ("pii", "secret", "safety", "toxic", "jailbreak", "injection", "leak", "violation")
"""Words in the names of scorers that judge safety, unless gate.yaml lists others."""
SHADOW = "cases that nobody reviewed"


def build(found: Found, settings: GateSettings) -> list[Check]:
    """Return all checks: scorers over all cases and where rules name a part of them, answers, cost, latency."""
    shadow = frozenset(case.case_id for case in found.cases if case.shadow)
    unreviewed = found.scorers
    found = found.of_reviewed() if shadow else found
    parts = [(s, scope, rule) for s in found.scorers for scope, rule in _scopes(found.cases, s, settings)]
    blocking = 1 + sum(rule.mode is not Mode.INFORM and not _informs(s, settings) for s, _, rule in parts)
    checks = [_answered(found, blocking)]
    for scorer, scope, rule in parts:
        check = _scored(found, scorer, scope, rule, settings=settings, blocking=blocking)
        if check:
            checks.append(check)
    informs = Rule(mode=Mode.INFORM)
    for scorer in unreviewed if shadow else ():
        check = _scored(found, scorer, (SHADOW, shadow), informs, settings=settings, blocking=blocking)
        checks += [check] if check and check.cases else []
    return [*checks, *_budgets(found, settings)]


def kind_of(scorer: str, settings: GateSettings) -> Kind:
    """Return whether a scorer judges quality or safety."""
    named = {rule.scorer for rule in settings.safety} - {"*"}
    words = any(word in scorer.casefold() for word in SAFETY_WORDS)
    return "safety" if scorer in named or (words and scorer not in {r.scorer for r in settings.quality}) else "quality"


def _scopes(
    cases: Sequence[GoldenCase], scorer: ScorerValues, settings: GateSettings
) -> list[tuple[tuple[str, frozenset[str]], Rule]]:
    """Return the parts of the cases that have a separate rule, all cases first: (name and cases, rule)."""
    kind = kind_of(scorer.name, settings)
    every = frozenset(case.case_id for case in cases)
    found = [(("", every), settings.rule(kind, scorer=scorer.name, feature="", task=""))]
    for rule in settings.safety if kind == "safety" else settings.quality:
        if rule.scorer not in ("*", scorer.name) or (rule.feature == "*" and rule.task == "*"):
            continue
        chosen = [
            c for c in cases if rule.feature in ("*", c.feature or "") and rule.task in ("*", c.prompt_name or "")
        ]
        words = [f"{n} {v}" for n, v in (("feature", rule.feature), ("task", rule.task)) if v != "*"]
        found.append(((", ".join(words), frozenset(c.case_id for c in chosen)), rule))
    return found


def _informs(scorer: ScorerValues, settings: GateSettings) -> str:
    """Return why a scorer only informs; empty where it may block. A line of gate.yaml that names one lets it block."""
    if scorer.name in INFORM_ONLY and scorer.name not in {
        rule.scorer for rule in (*settings.quality, *settings.safety)
    }:
        return "informs only: it is not good enough to block; a line of gate.yaml that names it lets it block"
    if scorer.kind != "llm":
        return ""
    known = scorer.agreement
    if known is None or known.kappa is None:
        return "informs only: its agreement with people is not known"
    if known.labels < settings.judge_min_labels:
        return f"informs only: {known.labels} human labels, {settings.judge_min_labels} are needed"
    if known.kappa < settings.judge_min_kappa:
        return f"informs only: kappa {known.kappa:.2f} is below {settings.judge_min_kappa:g}"
    return ""


def _scored(
    found: Found,
    scorer: ScorerValues,
    scope: tuple[str, frozenset[str]],
    rule: Rule,
    *,
    settings: GateSettings,
    blocking: int,
) -> Check | None:
    """Return the check of one scorer on a part of the cases; None where it judges nothing and no rule names it."""
    name, ids = scope
    candidate, baseline = ({c: v[c] for c in v if c in ids} for v in (scorer.candidate, scorer.baseline))
    pairs = verdict.pair(candidate, baseline)
    named = rule.scorer != "*" or name
    if not pairs.case_ids and not named:
        return None
    why = _informs(scorer, settings)
    notes = [why] if why else []
    if left := len(ids) - len(pairs.case_ids):
        notes.append(f"{left} of {len(ids)} cases not judged on both sides")
    if scorer.failed:
        notes.append(f"{scorer.failed} samples not scored for an error of the scorer")
    mode = Mode.INFORM if why else rule.mode
    return _compared(
        (kind_of(scorer.name, settings), scorer.name, name),
        pairs,
        rule,
        mode=mode,
        found=found,
        blocking=blocking,
        notes=notes,
    )


def _compared(
    what: tuple[Kind, str, str],
    pairs: verdict.Pairs,
    rule: Rule,
    *,
    mode: Mode,
    found: Found,
    blocking: int,
    notes: list[str],
) -> Check:
    base = _mean(pairs.baseline)
    limit = rule.limit.of(base) if pairs.case_ids else rule.limit.amount
    judged = verdict.judge(pairs.differences, max(limit, 1e-9), checks=blocking)
    if judged.rules_exclude and mode is not Mode.INFORM and not judged.upper < 0:
        notes.append(
            f"with so few cases or so much noise the rule `estimate below -limit` blocks {judged.false_block_risk:.0%} "
            "of equal candidates: take more samples or more cases"
        )
    return Check(
        *what,
        mode,
        judged.verdict,
        judged.cases,
        judged.estimate,
        judged.lower,
        judged.upper,
        judged.limit,
        base,
        _mean(pairs.candidate),
        cases_needed=judged.cases_needed,
        samples_needed=verdict.samples_needed(pairs, judged, found.samples),
        false_block_risk=judged.false_block_risk,
        notes=tuple(notes),
    )


def _answered(found: Found, blocking: int) -> Check:
    """Return the check that the candidate answers as often as the baseline: a failure has no score to compare."""
    pairs = verdict.pair(*found.answered)
    return _compared(
        ("availability", "replied", ""), pairs, Rule(), mode=Mode.MUST_PASS, found=found, blocking=blocking, notes=[]
    )


def _budgets(found: Found, settings: GateSettings) -> list[Check]:
    rng = np.random.default_rng(settings.seed)

    def quantile(new: Values, old: Values, limit: float) -> budget.Change:
        return budget.quantile_change(new, old, limit, rng=rng)

    measures: list[tuple[Kind, str, Rule, tuple[Values, Values], Callable[[Values, Values, float], budget.Change]]] = [
        ("cost", "cost_usd", settings.cost, found.cost, budget.mean_change),
        ("latency", "latency_p95_ms", settings.latency_p95, found.latency, quantile),
        ("latency", "ttft_p95_ms", settings.ttft_p95, found.ttft, quantile),
    ]
    checks = []
    for kind, name, rule, values, compare in measures:
        change = compare(*values, rule.limit.amount)
        notes = []
        if not change.cases:
            notes.append(_UNKNOWN[name])
        elif change.cases < len(found.cases):
            notes.append(f"known for {change.cases} of {len(found.cases)} cases")
        checks.append(
            Check(
                kind,
                name,
                "",
                rule.mode,
                change.verdict,
                change.cases,
                change.estimate,
                change.lower,
                change.upper,
                change.limit,
                change.baseline,
                change.candidate,
                relative=True,
                notes=tuple(notes),
            )
        )
    return checks


_UNKNOWN = {
    "cost_usd": "not known: no usage was reported, or the price book has no price of a model",
    "latency_p95_ms": "not measured",
    "ttft_p95_ms": "not measured: only streamed answers have it (`stream: true`)",
}


def overall(checks: Sequence[Check]) -> tuple[Verdict, list[str]]:
    """Return the verdict over all checks, and the reasons where it is no pass."""
    counted = [(check, check.counted) for check in checks]
    judged = [c for c in checks if c.kind in ("quality", "safety") and c.counted is not None and c.cases]
    if not judged:
        regress = [reason(c) for c, v in counted if v is Verdict.REGRESS]
        why = "no scorer that may block could judge a case on both sides: name scorers, or write references"
        return (Verdict.REGRESS, regress) if regress else (Verdict.UNDECIDED, [why])
    found = verdict.overall([v for _, v in counted if v is not None])
    return found, [reason(c) for c, v in counted if v is found and found is not Verdict.PASS]


def informing(checks: Sequence[Check]) -> list[str]:
    """Return what became worse and does not block, so that it is shown beside a pass.

    Unreviewed cases have a separate warning.
    """
    worse = [c for c in checks if c.verdict is Verdict.REGRESS and c.counted is None and c.scope != SHADOW]
    return [f"worse, but informs only: {reason(check)}" for check in worse]


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
