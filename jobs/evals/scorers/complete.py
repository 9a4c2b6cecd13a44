"""Whether the answer ended by itself, and was not cut at a limit of tokens."""

from __future__ import annotations

from jobs.evals.case import Case, Score, not_judgeable, passed
from jobs.evals.scorers.base import ByCase
from pipelines.meter.measures import TRUNCATED


def complete(case: Case) -> Score:
    """0 where the finish reason shows that the answer was cut; by the same values as the live measure."""
    if case.status != "ok":
        return not_judgeable(f"the call ended as {case.status}")
    if not case.finish_reason:
        return not_judgeable("no finish reason")
    cut = case.finish_reason.casefold() in TRUNCATED
    return passed(not cut, label="truncated" if cut else "complete")


COMPLETE = ByCase("complete", complete, parameters={"truncated": TRUNCATED})
