"""The scorers: a file, a test and a line in ``scorers_with`` each. 1 is the good end of every score."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evals.scorers.answered import ANSWERED
from jobs.evals.scorers.base import ByCase, ByPerson, Kind, Scorer, digest, version_of
from jobs.evals.scorers.complete import COMPLETE
from jobs.evals.scorers.contains import CONTAINS, REGEX
from jobs.evals.scorers.cross import CrossEncoder
from jobs.evals.scorers.embedding import Embedding
from jobs.evals.scorers.exact_match import EXACT_MATCH, NORMALISED_MATCH
from jobs.evals.scorers.groundedness import Groundedness
from jobs.evals.scorers.json_valid import JSON_VALID
from jobs.evals.scorers.language import LANGUAGE
from jobs.evals.scorers.length import LENGTH
from jobs.evals.scorers.original import ORIGINAL
from jobs.evals.scorers.people import HUMAN_LABEL, KEPT, RATING, THUMBS
from jobs.evals.scorers.privacy import PRIVACY
from jobs.evals.scorers.retrieval import K, retrieval
from jobs.evals.scorers.similarity import relevance, similarity
from schemas.errors import SettingsError


def scorers_with(embedding: Embedding, cross: CrossEncoder | None = None, *, k: int = K) -> tuple[Scorer, ...]:
    """Return every scorer. Models are loaded at the first text.

    Args:
        embedding: for scorers that need vectors.
        cross: for groundedness, in place of vectors.
        k: retrieved documents from the top that are looked at.
    """
    return (
        EXACT_MATCH,
        NORMALISED_MATCH,
        CONTAINS,
        REGEX,
        JSON_VALID,
        LENGTH,
        ANSWERED,
        LANGUAGE,
        COMPLETE,
        PRIVACY,
        ORIGINAL,
        similarity(embedding),
        relevance(embedding),
        Groundedness(embedding, cross),
        *retrieval(k),
        THUMBS,
        RATING,
        KEPT,
        HUMAN_LABEL,
    )


SCORERS: tuple[Scorer, ...] = scorers_with(Embedding())
INFORM_ONLY = frozenset(("similarity", "relevance", "groundedness", "original"))
"""Scorers whose changes are shown and are no alert: ``bench/scorers.py`` measures two of them on human labels, and they
are not good enough; ``similarity`` judges edited answers only, ``original`` is low where a task repeats its input."""

__all__ = [
    "INFORM_ONLY",
    "SCORERS",
    "ByCase",
    "ByPerson",
    "CrossEncoder",
    "Embedding",
    "Kind",
    "Scorer",
    "choose",
    "digest",
    "scorers_with",
    "version_of",
]


def choose(names: Sequence[str], scorers: Sequence[Scorer] = SCORERS) -> tuple[Scorer, ...]:
    """Return the scorers called ``names``, in that order; all where there are no names.

    Raises:
        SettingsError: there is none of that name.
    """
    known = {scorer.name: scorer for scorer in scorers}
    for name in names:
        if name not in known:
            raise SettingsError("scorer", f"no scorer is called {name!r}", f"name some of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(scorers)
