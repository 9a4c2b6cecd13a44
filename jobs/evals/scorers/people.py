"""Judgements of people as scores: thumbs, ratings, edits and labels.

People who give feedback are no random sample of the users: the coverage beside the mean shows how few they are. Compare
a mean with that of another week, not with the mean of another scorer.
"""

from __future__ import annotations

from collections import Counter

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.scorers.base import ByPerson

_MOST_WORDS = 20_000
_GOOD = ("good", "pass", "passed", "correct", "yes", "true", "ok", "helpful")
_BAD = ("bad", "fail", "failed", "failure", "incorrect", "wrong", "no", "false", "unhelpful")


def thumbs(case: Case) -> Score:
    """1 for a thumb up, 0 for a thumb down; the last one counts."""
    said = [o.score for o in case.opinions if o.kind == "thumbs" and o.score is not None]
    if not said:
        return not_judgeable("no thumb")
    up = said[-1] > 0
    return Score(float(up), "up" if up else "down")


def rating(case: Case) -> Score:
    """The last rating, 0..1."""
    said = [o.score for o in case.opinions if o.kind == "rating" and o.score is not None and 0 <= o.score <= 1]
    return Score(float(said[-1])) if said else not_judgeable("no rating in 0..1")


def kept(case: Case) -> Score:
    """Share of the words that the user's last edit kept: words in common / words of the longer text."""
    said = [o.edited for o in case.opinions if o.kind == "edit" and o.edited is not None]
    if not said:
        return not_judgeable("no edit")
    if case.output is None:
        return not_judgeable("no answer text")
    answer, edited = (text.casefold().split()[:_MOST_WORDS] for text in (case.output, said[-1]))
    longer = max(len(answer), len(edited))
    if not longer:
        return not_judgeable("no words")
    return Score((Counter(answer) & Counter(edited)).total() / longer)


def human_label(case: Case) -> Score:
    """Mean of people's eval events: their score in 0..1, else a label that means good or bad."""
    values = [value for o in case.opinions if o.kind == "label" and (value := _value(o.score, o.label)) is not None]
    return Score(sum(values) / len(values)) if values else not_judgeable("no label of a person")


def _value(score: float | None, label: str | None) -> float | None:
    if score is not None:
        return float(score) if 0 <= score <= 1 else None
    word = (label or "").strip().casefold()
    return 1.0 if word in _GOOD else 0.0 if word in _BAD else None


THUMBS = ByPerson("thumbs", thumbs)
RATING = ByPerson("rating", rating)
KEPT = ByPerson("kept", kept)
HUMAN_LABEL = ByPerson("human_label", human_label)
