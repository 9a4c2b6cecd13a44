"""What stands on llm.rollups, as values: batches of rollup rows, and ticks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.detect.side import SCALARS, Cells, cells_of, is_beside
from schemas.errors import UNREADABLE
from schemas.records import Record
from schemas.rollups import (
    COUNTS,
    H_EPOCH,
    H_KIND,
    H_PARTITION,
    H_TO,
    MAYBE_BUCKETS,
    SCORED,
    SIGNAL,
    SPAN_KEY,
    TOKENS,
    Tick,
    completed,
)

COLUMNS = (*COUNTS, "tokens", "cost_nanousd")
"""What detectors read of a rollup row, in the order of ``Batch.sums``; ``tokens`` = input + output."""
COLUMN = {name: i for i, name in enumerate(COLUMNS)}
GUARDRAIL = "guardrail:"
"""Prefix of the kinds and exemplar measures that belong to one guardrail."""
BASE = "scored:"
"""Prefix of the kinds that count the texts of one side which were scored: what the hits of signals are a share of."""


SLOT = 10_000_000
"""µs of event time; the grain of all judgement."""
_NUMBERS = (*COUNTS, *TOKENS[:2], "cost_nanousd")
_BESIDE = (
    "error_types",
    "latency",
    "ttft",
    *MAYBE_BUCKETS,
    "cache_saved_nanousd",
    *(n for n in SCALARS if n not in _NUMBERS),
)
"""Columns that only the tests of a minute read; a version may not have counted them."""
_UNUSED = ("hash", "latency", "tokens", None)


@dataclass(frozen=True)
class Exemplars:
    """Calls that show the numbers of some rows. Few are ever asked for, so their ids stay in Arrow until then."""

    rows: NDArray[np.int64]
    """(n,) row of the batch, or place of the series."""
    codes: NDArray[np.int64]
    """(n,) index into ``measures``."""
    measures: list[str]
    values: NDArray[np.int64]
    """(n,) nano-USD, or 0 where the measure has none."""
    ids: pa.Array
    """Call ids, of these and of others."""
    at: NDArray[np.int64]
    """(n,) index into ``ids``."""

    def pick(self, rows: NDArray[np.int64], which: NDArray[np.int64]) -> Exemplars:
        """Those at ``which``, with ``rows`` in place of theirs."""
        return Exemplars(rows, self.codes[which], self.measures, self.values[which], self.ids, self.at[which])

    def call_ids(self) -> list[str]:
        """(n,) call ids. ``pa.array`` of a numpy array would import pandas first, which takes more than a second."""
        return [self.ids[i].as_py() for i in self.at.tolist()]


@dataclass(frozen=True)
class Batch:
    """Rollup rows of one app from one stretch of one source partition, merged into rows of series x slot."""

    app: str
    source: int
    next_offset: int
    epoch: int
    kafka_time: int
    """µs UTC."""
    series: list[str]
    starts: NDArray[np.int64]
    """(rows,) start of the slot, µs UTC."""
    sums: NDArray[np.int64]
    """(rows, COLUMNS)."""
    triggers: list[tuple[int, str, str, int]]
    """(row, guardrail, action, calls)."""
    exemplars: Exemplars | None = None
    beside: Cells | None = None
    """What the tests of a minute read."""
    signals: list[tuple[int, str, int]] = field(default_factory=list)
    """(row, kind, calls): the texts that were scored (``scored:SIDE``) before the hits (``signal:SIDE:NAME``)."""


@dataclass(frozen=True)
class TickAt:
    """A tick, and when the broker wrote it (µs UTC)."""

    tick: Tick
    kafka_time: int


def parse(record: Record) -> Batch | TickAt | None:
    """Decode one record of llm.rollups; None for what detect does not judge (series that span apps).

    Raises:
        ValueError: not a rollup, not a tick; the caller counts it and goes on.
    """
    headers = dict(record.headers)
    try:
        if headers.get(H_KIND) == b"tick":
            return TickAt(Tick.from_json(record.value or b""), record.kafka_time)
        app = (record.key or b"").decode()
        if app == SPAN_KEY:
            return None
        with pa.ipc.open_stream(pa.py_buffer(record.value or b"")) as reader:
            table = completed(reader.read_all())
        return batch(
            app,
            table,
            source=int(headers[H_PARTITION]),
            next_offset=int(headers[H_TO]),
            epoch=int(headers.get(H_EPOCH, b"0")),
            kafka_time=record.kafka_time,
        )
    except (pa.ArrowException, *UNREADABLE) as error:
        raise ValueError(f"not a rollup: {error}") from error


def batch(app: str, table: pa.Table, *, source: int, next_offset: int, epoch: int, kafka_time: int) -> Batch:
    """Take the columns that detectors read out of a ROLLUP table; rows of series below ``app`` only.

    Raises:
        KeyError: a column is missing.
    """
    columns = _columns(table)
    numbers = [_numbers(columns[name], 0) for name in _NUMBERS]
    rows = np.array([*numbers[:-3], numbers[-3] + numbers[-2], numbers[-1]]).T
    starts = _numbers(columns["second"], 0) * 1_000_000 // SLOT
    coded = columns["series"].dictionary_encode()
    codes = _numbers(coded.indices, 0)
    names, shown = coded.dictionary.to_pylist(), _shown(columns["exemplars"])
    beside = cells_of(columns, names, codes, starts * SLOT)
    judged = np.flatnonzero(~np.array([is_beside(name) for name in names], bool)[codes]) if names else codes
    row_of = np.full(len(codes), -1)
    codes, starts = codes[judged], starts[judged]
    low = int(starts.min()) if len(starts) else 0
    size = int(starts.max()) - low + 1 if len(starts) else 1
    first, row_of[judged], sums = _merged(codes * size + (starts - low), rows[judged])
    at = row_of[shown.rows]
    return Batch(
        app=app,
        source=source,
        next_offset=next_offset,
        epoch=epoch,
        kafka_time=kafka_time,
        series=[names[code] for code in codes[first].tolist()],
        starts=starts[first] * SLOT,
        sums=sums,
        triggers=[
            (int(row_of[r]), t["name"], t["action"], t["calls"])
            for r, t in _nested(columns["guardrails"])
            if row_of[r] >= 0
        ],
        exemplars=shown.pick(at[at >= 0], np.flatnonzero(at >= 0)),
        beside=beside,
        signals=sorted((int(row_of[r]), *_signal(s)) for r, s in _nested(columns["signals"]) if row_of[r] >= 0),
    )


def _signal(item: dict[str, Any]) -> tuple[str, int]:
    """(kind, calls) of an item of ``signals``."""
    name, side = item["name"], item["action"]
    return (f"{BASE}{side}" if name == SCORED else f"{SIGNAL}{side}:{name}"), item["calls"]


def _merged(keys: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Sum up rows of one key, in the order of keys: (first row of each, which of them a row went to, sums)."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = keys[1:] != keys[:-1]
    begins = np.flatnonzero(new)
    row_of = np.empty(len(keys), np.int64)
    row_of[order] = np.cumsum(new) - 1
    return order[begins], row_of, np.add.reduceat(rows[order], begins, axis=0) if len(keys) else rows


def _columns(table: pa.Table) -> dict[str, pa.Array]:
    """Columns that are read, each in one piece; those of _BESIDE where they are there.

    Raises:
        KeyError: another column is missing.
    """
    batches = table.to_batches()
    if len(batches) != 1:
        batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    found = batches[0]
    places = {name: at for at, name in enumerate(found.schema.names)}  # a look-up by name costs as much as a sum
    beside = [name for name in _BESIDE if name in places]
    read = [*_NUMBERS, "second", "series", "exemplars", "guardrails", "signals", *beside]
    return {name: found.column(places[name]) for name in read}


def _shown(column: pa.ListArray) -> Exemplars:
    items = column.flatten()
    parts = items.flatten()  # as pyarrow.compute.struct_field does, without the cost of a call for each
    measures, numbers, ids = (parts[items.type.get_field_index(name)] for name in ("measure", "value", "call_id"))
    coded = measures.dictionary_encode()
    names = coded.dictionary.to_pylist()
    codes = _numbers(coded.indices, -1)
    used = np.flatnonzero(np.array([name not in _UNUSED for name in names] + [False])[codes])
    rows = _numbers(column.value_parent_indices(), 0)
    return Exemplars(rows[used], codes[used], names, _numbers(numbers, 0)[used], ids, used)


def _numbers(column: pa.Array, null: int) -> NDArray[np.int64]:
    """Return the values of an array of int64 or int32.

    They are read from its buffer: ``to_numpy`` imports pandas where that is installed, for more than a second.
    """
    column = column.fill_null(null) if column.null_count else column
    if not len(column):
        return np.zeros(0, np.int64)
    bits = column.type.bit_width
    kind = np.int64 if bits == 64 else np.int32
    numbers = np.frombuffer(column.buffers()[1], kind, len(column), column.offset * bits // 8)
    return numbers.astype(np.int64, copy=False)


def _nested(column: pa.ListArray) -> list[tuple[int, dict[str, Any]]]:
    items = column.flatten()
    return list(zip(column.value_parent_indices().to_pylist(), items.to_pylist(), strict=True)) if len(items) else []
