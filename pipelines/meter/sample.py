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
"""A rate also ends with its half minute of LogAppendTime: a flood must not starve the quiet hour after it."""
TEXT_CHARS = 4_000
"""Of each text; the embedding reads fewer."""

Array = np.ndarray


def block_of(offsets: Array) -> Array:
    """(n,) int64: number of the block that each offset lies in."""
    doublings = (BLOCK // FIRST).bit_length() - 1
    early = np.floor(np.log2(np.maximum(offsets, 1) / FIRST)).astype(np.int64) + 1
    return np.where(offsets < BLOCK, np.clip(early, 0, doublings), offsets // BLOCK + doublings)


def block_start(offset: int) -> int:
    """First offset of the block *before* the one ``offset`` lies in: where re-reading begins."""
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


class Sampler:
    """Chooses calls. ``target_per_s``: samples a second of log time and partition that a full stream shall give."""

    def __init__(self, target_per_s: float) -> None:
        self.target_per_s = target_per_s
        self._blocks: dict[int, _Block] = {}

    def rates(self, partition: int, offsets: Array, kafka_times: Array) -> Array:
        """(n,) float64: share of calls to sample; calls of ``partition`` in offset order, times µs.

        One rate holds for a block of offsets and half a minute; it follows from the one before, which lies in the
        same or the preceding block, so that re-reading from ``block_start`` finds it again.
        """
        block = self._blocks.setdefault(partition, _Block())
        numbers, buckets = block_of(offsets), kafka_times // BUCKET_US
        rates = np.empty(len(offsets))
        changes = np.flatnonzero((np.diff(numbers) != 0) | (np.diff(buckets) != 0)) + 1
        edges = [0, *changes.tolist(), len(offsets)]
        for start, end in pairwise(edges):
            if end > start:
                rates[start:end] = self._enter(block, int(numbers[start]), int(kafka_times[start]))
                block.calls += end - start
        return rates

    def _enter(self, block: _Block, number: int, kafka_time: int) -> float:
        bucket = kafka_time // BUCKET_US
        if (number, bucket) != (block.number, block.bucket):
            near = block.number <= number <= block.number + 1
            block.rate = self._rate(block, kafka_time) if near and block.calls else 1.0
            block.number, block.bucket, block.calls, block.first_time = number, bucket, 0, kafka_time
        return block.rate

    def _rate(self, block: _Block, until: int) -> float:
        seconds = max(0.1, (until - block.first_time) / 1e6)
        return min(1.0, self.target_per_s * seconds / block.calls)


def choose(hashes: Array, rates: Array) -> Array:
    """Rows whose (n,) uint64 hash falls under their rate."""
    return np.flatnonzero(hashes.astype(np.float64) < rates * 2.0**64)


def samples(calls: pa.Table, texts: pa.Table, rates: Array) -> list[Sample]:
    """Build one Sample per text: ``texts`` are redacted and name their ``row`` of ``calls``.

    In the order of log time over all partitions: a batch that catches up on minutes would send drift the same
    minutes once a partition, a shift would come and go with each, and the evidence with it.
    """
    times = calls["_kafka_time"].cast(pa.int64()).take(texts["row"]).to_numpy()
    texts = texts.take(pa.array(np.argsort(times, kind="stable")))
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
