"""Which candidates are added to a set, so that the topics of the traffic are covered in proportion. Pure.

Case by case: first every topic without a case gets one, the largest topic first. Then most cases are added where the
existing ones are farthest from the questions of the traffic: a greedy maximum of the facility location function over
the distinct texts of the sample (H. Lin, J. Bilmes, "A class of submodular functions for document summarization",
2011), which finds rare questions that no cluster shows. Then every stratum (app, feature, kind of reason) without a
case gets one, then calls that did not fail get their share; the rest goes to the topic that has the fewest cases for
its traffic (Sainte-Laguë's quotients). Failed calls come before others. A candidate that paraphrases a case is left
out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from jobs.golden.cases import HEALTHY, Row
from jobs.golden.topics import SAME, Topics
from pipelines.drift.vectors import Floats

SPREAD = 0.75
"""Share of the new cases chosen where the set is farthest from the traffic (bench/golden)."""
FAILED = 1.5
"""A failed call counts as much more there than one that did not fail."""


class Cover:
    """Fills the free slots of a set, once."""

    def __init__(
        self,
        topics: Topics,
        kept: tuple[Sequence[Row], Floats],
        candidates: tuple[Sequence[Row], Floats],
        total: int,
    ) -> None:
        """Take the cases that stay and those that may be added, the most severe first, with their vectors (n, d).

        Args:
            topics: of the traffic.
            kept: cases that stay.
            candidates: cases that may come in.
            total: slots.
        """
        self.same = 0
        """Candidates that were left out because they paraphrase a case."""
        self._cases, self._vectors = candidates
        self._healthy = [bool(case["reasons"] == [HEALTHY]) for case in self._cases]
        self._strata = [str(case["stratum"]) for case in self._cases]
        self._shares, self._topics = topics.shares, topics.of(self._vectors).tolist()
        self._distinct = topics.distinct
        self._in_topic = np.bincount(topics.of(kept[1]), minlength=len(topics.shares))
        self._in_stratum = Counter(str(case["stratum"]) for case in kept[0])
        self._open = [True] * len(self._cases)
        self._taken: list[int] = []
        self._total = total
        self._known = np.concatenate([kept[1], np.zeros((total, self._vectors.shape[1]), dtype=np.float32)])
        self._count = len(kept[1])

    def fill(self, healthy: int) -> list[Row]:
        """Return what comes in.

        Args:
            healthy: slots for calls that did not fail; topics without a failed call get some beside these, at most
                half of all slots.
        """
        self._floor()
        self._spread(int(SPREAD * self._total))
        self._each_stratum()
        self._in_proportion(healthy - sum(self._healthy[i] for i in self._taken), healthy=True)
        self._in_proportion(self._total, healthy=False)
        return [self._cases[i] for i in self._taken]

    def _floor(self) -> None:
        """Give a slot to each topic without a case."""
        rows = self._by_topic(range(len(self._cases)))
        for topic in np.argsort(-self._shares, kind="stable").tolist():
            if not self._in_topic[topic] and self._shares[topic]:
                here = sorted(rows[topic], key=lambda i: self._healthy[i])  # failed calls first
                self._first(i for i in here if self._healthy_left or not self._healthy[i])

    def _spread(self, slots: int) -> None:
        """Give slots, up to ``slots`` in all, to what brings the cases nearest to the texts of the sample."""
        near = _closeness(self._vectors, self._distinct)  # (candidates, texts)
        best = _closeness(self._known[: self._count], self._distinct).max(axis=0, initial=0.0)
        factor = np.where(self._healthy, 1.0, FAILED).astype(np.float32)
        open_ = np.array(self._open)
        while len(self._taken) < slots:
            gain = np.maximum(near - best, 0.0).sum(axis=1) * factor * open_
            if not self._healthy_left:
                gain[np.array(self._healthy)] = 0.0
            i = int(gain.argmax())
            if gain[i] <= 0.0:
                return
            open_[i] = False
            if self._first([i]) is not None:
                best = np.maximum(best, near[i])

    def _each_stratum(self) -> None:
        """Give a slot to each stratum without a case, the most numerous first."""
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for i in range(len(self._cases)):
            if not self._healthy[i]:
                rows[self._strata[i]].append(i)
        for stratum in sorted(rows, key=lambda name: (-len(rows[name]), name)):
            if not self._in_stratum[stratum]:
                self._first(rows[stratum])

    def _in_proportion(self, slots: int, *, healthy: bool) -> None:
        """Give ``slots`` to the topics that have the fewest cases for their share."""
        rows = self._by_topic(i for i in range(len(self._cases)) if self._healthy[i] == healthy)
        while rows and slots > 0 and len(self._taken) < self._total:
            topic = max(rows, key=lambda t: (self._shares[t] / (self._in_topic[t] + 0.5), -t))
            here = [i for i in rows[topic] if self._open[i]]
            took = self._first(sorted(here, key=lambda i: (self._in_stratum[self._strata[i]], i)))
            if took is None:
                del rows[topic]
            slots -= took is not None

    @property
    def _healthy_left(self) -> bool:
        return sum(self._healthy[i] for i in self._taken) < self._total // 2

    def _by_topic(self, of: Iterable[int]) -> dict[int, list[int]]:
        rows: defaultdict[int, list[int]] = defaultdict(list)
        for i in of:
            rows[self._topics[i]].append(i)
        return rows

    def _first(self, rows: Iterable[int]) -> int | None:
        """Take the first of ``rows`` that does not paraphrase a case; those before it are left out for good."""
        for i in rows:
            if len(self._taken) == self._total:
                return None
            if not self._open[i]:
                continue
            self._open[i] = False
            if float((self._known[: self._count] @ self._vectors[i]).max(initial=-1.0)) >= SAME:
                self.same += 1
                continue
            self._taken.append(i)
            self._known[self._count] = self._vectors[i]
            self._count += 1
            self._in_topic[self._topics[i]] += 1
            self._in_stratum[self._strata[i]] += 1
            return i
        return None


def _closeness(vectors: Floats, texts: Floats) -> Floats:
    """Return the squared cosines of ``vectors`` (n, d) to ``texts`` (m, d), 0 for those that are apart: (n, m)."""
    found: Floats = np.maximum(vectors @ texts.T, 0.0) ** 2
    return found
