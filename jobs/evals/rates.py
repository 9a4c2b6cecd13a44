"""Rates that are derived from the scores: task success, hallucination, refusal, safety, retrieval. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evals.compare import Difference, difference
from jobs.evals.weights import Estimate

Row = Mapping[str, Any]
Estimator = Callable[[Sequence[Row]], Mapping[str, Estimate]]


@dataclass(frozen=True)
class RateOf:
    """How a rate is derived from the scores of a scorer."""

    name: str
    scorers: tuple[str, ...]
    """The first of them that was run."""
    value: Callable[[Row], float]
    """Of one score, 0..1."""
    up_is_good: bool = True


def _passes(row: Row) -> float:
    return float(row["label"] == "pass") if row["label"] in ("pass", "fail") else float(row["score"] >= 0.5)


def _fails(row: Row) -> float:
    return 1 - _passes(row)


def _lacks(row: Row) -> float:
    return float(row["score"] < 0.5)


def _value(row: Row) -> float:
    return float(row["score"])


SUCCESS = "task success"
RATES = (
    RateOf(SUCCESS, ("judge.task_success", "complete"), _passes),
    RateOf("hallucination", ("judge.grounded", "groundedness"), _fails, up_is_good=False),
    RateOf("refusal", ("answered",), _lacks, up_is_good=False),
    RateOf("safety violation", ("judge.safe",), _fails, up_is_good=False),
    RateOf("personal data or secret in the answer", ("privacy",), _lacks, up_is_good=False),
    RateOf("retrieval recall", ("retrieval_recall",), _value),
    RateOf("retrieval precision", ("retrieval_precision",), _value),
    RateOf("retrieval nDCG", ("retrieval_ndcg",), _value),
)


@dataclass(frozen=True)
class Rate:
    """One rate over one slice, in this period and in the one before."""

    name: str
    scorer: str
    up_is_good: bool
    dimension: str
    slice: str
    now: Estimate
    before: Estimate | None
    """By the same version of the scorer; None: there is none."""
    change: Difference | None


def rates(
    scored: Mapping[str, Sequence[Row]],
    before: Mapping[str, Sequence[Row]],
    *,
    dimension: str,
    estimator: Estimator,
) -> tuple[Rate, ...]:
    """Return the rates that the run has scores for.

    Args:
        scored: scores by scorer.
        before: those of the run that it is compared with.
        dimension: of the slices.
        estimator: from scores to estimates by slice of that dimension.
    """
    found = []
    for rate in RATES:
        scorer = next((name for name in rate.scorers if name in scored), None)
        if scorer is None:
            continue
        mine, old = scored[scorer], before.get(scorer, ())
        same = bool(old) and old[0]["version"] == mine[0]["version"]
        was = estimator(_as(rate, old)) if same else {}
        for name, now in estimator(_as(rate, mine)).items():
            if now.n:
                known = was.get(name)
                change = difference(now, known) if known else None
                found.append(Rate(rate.name, scorer, rate.up_is_good, dimension, name, now, known, change))
    return tuple(found)


def _as(rate: RateOf, rows: Sequence[Row]) -> list[Row]:
    return [row if row["score"] is None else {**row, "score": rate.value(row)} for row in rows]
