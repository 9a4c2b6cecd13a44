"""Similarity of the answer to a reference, and relevance of the answer to the question, by embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.scorers.base import Kind, output_of, version_of
from jobs.evals.scorers.embedding import Embedding

Texts = tuple[str, str]
_MOST_CHARS = 4_000
"""The model reads 128 tokens; more characters have no effect."""


class Pairs:
    """Scores the cosine of two texts of a case, from -1..1 to 0..1."""

    kind: Kind = "embedding"

    def __init__(self, name: str, pair: Callable[[Case], Texts | Score], embedding: Embedding) -> None:
        """Take the metric's name, the function that chooses the texts, and the model."""
        self.name = name
        self._pair, self._embedding = pair, embedding
        self.model = embedding.model
        self.version = version_of((__name__,), {"name": name, "model": self.model})

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Score ``cases``; the texts of all are embedded together."""
        pairs = [self._pair(case) for case in cases]
        texts = [text[:_MOST_CHARS] for pair in pairs if not isinstance(pair, Score) for text in pair]
        vectors = self._embedding.vectors(texts)
        cosines = iter((vectors[0::2] * vectors[1::2]).sum(axis=1)) if len(vectors) else iter(())
        return [pair if isinstance(pair, Score) else _score(float(next(cosines))) for pair in pairs]


def _score(cosine: float) -> Score:
    return Score(float(np.clip((1 + cosine) / 2, 0.0, 1.0)))


def to_reference(case: Case) -> Texts | Score:
    """Return answer and reference."""
    if not (case.reference or "").strip():
        return not_judgeable("no reference")
    return _with_answer(case, case.reference or "")


def to_question(case: Case) -> Texts | Score:
    """Return answer and question."""
    if not (case.input_text or "").strip():
        return not_judgeable("no question")
    return _with_answer(case, case.input_text or "")


def _with_answer(case: Case, other: str) -> Texts | Score:
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    return (answer, other) if answer.strip() else not_judgeable("no answer text")


def similarity(embedding: Embedding) -> Pairs:
    """Return the scorer of the similarity to the reference: (1 + cosine) / 2."""
    return Pairs("similarity", to_reference, embedding)


def relevance(embedding: Embedding) -> Pairs:
    """Return the scorer of the relevance of the answer to the question: (1 + cosine) / 2.

    It shows that answers do not concern the question. It does not show that they are right, and is not used for alerts:
    on HaluEval it does not separate hallucinated answers from others (AUROC 0.40, the length alone 0.50;
    bench/scorers.py).
    """
    return Pairs("relevance", to_question, embedding)
