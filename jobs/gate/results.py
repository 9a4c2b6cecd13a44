"""What one side did: the values of all samples by case. A report keeps them, so that the next gate can compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobs.evals.case import Case, Message, Score
from jobs.evals.scorers import Scorer
from jobs.gate.answers import Answer
from jobs.gate.golden_file import GoldenCase
from jobs.gate.measured import Values
from jobs.gate.runner import Side, failures

MEASURES = ("answered", "cost_usd", "latency_ms", "ttft_ms")


class Results(msgspec.Struct, frozen=True):
    """Of the candidate, or of the baseline."""

    name: str
    target: dict[str, Any]
    digest: str
    values: dict[str, dict[str, list[float]]]
    """Measure -> case -> known values of its samples."""
    scores: dict[str, dict[str, list[float]]]
    """Scorer -> case -> values of the samples that it could judge."""
    versions: dict[str, str]
    """Scorer -> its version."""
    texts: dict[str, list[str | None]]
    """Case -> answers, one a sample; empty where texts are left out."""
    failures: dict[str, int]
    """Why samples have no answer -> how many."""
    scorer_errors: dict[str, int]
    rendered: int
    cases: int
    cached: int


@dataclass(frozen=True)
class Scored:
    """Scores of all answers of one side."""

    scorer: Scorer
    scores: Mapping[str, Sequence[Score]]


def score(scorers: Sequence[Scorer], cases: Sequence[GoldenCase], side: Side) -> list[Scored]:
    """Score all answers of ``side``: each scorer gets all of them at once, so that it may ask for several at a time."""
    asked = [(case, answer) for case in cases for answer in side.answers[case.case_id]]
    given = [eval_case(case, answer, side.target.model or side.target.name) for case, answer in asked]
    found = []
    for scorer in scorers:
        by_case: dict[str, list[Score]] = {}
        for (case, _), result in zip(asked, scorer.score(given), strict=True):
            by_case.setdefault(case.case_id, []).append(result)
        found.append(Scored(scorer, by_case))
    return found


def eval_case(case: GoldenCase, answer: Answer, model: str) -> Case:
    """Return what a scorer gets: the case with the answer of one sample."""
    return Case(
        call_id=case.case_id,
        app=case.app,
        feature=case.feature,
        model=model,
        prompt_name=case.prompt_name,
        prompt_version=case.prompt_version,
        messages=case.messages or (Message("user", case.input_text),),
        input_text=case.input_text,
        output=answer.text,
        reference=case.reference,
        contexts=case.contexts,
        finish_reason=answer.finish_reason,
        status="ok" if answer.ok else "error",
        refused=answer.refused,
        latency_ms=answer.latency_ms,
        ttft_ms=answer.ttft_ms,
        cost_usd=answer.cost_usd,
        rubric=case.rubric,
        expect=case.expect,
    )


def results(side: Side, scored: Sequence[Scored], *, texts: bool) -> Results:
    """Return what ``side`` did.

    Args:
        side: after the run, its answers priced.
        scored: its scores.
        texts: whether answers are kept; without them no report shows what changed.
    """
    answers = side.answers
    return Results(
        side.target.name,
        side.target.facts(),
        side.target.digest,
        {name: _values(answers, name) for name in MEASURES},
        {s.scorer.name: _scores(s.scores) for s in scored},
        {s.scorer.name: s.scorer.version for s in scored},
        {case: [a.text for a in samples] for case, samples in answers.items()} if texts else {},
        dict(failures(side)),
        {s.scorer.name: n for s in scored if (n := sum(bool(x.error) for v in s.scores.values() for x in v))},
        side.rendered,
        len(answers),
        sum(answer.cached for samples in answers.values() for answer in samples),
    )


def _values(answers: Mapping[str, Sequence[Answer]], name: str) -> dict[str, list[float]]:
    if name == "answered":
        return {case: [float(a.ok) for a in samples] for case, samples in answers.items()}
    known = {c: [getattr(a, name) for a in samples] for c, samples in answers.items()}
    return {case: kept for case, values in known.items() if (kept := [float(v) for v in values if v is not None])}


def _scores(scores: Mapping[str, Sequence[Score]]) -> dict[str, list[float]]:
    return {
        case: kept for case, results in scores.items() if (kept := [s.value for s in results if s.value is not None])
    }


def measured(candidate: Results, baseline: Results, name: str) -> tuple[Values, Values]:
    """Return the values of one measure on both sides."""
    return candidate.values.get(name, {}), baseline.values.get(name, {})
