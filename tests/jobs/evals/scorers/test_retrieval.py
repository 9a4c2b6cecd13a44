"""Recall, precision and nDCG of retrieved documents, by hand-made rankings."""

from __future__ import annotations

import pytest

from jobs.evals.case import Case, Context, Score
from jobs.evals.scorers.retrieval import retrieval


def judge(labels: str, k: int = 2, *, missed: int = 0, ranks: bool = True) -> dict[str, Score]:
    """``labels``: one letter a document: r relevant, n not, ? not labelled."""
    known = {"r": True, "n": False, "?": None}
    docs = [Context(str(i), rank=i + 1 if ranks else None, relevant=known[c]) for i, c in enumerate(labels)]
    docs += [Context(f"m{i}", relevant=True) for i in range(missed)]
    case = Case("c", contexts=tuple(reversed(docs)) if ranks else tuple(docs))
    return {scorer.name.removeprefix("retrieval_"): scorer.score([case])[0] for scorer in retrieval(k)}


def test_the_first_k_of_the_ranking_count() -> None:
    found = judge("rnrn")
    assert (found["recall"].value, found["precision"].value) == (0.5, 0.5)
    assert found["ndcg"].value == pytest.approx(1 / (1 + 1 / 1.584962500721156))
    assert judge("rrnn")["ndcg"].value == 1.0
    assert judge("rrnn", ranks=False)["recall"].value == 1.0
    assert judge("nnrr")["precision"].value == 0.0


def test_a_document_without_a_label_is_neither_right_nor_wrong() -> None:
    assert judge("?r?nr")["precision"].value == 0.5
    assert judge("????")["precision"].not_judgeable == "no document is labelled"
    assert judge("")["ndcg"].not_judgeable == "no document is labelled"


def test_what_cannot_be_known_is_not_judgeable() -> None:
    found = judge("rn")
    assert found["recall"].not_judgeable.startswith("only the first documents are labelled")
    assert judge("nn")["recall"].not_judgeable == "no document is labelled as relevant"
    assert judge("nn")["precision"].value == 0.0


def test_a_relevant_document_that_was_not_retrieved_lowers_the_recall() -> None:
    assert judge("rn", missed=1)["recall"].value == 0.5
    assert judge("nn", missed=1)["ndcg"].value == 0.0


def test_another_k_is_another_version() -> None:
    assert {s.version for s in retrieval(3)}.isdisjoint({s.version for s in retrieval(5)})
