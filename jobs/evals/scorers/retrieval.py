"""How good the retrieved documents are, where people or the app labelled them: recall, precision and nDCG at k.

The labels are ``retrieval.docs[].relevant`` of the event, or those of a golden case. A document without a label is not
judged: it is removed from the ranking before anything is counted ("condensed list": Sakai 2007, "Alternatives to
Bpref", SIGIR), so that it is neither right nor wrong. The ranking is by ``rank``; where no document has one, it is the
order of the list. A relevant document without a rank, beside others with one, was not retrieved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from jobs.evals.case import Case, Context, Score, not_judgeable
from jobs.evals.scorers.base import ByCase

K = 5
"""Documents from the top that are looked at."""


def ranking(case: Case) -> tuple[list[bool], int]:
    """Return the labels of the retrieved documents, the best rank first, and how many relevant ones there are."""
    labelled = [doc for doc in case.contexts if doc.relevant is not None]
    ranked = any(doc.rank is not None for doc in case.contexts)
    found = [doc for doc in labelled if doc.rank is not None or not ranked]
    found.sort(key=_rank)
    return [bool(doc.relevant) for doc in found], sum(bool(doc.relevant) for doc in labelled)


def _rank(doc: Context) -> int:
    return doc.rank if doc.rank is not None else 0


def recall(labels: Sequence[bool], relevant: int, k: int) -> Score:
    """Share of the relevant documents that are among the first k."""
    if not relevant:
        return not_judgeable("no document is labelled as relevant")
    if len(labels) <= k and relevant == sum(labels):
        return not_judgeable("only the first documents are labelled: what was missed is not known")
    return _score(sum(labels[:k]) / relevant, k)


def precision(labels: Sequence[bool], relevant: int, k: int) -> Score:
    """Share of the first k documents that are relevant; of fewer documents their share."""
    del relevant
    return _score(sum(labels[:k]) / min(k, len(labels)), k) if labels else not_judgeable("no retrieved document")


def ndcg(labels: Sequence[bool], relevant: int, k: int) -> Score:
    """Discounted gain of the first k over that of the best order (Järvelin and Kekäläinen 2002, TOIS 20(4))."""
    if not relevant:
        return not_judgeable("no document is labelled as relevant")
    gain = sum(1 / math.log2(i + 2) for i, good in enumerate(labels[:k]) if good)
    best = sum(1 / math.log2(i + 2) for i in range(min(k, relevant)))
    return _score(gain / best, k)


def _score(value: float, k: int) -> Score:
    return Score(min(1.0, value), f"at_{k}")


def at_k(name: str, measure: Callable[[Sequence[bool], int, int], Score], k: int) -> ByCase:
    """Return the scorer ``name``; another k is another version."""

    def judge(case: Case) -> Score:
        if not any(doc.relevant is not None for doc in case.contexts):
            return not_judgeable("no document is labelled")
        return measure(*ranking(case), k)

    return ByCase(name, judge, parameters={"k": k})


def retrieval(k: int = K) -> tuple[ByCase, ...]:
    """Return the scorers of the retrieved documents."""
    return (
        at_k("retrieval_recall", recall, k),
        at_k("retrieval_precision", precision, k),
        at_k("retrieval_ndcg", ndcg, k),
    )
