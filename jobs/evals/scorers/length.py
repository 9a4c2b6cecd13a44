"""Whether the length of the answer is within the limits that were set, and whether there is an answer at all."""

from __future__ import annotations

from jobs.evals.case import Case, Score, not_judgeable, passed
from jobs.evals.scorers.base import ByCase, output_of


def length(case: Case) -> Score:
    """1 where the answer has at least ``min_chars`` and at most ``max_chars`` characters, blanks at its ends apart."""
    low, high = case.expect.min_chars, case.expect.max_chars
    if low is None and high is None:
        return not_judgeable("no limit of length")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    count = len(answer.strip())
    if low is not None and count < low:
        return passed(False, label="too_short", explanation=f"{count} characters, at least {low} wanted")
    if high is not None and count > high:
        return passed(False, label="too_long", explanation=f"{count} characters, at most {high} wanted")
    return passed(True, label="within")


LENGTH = ByCase("length", length)
