"""The records of llm.rollups as values: batches of rollup rows, and ticks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.detect.cells import CellRows, Cells, Matrix, cell_rows_of, integers, is_minute_only
from pipelines.detect.exemplars import Exemplars, UnreadExemplars
from schemas.errors import UNREADABLE
from schemas.records import Record
from schemas.rollups import (
    COUNTS,
    H_EPOCH,
    H_KIND,
    H_PARTITION,
    H_TO,
    ROLLUP,
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
_SECOND = len(_NUMBERS)
_SUMMED = [*range(len(COUNTS) + 1), _SECOND - 1]
"""Of _NUMBERS: what becomes COLUMNS, once the tokens are added up."""


@dataclass(frozen=True)
class Batch:
    """Rollup rows of one app from one offset range of one source partition, merged into rows of series x slot."""

    app: str
    source: int
    next_offset: int
    epoch: int
    kafka_time: int
    """µs UTC."""
    series: list[str]
    starts: Matrix
    """(rows,) start of the slot, µs UTC."""
    sums: Matrix
    """(rows, COLUMNS)."""
    triggers: list[tuple[int, str, str, int]]
    """(row, guardrail, action, calls)."""
    exemplars: Exemplars | UnreadExemplars | None = None
    cells: CellRows | Cells | None = None
    """What the detectors that judge once a minute read."""
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
        return batch(
            app,
            _rows(record.value or b""),
            source=int(headers[H_PARTITION]),
            next_offset=int(headers[H_TO]),
            epoch=int(headers.get(H_EPOCH, b"0")),
            kafka_time=record.kafka_time,
        )
    except (pa.ArrowException, *UNREADABLE) as error:
        raise ValueError(f"not a rollup: {error}") from error


def _rows(value: bytes) -> pa.Table | pa.RecordBatch:
    """Return the rows of a message, in the columns of ROLLUP."""
    messages = list(pa.ipc.MessageReader.open_stream(pa.py_buffer(value)))
    if not messages:
        raise ValueError("it is empty")
    if not messages[0].metadata.equals(_SCHEMA):  # of another version
        with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
            return completed(reader.read_all())
    found = [pa.ipc.read_record_batch(message, ROLLUP) for message in messages[1:]]
    return found[0] if len(found) == 1 else pa.Table.from_batches(found, ROLLUP)


_SCHEMA = pa.ipc.read_message(ROLLUP.serialize()).metadata
"""Of a message that is written today: the same schema need not be read each time, which takes as long as the rows."""


def batch(
    app: str, table: pa.Table | pa.RecordBatch, *, source: int, next_offset: int, epoch: int, kafka_time: int
) -> Batch:
    """Take the columns that detectors read out of a ROLLUP table; rows of series below ``app`` only.

    Raises:
        KeyError: a column is missing.
    """
    rows = table if isinstance(table, pa.RecordBatch) else _one(table)
    places = {name: at for at, name in enumerate(rows.schema.names)}  # a look-up by name costs as much as a sum
    numbers = _numbers(rows, [places[name] for name in (*_NUMBERS, "second")])
    sums = numbers[:, _SUMMED]
    sums[:, -2] += numbers[:, _SECOND - 2]  # tokens: input and output
    starts = numbers[:, _SECOND] * 1_000_000 // SLOT * SLOT
    coded = rows.column(places["series"]).dictionary_encode()
    codes, names = integers(coded.indices), coded.dictionary.to_pylist()
    below = np.array([is_minute_only(name) for name in names], bool)
    judged = np.flatnonzero(~below[codes]) if below.any() else np.arange(len(codes))
    row_of = np.full(len(codes), -1)
    first, row_of[judged], merged = _merged(codes[judged], starts[judged], sums[judged])
    first = judged[first]
    guardrails, signals = (_nested(rows.column(places[name])) for name in ("guardrails", "signals"))
    return Batch(
        app=app,
        source=source,
        next_offset=next_offset,
        epoch=epoch,
        kafka_time=kafka_time,
        series=[names[code] for code in codes[first].tolist()],
        starts=starts[first],
        sums=merged,
        triggers=[(int(row_of[r]), *item) for r, item in guardrails if row_of[r] >= 0],
        exemplars=UnreadExemplars(rows.column(places["exemplars"]), row_of),
        cells=cell_rows_of(rows, names, codes, starts),
        signals=sorted((int(row_of[r]), *_signal(*item)) for r, item in signals if row_of[r] >= 0),
    )


def _signal(name: str, side: str, calls: int) -> tuple[str, int]:
    """(kind, calls) of an item of ``signals``."""
    return (f"{BASE}{side}" if name == SCORED else f"{SIGNAL}{side}:{name}"), calls


def _merged(codes: Matrix, starts: Matrix, sums: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Sum up rows of one series and slot, in their order: (first row of each, which of them a row went to, sums)."""
    if not len(codes):
        return codes, codes, sums
    same, later = codes[1:] == codes[:-1], starts[1:] > starts[:-1]
    order = np.arange(len(codes))
    if not ((codes[1:] > codes[:-1]) | (same & (starts[1:] >= starts[:-1]))).all():  # not as meter writes them
        order = np.lexsort((starts, codes))
        codes, starts, sums = codes[order], starts[order], sums[order]
        same, later = codes[1:] == codes[:-1], starts[1:] > starts[:-1]
    new = np.ones(len(codes), bool)
    new[1:] = ~same | later
    begins = np.flatnonzero(new)
    row_of = np.empty(len(codes), np.int64)
    row_of[order] = np.cumsum(new) - 1
    return order[begins], row_of, sums if len(begins) == len(codes) else np.add.reduceat(sums, begins, axis=0)


def _one(table: pa.Table) -> pa.RecordBatch:
    """All rows in one piece."""
    batches = table.to_batches()
    if len(batches) != 1:
        batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return batches[0]


def _numbers(rows: pa.RecordBatch, places: list[int]) -> Matrix:
    """(rows, len(places)) integers of the columns at ``places``; 0 for NULL."""
    picked = rows.select(places)
    try:
        numbers: Matrix = picked.to_tensor().to_numpy()
    except pa.ArrowTypeError:  # there is a NULL
        return np.array([integers(column) for column in picked.columns]).T
    return numbers


def _nested(column: pa.ListArray) -> list[tuple[int, tuple[str, str, int]]]:
    """(row, (name, action, calls)) of each item."""
    items = column.flatten()
    if not len(items):
        return []
    parts = items.flatten()
    fields = [parts[items.type.get_field_index(name)].to_pylist() for name in ("name", "action", "calls")]
    return list(zip(column.value_parent_indices().to_pylist(), zip(*fields, strict=True), strict=True))
