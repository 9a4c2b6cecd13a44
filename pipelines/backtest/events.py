"""Lines of a file in, alerts out: decode, meter, detect and drift are the functions that the stages run.

The broker's part is played by event time: a line is appended when it happened, and a tick comes every ``tick_us`` of
that time. So the alerts are those of stages that read the events while they happened. Lines are read in chunks, and
what is kept is the state of the stages: memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from pipelines.backtest.timeline import SECOND, Line, appended, pieces, ticks
from pipelines.decode import Redaction, Reject, verdict
from pipelines.detect.items import Batch, TickAt, batch
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from pipelines.drift.embed import Embedder, EmbedderUnavailableError, Memory
from pipelines.drift.partition import Partition
from pipelines.drift.points import ANSWERS, SIDES, join, to_embed
from pipelines.drift.vectors import Bytes, Floats
from pipelines.drift.watch import WatchConfig
from pipelines.meter.counting import Counting
from pipelines.meter.plan import DEFAULT, Plan
from pipelines.pricing import PriceBooks
from pipelines.signals import Signal
from schemas.alerts import Alert
from schemas.records import Records
from schemas.rollups import Sample
from schemas.topics import EVENTS

_CHUNK_LINES, _CHUNK_BYTES = 5_000, 16 << 20
_LATE = 60 * SECOND
"""An event this much older than one before it comes after its windows have closed."""
_TAIL = 60 * SECOND
"""Ticks go on for so long after the last event: the last windows close."""
_NONE = np.zeros((0, 0), np.int8), np.zeros(0, np.float32)


@dataclass(frozen=True)
class EventsConfig:
    """The arguments of the stages, from the settings."""

    books: PriceBooks
    judge: Judge = field(default_factory=Judge)
    rules: Redaction = field(default_factory=Redaction)
    plan: Plan = DEFAULT
    samples_per_s: float = 20.0
    signals: tuple[Signal, ...] = ()
    tick_us: int = SECOND
    """Event time between two ticks, µs."""
    embedder: Callable[[], Embedder] | None = None
    """Makes the model when the first text comes that needs it; None: only answers are judged, by their style."""
    sides: tuple[str, ...] = SIDES
    watch: WatchConfig = field(default_factory=WatchConfig)
    on_rollup: Callable[[Batch], None] = lambda batch: None
    """Called with everything that detect reads."""


class Replay:
    """The state of the stages between two chunks of lines."""

    def __init__(self, config: EventsConfig) -> None:
        self.config = config
        self.counting = Counting(
            config.plan, epoch=0, samples_per_s=config.samples_per_s, rules=config.rules, signals=config.signals
        )
        self.counting.start(0, 0)
        self.detect, self.drift = PartitionState(), Partition(0, config.watch)
        self.memory: Memory | None = None
        self.lines = self.late = 0
        """Lines so far; and events that are older than one before them by more than a minute."""
        self.first_dead: tuple[int, str] | None = None
        """Number of the first line that is no event, and why."""
        self.drift_unknown = ""
        """Why drift is not judged any more; empty while it is."""
        self.last_event = self.tick = self.position = 0

    def run(self, lines: Iterable[bytes]) -> Iterator[Alert]:
        """Yield the alerts of ``lines``, chunk by chunk, and those of the minute after the last."""
        yield from self.feed(lines)
        yield from self.finish()

    def feed(self, lines: Iterable[bytes]) -> Iterator[Alert]:
        """Yield the alerts of ``lines``; more may follow."""
        dated = appended(lines)
        while chunk := list(_chunk(dated)):
            yield from self._count(chunk)

    def finish(self, tail: int = _TAIL) -> Iterator[Alert]:
        """Yield what the time after the last event brings, ``tail`` µs of it."""
        if self.last_event:
            yield from self._until(self.tick + tail)

    def close(self) -> None:
        """Close the model."""
        if self.memory:
            self.memory.embedder.close()

    @property
    def dead(self) -> int:
        """Lines that are no events."""
        return self.counting.dead

    def fork(self) -> Replay:
        """Return a copy that goes on by itself: the states of detect and drift are written down and read back."""
        other = copy(self)
        other.counting, other.detect = deepcopy(self.counting), load(dump(self.detect))
        other.drift = Partition.load(0, dict(self.drift.save()), self.config.watch)
        return other

    def _count(self, chunk: Sequence[Line]) -> Iterator[Alert]:
        times = [max(line.at, self.last_event) for line in chunk]
        size, first, dead = len(chunk), self.lines, self.counting.dead
        values: list[bytes | None] = [line.value for line in chunk]
        offsets, span = list(range(first, first + size)), {0: (first, first + size)}
        records = Records(EVENTS, [0] * size, offsets, times, [None] * size, values, [()] * size, span)
        self.lines += size
        self.late += sum(line.ts is not None and line.ts < at - _LATE for line, at in zip(chunk, times, strict=True))
        ends = pieces(times, first, self.config.tick_us)
        for piece, (end, wall) in zip(self.counting.pieces(records, ends, self.config.books), ends, strict=True):
            yield from self._until(wall)
            self.last_event, self.tick = times[end - first - 1], wall
            for app, table in piece.rollups.items():
                item = batch(app, table, source=0, next_offset=end, epoch=0, kafka_time=wall)
                self.config.on_rollup(item)
                yield from self._apply(item)
            yield from self._judge_texts(piece.samples, wall)
        if self.counting.dead > dead and self.first_dead is None:
            self._find_dead(values, first)

    def _until(self, wall: int) -> Iterator[Alert]:
        """Send the tick that is due, and those before ``wall``."""
        if not self.tick or wall <= self.tick:
            return
        for at in chain([self.tick], ticks(self.tick, self.last_event, wall, self.config.tick_us)):
            yield from self._apply(TickAt(self.counting.tick(at, {}), at))

    def _apply(self, item: Batch | TickAt) -> Iterator[Alert]:
        for alerts in self.config.judge.apply(self.detect, self.position, item):
            yield from alerts
        self.position += 1

    def _judge_texts(self, samples: Sequence[Sample], wall: int) -> Iterator[Alert]:
        wanted = [s for s in samples if s.side in self.config.sides and s.text.strip()]
        embedded = self._embed(to_embed(wanted))
        if embedded is None:
            wanted, embedded = [s for s in wanted if s.side == ANSWERS], _NONE
        yield from self.drift.apply(join(wanted, [wall] * len(wanted), *embedded), 0, 0)

    def _embed(self, texts: Sequence[str]) -> tuple[Bytes, Floats] | None:
        """Return the vectors of ``texts``; None where there is no model, or none that answers."""
        if not texts:
            return _NONE
        if self.config.embedder is None or self.drift_unknown:
            return None
        self.memory = self.memory or Memory(self.config.embedder())
        try:
            return self.memory.quantised(texts)
        except EmbedderUnavailableError as error:
            self.drift_unknown = error.cause
            return None

    def _find_dead(self, lines: Sequence[bytes | None], first: int) -> None:
        for number, line in enumerate(lines, first + 1):
            if isinstance(found := verdict(line), Reject):
                self.first_dead = number, f"{found.reason}: {found.detail}"
                return


def _chunk(lines: Iterator[Line]) -> Iterator[Line]:
    size = 0
    for line in islice(lines, _CHUNK_LINES):
        yield line
        size += len(line.value)
        if size > _CHUNK_BYTES:
            return
