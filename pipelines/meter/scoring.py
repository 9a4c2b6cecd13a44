"""The text signals over the texts that were sampled: which calls are hits, and of how many.

What is kept for comparing, per partition and app, is of the block of offsets of a text and the one
before it. So it follows from the log: `learn` over the same records gives the same memory after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipelines.meter.measures import Ints, Named, coded, integers
from pipelines.meter.sample import TEXT_CHARS, block_of, block_start
from pipelines.signals import Comparing, Scores, Signal, Sketches, Text
from schemas.rollups import SCORED


class _Memory:
    """Sketches of the last texts of one app in one partition, with the blocks that they lie in."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.blocks: Ints = np.zeros(0, np.int64)
        self.sketches: Sketches | None = None

    def before(self, block: int) -> Sketches | None:
        """Remove what comes before the block that precedes ``block``; return the rest."""
        if self.sketches is not None and len(self.blocks) and self.blocks[0] < block - 1:
            kept = self.blocks >= block - 1
            self.blocks, self.sketches = self.blocks[kept], self.sketches[kept]
        return self.sketches

    def add(self, blocks: Ints, sketches: Sketches) -> None:
        """Keep more texts, the newest last."""
        known = [] if self.sketches is None else [self.sketches]
        self.sketches = np.concatenate([*known, sketches])[-self.size :]
        self.blocks = np.concatenate([self.blocks, blocks])[-self.size :]


class Scoring:
    """Scores texts; the memory of those signals that compare is the only state."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self.signals = tuple(signals)
        self.compares = any(isinstance(signal, Comparing) for signal in signals)
        self._since: dict[int, int] = {}
        self._memories: dict[tuple[str, int, str], _Memory] = {}

    def start(self, partition: int, next_offset: int) -> None:
        """Forget ``partition``, whose next offset to count is ``next_offset``."""
        self._since[partition] = block_start(next_offset)
        self._memories = {key: memory for key, memory in self._memories.items() if key[1] != partition}

    def to_learn(self, calls: pa.Table, chosen: Ints) -> Ints:
        """Return those of the ``chosen`` rows whose texts are to be learned after a restart."""
        if not self.compares or not len(chosen):
            return chosen[:0]
        partitions, offsets = integers(calls["_partition"])[chosen], integers(calls["_offset"])[chosen]
        since = np.array([self._since.get(p, 0) for p in partitions.tolist()], np.int64)
        learned: Ints = chosen[offsets >= since]
        return learned

    def learn(self, calls: pa.Table, texts: pa.Table) -> None:
        """Keep texts that were scored before this process began."""
        if self.compares:
            self._scored(calls, texts, only_comparing=True)

    def score(self, calls: pa.Table, texts: pa.Table) -> Named:
        """Score ``texts``, which name their ``row`` of ``calls`` and are in offset order within a partition.

        Returns:
            Rows with (SCORED, side) where there is a text on a side, and with (name, side) where a signal has a hit.
        """
        return self._scored(calls, texts, only_comparing=False)

    def _scored(self, calls: pa.Table, texts: pa.Table, *, only_comparing: bool) -> Named:
        if not self.signals or not texts.num_rows:
            return coded(np.zeros(0, np.int64), [])
        rows, found, pairs = texts["row"].to_numpy(), list[int](), list[tuple[str, str]]()
        by_side: dict[str, tuple[Ints, list[Text]]] = {}
        for signal in self.signals:
            if only_comparing and not isinstance(signal, Comparing):
                continue
            if signal.side not in by_side:
                by_side[signal.side] = _of_side(signal.side, rows, texts)
                seen = np.unique(by_side[signal.side][0]).tolist()
                found, pairs = [*found, *seen], [*pairs, *[(SCORED, signal.side)] * len(seen)]
            mine, known = by_side[signal.side]
            if isinstance(signal, Comparing):
                scores = self._compared(signal, signal.name, calls, (mine, known))
            else:
                scores = signal.score(known)
            hits = mine[scores >= signal.threshold].tolist()
            found, pairs = [*found, *hits], [*pairs, *[(signal.name, signal.side)] * len(hits)]
        return coded(np.array(found, np.int64), pairs)

    def _compared(self, signal: Comparing, name: str, calls: pa.Table, mine: tuple[Ints, list[Text]]) -> Scores:
        """(n,) scores of texts, each compared with those before it in its partition and app, block by block."""
        rows, texts = mine
        sketches, scores = signal.sketches(texts), np.zeros(len(texts))
        for key, members in _groups(name, calls, rows):
            memory = self._memories.setdefault(key[:3], _Memory(signal.memory))
            earlier = memory.before(key[3])
            new = sketches[members]
            scores[members] = signal.nearest(new, new[:0] if earlier is None else earlier)
            memory.add(np.full(len(members), key[3]), new)
        self._forget(calls, rows)
        return scores

    def _forget(self, calls: pa.Table, rows: Ints) -> None:
        """Drop the memories of apps that have no text in the last two blocks of their partition."""
        partitions, offsets = integers(calls["_partition"])[rows], integers(calls["_offset"])[rows]
        for p in np.unique(partitions).tolist():
            block = int(block_of(offsets[partitions == p]).max())
            for key, memory in list(self._memories.items()):
                if key[1] == p and (not len(memory.blocks) or memory.blocks[-1] < block - 1):
                    del self._memories[key]


def _groups(name: str, calls: pa.Table, rows: Ints) -> Iterator[tuple[tuple[str, int, str, int], Ints]]:
    """Yield ((signal, partition, app, block), indices into ``rows``), the blocks of a partition ascending."""
    picked = calls.select(["app", "_partition", "_offset"]).take(pa.array(rows))
    blocks = block_of(integers(picked["_offset"])).tolist()
    partitions, apps = integers(picked["_partition"]).tolist(), picked["app"].to_pylist()
    members: dict[tuple[str, int, str, int], list[int]] = {}
    for i, (partition, app, block) in enumerate(zip(partitions, apps, blocks, strict=True)):
        members.setdefault((name, partition, app, block), []).append(i)
    for key, indices in members.items():
        yield key, np.array(indices, np.int64)


def _of_side(side: str, rows: Ints, texts: pa.Table) -> tuple[Ints, list[Text]]:
    """(n,) rows of the calls and their texts on ``side``; a document each is a text of its own."""
    inputs, outputs, documents = (texts[name].to_pylist() for name in ("input_text", "output_text", "documents"))
    pairs = list[tuple[int, Text]]()
    for row, given, answer, found in zip(rows.tolist(), inputs, outputs, documents, strict=True):
        before, docs = (given or "")[:TEXT_CHARS], [doc[:TEXT_CHARS] for doc in found or ()]
        if side == "document":
            pairs += [(row, Text(doc)) for doc in docs]
        elif side == "input" and before.strip():
            pairs.append((row, Text(before)))
        elif side == "output" and answer and answer.strip():
            pairs.append((row, Text(answer[:TEXT_CHARS], "\n".join([before, *docs]))))
    return np.array([row for row, _ in pairs], np.int64), [text for _, text in pairs]
