"""Which calls' texts are looked at: by a hash of the call id, at a rate that is a function of the log alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from schemas.rollups import Sample

BLOCK = 1_024
"""Offsets of one partition under one rate. Shorter than a heavy hitters' block: a burst after a quiet hour is
sampled at the quiet rate for a whole block, and drift embeds about a hundred texts a second."""
FIRST = 256
"""The blocks of a partition's first BLOCK offsets double from here: a fresh topic that is flooded slows down soon."""
BUCKET_US = 30_000_000
"""A rate also ends with its half minute: a flood must not starve the quiet hour after it. The time is LogAppendTime,
and event time of what was sent as history."""
TEXT_CHARS = 4_000
"""Of each text; the embedding reads fewer."""

Array = np.ndarray


def block_of(offsets: Array) -> Array:
    """(n,) int64: number of the block that contains each offset."""
    doublings = (BLOCK // FIRST).bit_length() - 1
    early = np.floor(np.log2(np.maximum(offsets, 1) / FIRST)).astype(np.int64) + 1
    return np.where(offsets < BLOCK, np.clip(early, 0, doublings), offsets // BLOCK + doublings)


def block_start(offset: int) -> int:
    """First offset of the block *before* the one that contains ``offset``: where re-reading begins."""
    if offset >= 2 * BLOCK:
        return (offset // BLOCK - 1) * BLOCK
    return 0


@dataclass
class _Block:
    number: int = -1
    bucket: int = -1
    rate: float = 1.0
    calls: int = 0
    first_time: int = 0
    latest: int = 0
    """Greatest time of the block so far, µs: event times of history are not in order."""


class Sampler:
    """Chooses calls. ``target_per_s``: samples a second and partition that a full stream shall give."""

    def __init__(self, target_per_s: float) -> None:
        self.target_per_s = target_per_s
        self._blocks: dict[int, _Block] = {}

    def rates(self, partition: int, offsets: Array, times: Array) -> Array:
        """(n,) float64: share of calls to sample; calls of ``partition`` in offset order, times µs.

        Within a block, time does not go back: a call that is older than one before it counts as that one's time.

        One rate holds for a block of offsets and half a minute; it follows from the one before, which is in the same or
        the preceding block, so that re-reading from ``block_start`` finds it again.
        """
        block = self._blocks.setdefault(partition, _Block())
        numbers, times = block_of(offsets), times.copy()
        rates = np.empty(len(offsets))
        for start, end in _runs(numbers):
            if int(numbers[start]) == block.number:
                times[start] = max(int(times[start]), block.latest)
            np.maximum.accumulate(times[start:end], out=times[start:end])
            for first, last in _runs(times[start:end] // BUCKET_US):
                at = slice(start + first, start + last)
                rates[at] = self._enter(block, int(numbers[start]), int(times[start + first]))
                block.calls += last - first
            block.latest = int(times[end - 1])
        return rates

    def _enter(self, block: _Block, number: int, time: int) -> float:
        bucket = time // BUCKET_US
        if (number, bucket) != (block.number, block.bucket):
            near = block.number <= number <= block.number + 1
            block.rate = self._rate(block, time) if near and block.calls else 1.0
            block.number, block.bucket, block.calls, block.first_time = number, bucket, 0, time
        return block.rate

    def _rate(self, block: _Block, until: int) -> float:
        seconds = max(0.1, (until - block.first_time) / 1e6)
        return min(1.0, self.target_per_s * seconds / block.calls)


def _runs(values: Array) -> list[tuple[int, int]]:
    """(start, end) of each run of equal neighbours among (n,) ``values``."""
    edges = [0, *(np.flatnonzero(np.diff(values) != 0) + 1).tolist(), len(values)]
    return [(start, end) for start, end in pairwise(edges) if end > start]


def choose(hashes: Array, rates: Array) -> Array:
    """Rows whose (n,) uint64 hash falls under their rate."""
    return np.flatnonzero(hashes.astype(np.float64) < rates * 2.0**64)


def samples(calls: pa.Table, texts: pa.Table, rates: Array, *, times: Array) -> list[Sample]:
    """Build one Sample per text: ``texts`` are redacted and name their ``row`` of ``calls``.

    In the order of ``times``, (n,) µs of each of ``calls``, over all partitions: a batch that catches up on minutes
    would send drift the same minutes once a partition, a shift would come and go with each, and the evidence with it.
    """
    order = np.argsort(times[texts["row"].to_numpy()], kind="stable")
    texts = texts.take(pa.array(order))
    rows = texts["row"].to_numpy()
    columns = ("id", "app", "ts", "_partition", "_offset", "_epoch", *_KEPT)
    facts = calls.select(list(columns)).take(texts["row"]).to_pydict()
    ts = calls["ts"].cast(pa.int64()).take(texts["row"]).to_pylist()
    sides = {side: texts[column].to_pylist() for side, column in _SIDES.items()}
    found = []
    for i, row in enumerate(rows):
        for side, column in sides.items():
            if column[i]:
                found.append(
                    Sample(
                        call_id=facts["id"][i],
                        app=facts["app"][i],
                        side=side,
                        text=column[i][:TEXT_CHARS],
                        ts=ts[i],
                        partition=facts["_partition"][i],
                        offset=facts["_offset"][i],
                        epoch=facts["_epoch"][i],
                        rate=float(rates[row]),
                        **{name: facts[name][i] for name in _KEPT},
                    )
                )
    return found


_KEPT = ("feature", "model", "tenant", "user", "prompt_version")
_SIDES = {"input": "input_text", "output": "output_text", "query": "retrieval_query"}
