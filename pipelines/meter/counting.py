"""The state of meter's partitions, and one batch through it: records in, messages out. No I/O, no clock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.decode import DuplicateWindow, Metered, Redaction, decode_metered
from pipelines.meter import measures, sample, wire
from pipelines.meter.heavy import BLOCK, HeavyHitters, hash_values
from pipelines.meter.plan import Plan
from pipelines.meter.rollup import encoded, roll_up
from pipelines.meter.scoring import Scoring
from pipelines.pricing import PriceBooks
from pipelines.signals import Signal
from schemas.records import Records
from schemas.rollups import SPAN_KEY, Sample, SourceTick, Tick

MOST_SPANS = 64
"""Of a partition and batch. By the brokers' time a book is followed by another once; where producers set the time, the
book may change with every record, and each span is a message for every app."""

Array = np.ndarray


@dataclass(frozen=True)
class Counted:
    """What one batch became. Each range of offsets has one message with the key "*": together they cover the log."""

    rollups: list[wire.Message]
    samples: list[Sample]
    calls: int
    dead: int
    dups: int


@dataclass(frozen=True)
class Piece:
    """What a part of a batch became."""

    rollups: dict[str, pa.Table]
    """App -> rows of ROLLUP; series that span apps are left out."""
    samples: list[Sample]


@dataclass(frozen=True)
class _Times:
    """Of (n,) calls: the partition, and the lesser of event time and append time (µs UTC)."""

    partitions: Array
    capped: Array

    @classmethod
    def of(cls, table: pa.Table) -> _Times:
        times = np.minimum(measures.integers(table["ts"]), measures.integers(table["_kafka_time"]))
        return cls(measures.integers(table["_partition"]), times)

    def part(self, first: int, end: int) -> _Times:
        return _Times(self.partitions[first:end], self.capped[first:end])


class Counting:
    """The state of one meter: duplicates, heavy hitters, sampling rates, ticks. All but ``busy_wall`` follow from
    the log, so it is rebuilt by `learn` from the records before the first one to count.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        epoch: int,
        samples_per_s: float,
        slot: str = "0",
        rules: Redaction | None = None,
        signals: Sequence[Signal] = (),
    ) -> None:
        """Begin without any partition.

        Args:
            plan: which series are rolled up.
            epoch: of llm.events.
            samples_per_s: calls a second and partition whose texts are sampled when there is plenty.
            slot: which copy of meter this is.
            rules: redaction.
            signals: tests of the sampled texts, whose hits are counted.
        """
        self.plan, self.epoch, self.slot = plan, epoch, slot
        self.seen = DuplicateWindow()
        self._heavy = HeavyHitters()
        self._samplers = {history: sample.Sampler(samples_per_s) for history in (False, True)}
        """Of live calls, by the brokers' time, and of history, by event time: it is sampled as it would have been."""
        self._scoring = Scoring(signals)
        self._rules = rules
        self.sources: dict[int, SourceTick] = {}
        self.dead = self.dups = 0
        """Records of all ``pieces`` that were no events, and that came twice."""

    def start(self, partition: int, next_offset: int) -> tuple[int, int]:
        """Forget ``partition``, whose next offset to count is ``next_offset``.

        Returns:
            (first offset to hand to ``seen.feed``, first offset to hand to `learn`).
        """
        learn = min(max(0, next_offset // BLOCK - 1) * BLOCK, sample.block_start(next_offset))
        self.sources[partition] = SourceTick(next_offset, 0, 0, 0)
        self._scoring.start(partition, next_offset)
        return self.seen.start(partition, learn), learn

    def learn(self, records: Records, books: PriceBooks, *, wall: int) -> None:
        """Apply records that were counted before this process began: they move the state and nothing else."""
        metered = decode_metered(records, books, self.seen, epoch=self.epoch, rules=self._rules)
        _, rates = self._judge(metered)
        hashes = measures.call_hashes(metered.table["id"])
        chosen = self._scoring.to_learn(metered.table, sample.choose(hashes, rates))
        if len(chosen):
            self._scoring.learn(metered.table, metered.texts(chosen))
        self._advance(records, _Times.of(metered.table), wall=wall, busy=False)

    def count(self, records: Records, books: PriceBooks, *, wall: int) -> Counted:
        """Count one batch. The messages are a function of the log and of ``records.positions`` alone.

        Args:
            records: of llm.events, following what was learnt or counted before.
            books: the prices known now.
            wall: µs UTC, for ticks only.
        """
        metered = decode_metered(records, books, self.seen, epoch=self.epoch, rules=self._rules)
        tracked, rates = self._judge(metered)
        self._advance(records, _Times.of(metered.table), wall=wall, busy=True)
        spans, of = self._spans(records, metered.table, books)
        chosen = sample.choose(measures.call_hashes(metered.table["id"]), rates)
        texts = metered.texts(chosen)
        signals = self._scoring.score(metered.table, texts)
        tables = roll_up(metered.table, self.plan, spans=of, tracked=tracked, signals=signals)
        rollups: list[wire.Message] = []
        for i, span in enumerate(spans):
            keyed = {key: table for (s, key), table in tables.items() if s == i}
            for key, table in ({SPAN_KEY: wire.empty()} | keyed).items():
                rollups += wire.messages(span, key, table, epoch=self.epoch)
        samples = sample.samples(metered.table, texts, rates, times=_sample_times(metered))
        return Counted(rollups, samples, metered.table.num_rows, metered.dead, metered.dups)

    def pieces(self, records: Records, ends: Sequence[tuple[int, int]], books: PriceBooks) -> Iterator[Piece]:
        """Count a batch of one partition in pieces: each gives what ``count`` gives for it, for the price of one batch.

        Args:
            records: as for ``count``, of one partition.
            ends: (next offset, wall time in µs UTC) of each piece, ascending; the last one ends the batch.
            books: the prices known now.

        Yields:
            A piece, when ``sources`` are those at its end.
        """
        ((partition, (first, _)),) = records.positions.items()
        metered = decode_metered(records, books, self.seen, epoch=self.epoch, rules=self._rules)
        self.dead, self.dups = self.dead + metered.dead, self.dups + metered.dups
        tracked, rates = self._judge(metered)
        bounds = np.array([end for end, _ in ends])
        of = np.searchsorted(bounds, measures.integers(metered.table["_offset"]), side="right")
        chosen = sample.choose(measures.call_hashes(metered.table["id"]), rates)
        texts = metered.texts(chosen)
        signals = self._scoring.score(metered.table, texts)
        rollups: list[dict[str, pa.Table]] = [{} for _ in ends]
        rolled_up = roll_up(metered.table, self.plan, spans=of, tracked=tracked, signals=signals)
        for (span, app), table in rolled_up.items():
            if app != SPAN_KEY:
                rollups[span][app] = table
        samples: list[list[Sample]] = [[] for _ in ends]
        for each in sample.samples(metered.table, texts, rates, times=_sample_times(metered)):
            samples[int(np.searchsorted(bounds, each.offset, side="right"))].append(each)
        rows, times = np.searchsorted(of, np.arange(len(ends) + 1)), _Times.of(metered.table)
        for i, (end, wall) in enumerate(ends):
            keep = range(bisect_left(records.offsets, first), bisect_left(records.offsets, end))
            part = records.where(keep, {partition: (first, end)})
            self._advance(part, times.part(rows[i], rows[i + 1]), wall=wall, busy=True)
            yield Piece(rollups[i], samples[i])
            first = end

    def tick(self, wall: int, waiting: Mapping[int, int], *, topic_id: str = "") -> Tick:
        """The clock for everyone downstream; a partition with records ``waiting`` (its lag) is not idle."""
        for partition, lag in waiting.items():
            if lag > 0 and partition in self.sources:
                self.sources[partition] = _with_wall(self.sources[partition], wall)
        sources = dict(self.sources)
        return Tick(wall=wall, sources=sources, slot=self.slot, epoch=self.epoch, topic_id=topic_id)

    def _judge(self, metered: Metered) -> tuple[dict[str, Array], Array]:
        """Return dimension -> (n,) bool "has its own series", and (n,) sampling rates; both change the state."""
        table = metered.table
        partitions, offsets = measures.integers(table["_partition"]), measures.integers(table["_offset"])
        times = _sample_times(metered)
        rows_of = [(int(p), np.flatnonzero(partitions == p)) for p in np.unique(partitions)]
        rates = np.ones(table.num_rows)
        for p, rows in rows_of:
            for history, sampler in self._samplers.items():
                of = rows[metered.history[rows] == history]
                rates[of] = sampler.rates(p, offsets[of], times[of])
        tracked = {}
        for name in self.plan.dimensions:
            codes, values = encoded(table[name])
            hashes = hash_values(values)
            tracked[name] = np.zeros(table.num_rows, dtype=bool)
            for p, rows in rows_of:
                tracked[name][rows] = self._heavy.track(name, p, offsets[rows], codes[rows], hashes)
        return tracked, rates

    def _advance(self, records: Records, times: _Times, *, wall: int, busy: bool) -> None:
        """Move the ticks' facts; a time ahead of the broker's clock, or of ``wall`` where that is unknown, is capped.

        An event time ahead of its record's append time closes windows in which other apps' calls are still to come.
        """
        last = dict(zip(records.partitions, records.kafka_times, strict=True))
        created = dict(zip(records.partitions, records.created, strict=True)) if records.created else {}
        partitions, capped = times.partitions, times.capped
        if created:
            capped = np.minimum(capped, wall)
        for p, (_, end) in records.positions.items():
            old = self.sources.get(p, SourceTick(0, 0, 0, 0))
            greatest = int(capped[partitions == p].max(initial=old.max_ts))
            appended = last.get(p, old.kafka_time)
            if created.get(p):  # its clock may be behind, too
                appended = max(old.kafka_time, min(appended, wall))
            busy_wall = wall if busy and p in last else old.busy_wall
            self.sources[p] = SourceTick(end, greatest, appended, busy_wall)

    def _spans(self, records: Records, table: pa.Table, books: PriceBooks) -> tuple[list[wire.Span], Array]:
        """Cut each partition's positions where the price book changes; return the spans, and (n,) span of each call.

        The last of MOST_SPANS names the book of its first call; the cost of each call is that of its own book.
        """
        partitions, offsets = measures.integers(table["_partition"]), measures.integers(table["_offset"])
        codes, versions = encoded(table["price_version"])
        of = np.zeros(table.num_rows, dtype=np.int64)
        spans: list[wire.Span] = []
        for p, (start, end) in sorted(records.positions.items()):
            rows = np.flatnonzero(partitions == p)
            cuts = (np.flatnonzero(np.diff(codes[rows])) + 1)[: MOST_SPANS - 1]
            if len(rows) == 0:
                spans.append(wire.Span(p, start, end, books.at(self.sources[p].kafka_time).version))
                continue
            edges = [start, *offsets[rows[cuts]].tolist(), end]
            for run, low, high in zip(np.split(rows, cuts), edges, edges[1:], strict=False):
                of[run] = len(spans)
                spans.append(wire.Span(p, low, high, versions[codes[run[0]]]))
        return spans, of


def _with_wall(source: SourceTick, wall: int) -> SourceTick:
    return SourceTick(source.next_offset, source.max_ts, source.kafka_time, wall)


def _sample_times(metered: Metered) -> Array:
    """(n,) int64, µs UTC: the clock of the sampling rates. History comes in seconds and is sampled by event time."""
    ts, kafka_time = (measures.integers(metered.table[name]) for name in ("ts", "_kafka_time"))
    return np.where(metered.history, ts, kafka_time)
