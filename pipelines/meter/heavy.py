"""Which values of a dimension get a series of their own, so that a million users do not make a million series.

Tracked in a block (65,536 offsets of one partition) are the heavy hitters of the block before and the first thousand
new values of the block itself; the rest share OTHER. That is a function of the log alone: batches, restarts and
other copies of meter change nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

BLOCK = 65_536
"""Offsets of one partition."""
HEAVY = 1_000
FRESH = 1_000
_BATCHES = 64
"""A slow stream makes a batch of every call, and a block of 65,536 of them."""

Array = np.ndarray


@dataclass
class _Block:
    """One dimension of one partition. Values are 64-bit hashes: what a block needs stays under 2 MiB."""

    number: int = -1
    heavy: Array = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    fresh: Array = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    seen: list[tuple[Array, Array]] = field(default_factory=list)
    """(hashes, counts) per batch; combined when there are many, for a batch may be a single call."""


class HeavyHitters:
    """Judges every call of every partition, in offset order."""

    def __init__(self, *, heavy: int = HEAVY, fresh: int = FRESH) -> None:
        self.heavy, self.fresh = heavy, fresh
        self._blocks: dict[tuple[int, str], _Block] = {}

    def track(self, dimension: str, partition: int, offsets: Array, codes: Array, hashes: Array) -> Array:
        """Return (n,) bool: whether the value of each call has its own series.

        Args:
            dimension: its name.
            partition: source partition; calls arrive in offset order.
            offsets: (n,) int64.
            codes: (n,) index into ``hashes``, -1 = no value (False is returned).
            hashes: (v,) uint64 of the batch's distinct values, see `hash_values`.
        """
        block = self._blocks.setdefault((partition, dimension), _Block())
        tracked = np.zeros(len(codes), dtype=bool)
        for start, end in _runs(offsets // BLOCK):
            self._enter(block, int(offsets[start] // BLOCK))
            tracked[start:end] = self._judge(block, codes[start:end], hashes)
        return tracked

    def _enter(self, block: _Block, number: int) -> None:
        if number == block.number:
            return
        # a block that holds no call at all has no heavy hitters either
        block.heavy = _heaviest(block.seen, self.heavy) if number == block.number + 1 else block.heavy[:0]
        block.number, block.fresh, block.seen = number, block.fresh[:0], []

    def _judge(self, block: _Block, codes: Array, hashes: Array) -> Array:
        counts = np.bincount(codes[codes >= 0], minlength=len(hashes))
        present = np.flatnonzero(counts)
        if len(present):
            block.seen.append((hashes[present], counts[present]))
        if len(block.seen) > _BATCHES:
            block.seen = [_combined(block.seen)]
        known = np.isin(hashes[present], block.heavy) | np.isin(hashes[present], block.fresh)
        new, room = present[~known], self.fresh - len(block.fresh)
        if len(new) > room:
            first = np.full(len(hashes), len(codes))
            valued = np.flatnonzero(codes >= 0)[::-1]  # -1 would be the place of the last value
            first[codes[valued]] = valued
            new = new[np.argsort(first[new], kind="stable")][:room]
        block.fresh = np.concatenate([block.fresh, hashes[new]])
        chosen = np.zeros(len(hashes) + 1, dtype=bool)  # the last one is code -1
        chosen[present[known]] = True
        chosen[new] = True
        return np.asarray(chosen[codes])


def hash_values(values: list[Any]) -> Array:
    """(v,) uint64 of texts: the same in every process and version."""
    digests = b"".join(hashlib.blake2b(str(v).encode(), digest_size=8).digest() for v in values)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _heaviest(seen: list[tuple[Array, Array]], limit: int) -> Array:
    if not seen:
        return np.zeros(0, dtype=np.uint64)
    hashes, counts = _combined(seen)
    return np.asarray(hashes[np.lexsort((hashes, -counts))[:limit]])


def _combined(seen: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    hashes, inverse = np.unique(np.concatenate([h for h, _ in seen]), return_inverse=True)
    return hashes, np.bincount(inverse, weights=np.concatenate([c for _, c in seen]))


def _runs(values: Array) -> list[tuple[int, int]]:
    cuts = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *cuts.tolist(), len(values)]
    return [(a, b) for a, b in pairwise(edges) if b > a]
