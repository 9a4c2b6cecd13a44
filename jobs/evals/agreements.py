"""Judges against people, over the calls of a run that both judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evals.judge.agreement import Agreement, agreement

Row = Mapping[str, Any]
PEOPLE = ("human_label", "thumbs", "rating")
"""Scorers whose score is the judgement of a person; the first of them that a call has is used."""
_GOOD = 0.5


@dataclass(frozen=True)
class JudgeAgreement:
    """One judge in this period and in the one before."""

    scorer: str
    version: str
    now: Agreement
    before: Agreement | None
    """None: no scores of the same version."""


def agreements(scored: Mapping[str, Sequence[Row]], before: Mapping[str, Sequence[Row]]) -> tuple[JudgeAgreement, ...]:
    """Return the agreement of each judge; scores by scorer."""
    people, earlier = _people(scored), _people(before)
    found = []
    for name, rows in sorted(scored.items()):
        if rows[0].get("kind") != "llm" and not name.startswith("judge."):
            continue
        version, old = rows[0]["version"], before.get(name, ())
        known = _agreement(old, earlier) if old and old[0]["version"] == version else None
        found.append(JudgeAgreement(name, version or "", _agreement(rows, people), known))
    return tuple(found)


def _people(scored: Mapping[str, Sequence[Row]]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for name in PEOPLE:
        for row in scored.get(name, ()):
            if row["score"] is not None:
                found.setdefault(row["call_id"], row["score"] >= _GOOD)
    return found


def _agreement(rows: Sequence[Row], people: Mapping[str, bool]) -> Agreement:
    both = [row for row in rows if row["score"] is not None and row["call_id"] in people]
    passed = [row["label"] == "pass" if row["label"] in ("pass", "fail") else row["score"] >= _GOOD for row in both]
    return agreement(passed, [people[row["call_id"]] for row in both], [float(row["score"]) for row in both])
