"""Whether the answer is the reference: exactly, or once case, punctuation and spaces are taken out."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from jobs.evals.case import Case, Score, not_judgeable, passed
from jobs.evals.scorers.base import ByCase, output_of


def normalise(text: str) -> str:
    """Return ``text`` in NFKC and in lower case, without punctuation, with single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(c)[0] in "PZC" else c for c in folded)
    return " ".join(kept.split())


def exact(case: Case) -> Score:
    """1 where the answer is the reference, character by character."""
    return _compare(case, str)


def normalised(case: Case) -> Score:
    """1 where they are the same after ``normalise``."""
    return _compare(case, normalise)


def _compare(case: Case, shape: Callable[[str], str]) -> Score:
    if case.reference is None:
        return not_judgeable("no reference")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    same = shape(answer) == shape(case.reference)
    return passed(same, label="match" if same else "differs")


EXACT_MATCH = ByCase("exact_match", exact)
NORMALISED_MATCH = ByCase("normalised_match", normalised)
