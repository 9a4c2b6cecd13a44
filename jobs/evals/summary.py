"""Computes the numbers of the report from the scores: a plain value that every format renders. Pure.

Intervals are those of ``weights`` (linearised variance, Wilson; or a bootstrap), differences and their tests those of
``compare``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from jobs.evals.agreements import JudgeAgreement, agreements
from jobs.evals.compare import RATE, significant
from jobs.evals.decisions import Decision, decisions
from jobs.evals.lines import DIMENSIONS, Line, Row, estimates_by, lines_of
from jobs.evals.rates import Rate, rates
from schemas.variants import is_user_facing

WORST = 10
_FAILED = 0.5
"""A score below it is a failed check of the worst calls."""


@dataclass(frozen=True)
class Period:
    """Days of a run, both included, UTC."""

    since: date
    until: date
    run_id: str = ""


@dataclass(frozen=True)
class WorstCall:
    """A sampled call that failed most checks."""

    call_id: str
    app: str
    model: str | None
    failed: tuple[tuple[str, float, str], ...]
    """Scorer, score, and its label or explanation; the lowest first."""


@dataclass(frozen=True)
class Break:
    """A scorer of which another version scored the period before: its numbers begin again."""

    scorer: str
    old: str
    new: str
    """Versions."""
    old_model: str
    new_model: str
    """Models of a judge; empty: none."""


@dataclass(frozen=True)
class Coverage:
    """How many calls the numbers represent."""

    calls: int
    with_text: int
    sampled: int
    strata: int
    not_judgeable: Mapping[str, int]
    """Scorer -> sampled calls that it could not judge."""
    errors: Mapping[str, int]
    """Scorer -> sampled calls at which it failed."""
    shadow: int = 0
    """Sampled calls of shadow and canary variants: in the lines of their variants, and in no total."""


@dataclass(frozen=True)
class Summary:
    """The numbers of one report."""

    period: Period
    baseline: Period | None
    """None: no baseline yet."""
    coverage: Coverage
    lines: tuple[Line, ...]
    decisions: tuple[Decision, ...]
    """At most three."""
    unchanged: int
    """Comparisons without a significant difference."""
    compared: int
    left_out: int
    """Slices that are too many to list."""
    worst: tuple[WorstCall, ...]
    missing: tuple[str, ...]
    """Settings that would complete the report, in words."""
    rates: tuple[Rate, ...] = ()
    """Task success, hallucination, refusal, safety, retrieval, by slice."""
    agreements: tuple[JudgeAgreement, ...] = ()
    """Judges against people."""
    breaks: tuple[Break, ...] = ()
    """Scorers that changed."""


def summarise(
    rows: Sequence[Row],
    before: Sequence[Row] | None,
    *,
    period: Period,
    baseline: Period | None = None,
    missing: Sequence[str] = (),
    replicates: int = 0,
) -> Summary:
    """Return the numbers of the report.

    Args:
        rows: scores of the run.
        before: those of the run that it is compared with; None: there is none.
        period: of ``rows``.
        baseline: of ``before``.
        missing: what was not configured, in words.
        replicates: of a bootstrap; 0: intervals are Wilson's.
    """
    scored, other = _by_scorer(rows), _by_scorer(before or ())
    lines, left_out = _all_lines(scored, None if before is None else other, replicates)
    compared = sum(line.change is not None for line in lines)
    return Summary(
        period,
        baseline if before is not None else None,
        _coverage(scored),
        tuple(lines),
        decisions(lines),
        compared - sum(line.significant for line in lines),
        compared,
        left_out,
        _worst(scored),
        tuple(missing),
        _all_rates(scored, other, replicates),
        agreements(scored, other),
        tuple(_break(mine[0], other[name][0]) for name, mine in sorted(scored.items()) if _differs(mine, other, name)),
    )


def _all_lines(
    scored: Mapping[str, Sequence[Row]], other: Mapping[str, Sequence[Row]] | None, replicates: int
) -> tuple[list[Line], int]:
    """Return the lines of every scorer with what is significant over all of them, and how many slices are left out.

    ``other``: scores of the run before; None: there is none.
    """
    lines: list[Line] = []
    left_out = 0
    for scorer, mine in sorted(scored.items()):
        old = (other or {}).get(scorer)
        changed = old is not None and old[0]["version"] != mine[0]["version"]
        made, more = lines_of(mine, None if changed else old, other is None, changed, replicates=replicates)
        lines += made
        left_out += more
    tested = [i for i, line in enumerate(lines) if line.change]
    for i, flag in zip(tested, significant([_p(lines[i]) for i in tested], RATE), strict=True):
        lines[i] = replace(lines[i], significant=bool(flag))
    return lines, left_out


def _all_rates(
    scored: Mapping[str, Sequence[Row]], other: Mapping[str, Sequence[Row]], replicates: int
) -> tuple[Rate, ...]:
    found: list[Rate] = []
    for dimension in DIMENSIONS:
        estimator = partial(estimates_by, dimension, replicates=replicates)
        found += rates(scored, other, dimension=dimension, estimator=estimator)
    return tuple(found)


def _differs(mine: Sequence[Row], other: Mapping[str, Sequence[Row]], name: str) -> bool:
    return name in other and other[name][0]["version"] != mine[0]["version"]


def _break(new: Row, old: Row) -> Break:
    models = [str(row.get("judge_model") or "") for row in (old, new)]
    return Break(str(new["name"]), str(old["version"] or ""), str(new["version"] or ""), *models)


def _by_scorer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each scorer; of several versions in one run those of the version with most scores."""
    versions: defaultdict[str, defaultdict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        versions[row["name"]][row["version"] or ""].append(row)
    return {name: max(of.values(), key=lambda v: (len(v), v[0]["version"] or "")) for name, of in versions.items()}


def _p(line: Line) -> float:
    assert line.change is not None
    return line.change.p


def _coverage(scored: Mapping[str, Sequence[Row]]) -> Coverage:
    strata = {row["stratum"]: row for rows in scored.values() for row in rows}
    calls = {row["call_id"] for rows in scored.values() for row in rows}
    return Coverage(
        calls=sum(row["stratum_calls"] or 0 for row in strata.values()),
        with_text=sum(row["stratum_with_text"] or 0 for row in strata.values()),
        sampled=len(calls),
        strata=len(strata),
        not_judgeable={
            name: sum(row["score"] is None and row["error"] is None for row in rows)
            for name, rows in sorted(scored.items())
        },
        errors={name: sum(row["error"] is not None for row in rows) for name, rows in sorted(scored.items())},
        shadow=len({r["call_id"] for rows in scored.values() for r in rows if not is_user_facing(r["variant"])}),
    )


def _worst(scored: Mapping[str, Sequence[Row]]) -> tuple[WorstCall, ...]:
    failed: defaultdict[str, list[Row]] = defaultdict(list)
    for rows in scored.values():
        for row in rows:
            seen = is_user_facing(row["variant"])
            if seen and row["score"] is not None and row["score"] < _FAILED:
                failed[row["call_id"]].append(row)
    calls = sorted(failed.items(), key=lambda item: (-len(item[1]), sum(r["score"] for r in item[1]), item[0]))
    return tuple(
        WorstCall(
            call_id,
            rows[0]["app"] or "",
            rows[0]["model"],
            tuple(
                (row["name"], float(row["score"]), row["label"] or row["explanation"] or "")
                for row in sorted(rows, key=lambda row: (row["score"], row["name"]))
            ),
        )
        for call_id, rows in calls[:WORST]
    )
