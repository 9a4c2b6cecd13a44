"""Whether the sentences of the answer are supported by the retrieved texts.

Without retrieved text the case is not judgeable. The score is the mean over the sentences of the answer. There are two
ways to find the support of a sentence:

- *similarity* (the default): how similar its most similar sentence of the retrieved texts is (cosine of MiniLM), and
  which share of its numbers and names is found there. A sentence with the same words and the opposite meaning scores
  high. On human labels (``bench/scorers.py``, QUICK: 300 answers of RefChecker, true statements in place of the
  source): AUROC 0.75 for "has an unsupported claim", against 0.66 of a rule that looks at the length only; below 0.5
  precision 0.84 and recall 0.14. That is not good enough to alert on: it misses six of seven.
- *entailment*: the largest probability, over passages of the retrieved texts, that the passage entails the sentence,
  by a cross-encoder of the setting ``evals.nli_model`` (SummaC-ZS: Laban, Schnabel, Bennett, Hearst 2022, "SummaC:
  Re-Visiting NLI-based Models for Inconsistency Detection in Summarization", TACL 10).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.scorers.base import Kind, output_of, version_of
from jobs.evals.scorers.cross import CrossEncoder
from jobs.evals.scorers.embedding import Embedding
from pipelines.drift.vectors import Floats

_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
_FACT = re.compile(r"\d[\d.,:/%-]*\d%?|\d%?|\b[A-Z\u00c0-\u00de][\w'-]{1,60}")
_MOST_SENTENCES, _MOST_SOURCES, _MOST_CHARS = 30, 200, 600
_LOW, _HIGH = 0.25, 0.75
"""Cosines of MiniLM below which a sentence has no support, and above which it has all."""
_OPENERS = frozenset(
    ("the", "a", "an", "this", "that", "these", "those", "it", "he", "she", "they", "we", "i", "you", "in", "on", "at")
)

_GROUNDED = 0.5
_TOGETHER = 16
"""Cases whose sentences go to the model together: at most 16 x 230 vectors of 1.5 kB."""
_WINDOW_CHARS, _MOST_WINDOWS = 1_200, 12
"""Of a passage: 300 tokens, so that passage and sentence fit into the 512 of most models; and passages of a case."""


@dataclass(frozen=True)
class Parts:
    """What is compared in one case."""

    claims: Sequence[str]
    sources: Sequence[str]
    whole: str
    """All retrieved texts."""


class Groundedness:
    """Scores how far the retrieved texts support the answer."""

    name = "groundedness"
    kind: Kind = "embedding"

    def __init__(self, embedding: Embedding, cross: CrossEncoder | None = None) -> None:
        """Take the model of embeddings, and the cross-encoder that is used in its place."""
        self._embedding, self._cross = embedding, cross
        self.model = cross.model if cross else embedding.model
        way = {"entailment": self.model} if cross else {"model": self.model}
        self.version = version_of((__name__,), way)

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Score ``cases``; the sentences of several cases go to the model together."""
        return [
            score
            for start in range(0, len(cases), _TOGETHER)
            for score in self._scored([parts_of(case) for case in cases[start : start + _TOGETHER]])
        ]

    def _scored(self, parts: Sequence[Parts | Score]) -> Sequence[Score]:
        judged = [part for part in parts if isinstance(part, Parts)]
        found = iter(self._entailed(judged) if self._cross else self._similar(judged))
        return [part if isinstance(part, Score) else _score(part.claims, next(found)) for part in parts]

    def _similar(self, parts: Sequence[Parts]) -> list[Floats]:
        vectors = self._embedding.vectors([text for part in parts for text in (*part.claims, *part.sources)])
        found, at = [], 0
        for part in parts:
            middle, end = at + len(part.claims), at + len(part.claims) + len(part.sources)
            found.append(supports(part.claims, vectors[at:middle], part.whole, vectors[middle:end]))
            at = end
        return found

    def _entailed(self, parts: Sequence[Parts]) -> list[Floats]:
        assert self._cross is not None
        passages = [passages_of(part.sources) for part in parts]
        pairs = [
            (passage, claim)
            for part, mine in zip(parts, passages, strict=True)
            for claim in part.claims
            for passage in mine
        ]
        values = self._cross.support(pairs)
        found, at = [], 0
        for part, mine in zip(parts, passages, strict=True):
            end = at + len(part.claims) * len(mine)
            found.append(values[at:end].reshape(len(part.claims), len(mine)).max(axis=1))
            at = end
        return found


def parts_of(case: Case) -> Parts | Score:
    """Return the sentences of ``case``, or why it cannot be judged."""
    sources = sentences("\n".join(case.context_texts), _MOST_SOURCES)
    if not sources:
        return not_judgeable("no retrieved text")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    claims = sentences(answer, _MOST_SENTENCES)
    return Parts(claims, sources, " ".join(case.context_texts)) if claims else not_judgeable("no answer text")


def _score(claims: Sequence[str], support: Floats) -> Score:
    value = min(1.0, max(0.0, float(support.mean())))
    weakest = claims[int(support.argmin())]
    label = "grounded" if value >= _GROUNDED else "ungrounded"
    return Score(value, label, "" if value >= _GROUNDED else f"least supported: {weakest}"[:200])


def passages_of(sentences: Sequence[str], most_chars: int = _WINDOW_CHARS, most: int = _MOST_WINDOWS) -> list[str]:
    """Return consecutive ``sentences`` joined to passages of about ``most_chars`` at most, at most ``most`` of them."""
    found: list[str] = []
    for sentence in sentences:
        if found and len(found[-1]) + len(sentence) < most_chars:
            found[-1] += f" {sentence}"
        elif len(found) == most:
            break
        else:
            found.append(sentence)
    return found


def supports(claims: Sequence[str], vectors: Floats, source: str, known: Floats) -> Floats:
    """Return (n,) the support of each claim, 0..1: similarity, averaged with the share of its facts in ``source``."""
    similar = np.clip(((vectors @ known.T).max(axis=1) - _LOW) / (_HIGH - _LOW), 0.0, 1.0)
    folded = source.casefold()
    overlaps = [overlap(claim, folded) for claim in claims]
    return np.array([s if o is None else (s + o) / 2 for s, o in zip(similar, overlaps, strict=True)], dtype=np.float32)


def overlap(claim: str, source: str) -> float | None:
    """Return the share of the numbers and names of ``claim`` that are in ``source``; None where it has none."""
    facts = {fact.casefold() for fact in _FACT.findall(claim)} - _OPENERS
    return sum(fact in source for fact in facts) / len(facts) if facts else None


def sentences(text: str, most: int) -> list[str]:
    """Return the sentences of ``text`` that have a word, at most ``most``, each cut to 600 characters."""
    parts = (part.strip()[:_MOST_CHARS] for part in _SENTENCE.split(text[: most * _MOST_CHARS]))
    return [part for part in parts if sum(map(str.isalnum, part)) >= 2][:most]
