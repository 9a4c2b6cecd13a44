"""Whether the answer holds what it must, and nothing that it must not."""

from __future__ import annotations

import re

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.scorers.base import ByCase, output_of

_MOST_CHARS = 100_000
"""Characters that an expression is matched against: the expression is the operator's, the text is not."""


def contains(case: Case) -> Score:
    """Share of the texts that are in the answer, or not in it where they must not be; case does not count."""
    expect = case.expect
    if not (expect.contains or expect.excludes):
        return not_judgeable("no text to look for")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    folded = answer.casefold()
    missing = [text for text in expect.contains if text.casefold() not in folded]
    found = [text for text in expect.excludes if text.casefold() in folded]
    wrong, total = len(missing) + len(found), len(expect.contains) + len(expect.excludes)
    words = [f"missing: {text[:60]}" for text in missing] + [f"must not be there: {text[:60]}" for text in found]
    return Score(1 - wrong / total, "complete" if not wrong else "incomplete", "; ".join(words)[:200])


def regex(case: Case) -> Score:
    """Share of the expressions that are found in the first 100,000 characters of the answer."""
    if not case.expect.regex:
        return not_judgeable("no expression to look for")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    try:
        compiled = [re.compile(text) for text in case.expect.regex]
    except (re.error, RecursionError, OverflowError) as error:
        return Score(error=f"an expression cannot be compiled: {error}"[:200])
    found = [pattern.search(answer[:_MOST_CHARS]) is not None for pattern in compiled]
    return Score(sum(found) / len(found), "match" if all(found) else "no_match")


CONTAINS = ByCase("contains", contains)
REGEX = ByCase("regex", regex)
