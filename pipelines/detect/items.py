"""What stands on llm.rollups, as values: batches of rollup rows, and ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import UNREADABLE
from schemas.records import Record
from schemas.rollups import (
    COUNTS,
    H_EPOCH,
    H_KIND,
    H_PARTITION,
    H_TO,
    SPAN_KEY,
    TOKENS,
    Tick,
)

COLUMNS = (*COUNTS, "tokens", "cost_nanousd")
"""What detectors read of a rollup row, in the order of ``Batch.sums``; ``tokens`` = input + output."""
COLUMN = {name: i for i, name in enumerate(COLUMNS)}
GUARDRAIL = "guardrail:"
"""Prefix of the kinds and exemplar measures that belong to one guardrail."""


SLOT = 10_000_000
"""µs of event time; the grain of all judgement."""
_UNUSED = pa.array(["hash", "latency", "tokens"])


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
    exemplars: list[tuple[int, str, int, str]]
    """(row, measure, value, call id)."""


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
            table = reader.read_all()
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
    counts = [_ints(table, name) for name in COUNTS]
    tokens = sum((_ints(table, name) for name in TOKENS[:2]), np.zeros(len(table), np.int64))
    rows = np.column_stack([*counts, tokens, _ints(table, "cost_nanousd")])
    starts = _ints(table, "second") * 1_000_000 // SLOT
    coded = table.column("series").combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    low = int(starts.min()) if len(starts) else 0
    size = int(starts.max()) - low + 1 if len(starts) else 1
    keys, first, row_of = np.unique(codes * size + (starts - low), return_index=True, return_inverse=True)
    sums = np.zeros((len(keys), rows.shape[1]), np.int64)
    np.add.at(sums, row_of, rows)
    names = coded.dictionary.to_pylist()
    return Batch(
        app=app,
        source=source,
        next_offset=next_offset,
        epoch=epoch,
        kafka_time=kafka_time,
        series=[names[codes[i]] for i in first],
        starts=starts[first] * SLOT,
        sums=sums,
        triggers=[(int(row_of[r]), t["name"], t["action"], t["calls"]) for r, t in _nested(table, "guardrails")],
        exemplars=[(int(row_of[r]), e["measure"], e["value"] or 0, e["call_id"]) for r, e in _shown(table)],
    )


def _shown(table: pa.Table) -> list[tuple[int, dict[str, Any]]]:
    column = table.column("exemplars").combine_chunks()
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    items = pc.list_flatten(column)
    used = pc.invert(pc.is_in(pc.struct_field(items, "measure"), value_set=_UNUSED))
    return list(zip(rows[used.to_numpy(zero_copy_only=False)].tolist(), items.filter(used).to_pylist(), strict=True))


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    column: NDArray[np.int64] = table.column(name).combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
    return column.astype(np.int64, copy=False)


def _nested(table: pa.Table, name: str) -> list[tuple[int, dict[str, Any]]]:
    column = table.column(name).combine_chunks()
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    return list(zip(rows.tolist(), pc.list_flatten(column).to_pylist(), strict=True))
