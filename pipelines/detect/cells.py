"""What the detectors that judge once a minute read of rollups: cells (series, code, value) of one app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.meter.measures import call_buckets
from schemas.rollups import DERIVED, OTHER, series_pairs

Matrix = NDArray[np.int64]
WATCHED = ("feature", "tenant", "provider", "model", "release", "prompt_version", *DERIVED)
"""Dimensions of the series that are kept, each by itself below the app."""
TTFT = 4096
"""Code of the first bucket of the time to the first token; those of the latency begin at 0."""
SCALARS = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "retried_calls", "errors")
"""Sums of a rollup row that are kept."""
_NAMES = (*SCALARS, "cache_saved_nanousd", "saved_known_calls", "cost_nanousd")
CODE = {name: 2 * TTFT + i for i, name in enumerate(_NAMES)}
"""Scalar -> its code; ``saved_known_calls`` are the calls of rows whose ``cache_saved_nanousd`` is known."""
CALL_BINS = 512
PER_CALL = {"call_tokens": 2 * TTFT + CALL_BINS, "call_cost": 2 * TTFT + 2 * CALL_BINS}
"""Column -> code of its first bucket; there are CALL_BINS."""
FIRST = 2 * TTFT
"""Code of the first scalar."""
ERROR = 3 * TTFT
"""Code of the first error type."""


@lru_cache(maxsize=65_536)
def is_watched(name: str) -> bool:
    """Whether the cells of a series (JSON) are kept."""
    (_, *below) = series_pairs(name).items()
    return not below or (len(below) == 1 and below[0][0] in WATCHED and below[0][1] != OTHER)


@lru_cache(maxsize=65_536)
def is_minute_only(name: str) -> bool:
    """Whether only the detectors that judge once a minute judge a series (JSON)."""
    return not series_pairs(name).keys().isdisjoint(DERIVED)


@dataclass(frozen=True)
class Cells:
    """Cells of some series."""

    names: list[str]
    """Series that are kept."""
    starts: Matrix
    """(n,) start of the slot, µs UTC."""
    cells: Matrix
    """(n, 3): index into ``names``, code, value. The value of an error type is its calls, its code ERROR + index into
    ``errors``."""
    errors: list[str] = field(default_factory=list)

    def is_before(self, start: int) -> bool:
        """Whether a cell is of a slot that begins before ``start``, µs UTC."""
        return bool((self.starts < start).any())


@dataclass(frozen=True)
class CellRows:
    """Rows of one message of which cells are read later: reading many messages at once is cheaper. They stay in Arrow.

    Args:
        rows: of the message; lists that a version did not count may be NULL.
        names: series that are kept.
        codes: (rows,) index into ``names``; -1 where a row is not kept.
        starts: (rows,) start of the slot, µs UTC.
    """

    rows: pa.RecordBatch
    names: list[str]
    codes: Matrix
    starts: Matrix

    def read(self) -> Cells:
        """Return its cells."""
        cells, at, errors = cells_of([self.rows], self.codes)
        return Cells(self.names, self.starts[at], cells, errors)

    def is_before(self, start: int) -> bool:
        """Whether a row that is kept is of a slot that begins before ``start``, µs UTC."""
        return bool((self.starts[self.codes >= 0] < start).any())


def cell_rows_of(rows: pa.RecordBatch, names: list[str], codes: Matrix, starts: Matrix) -> CellRows:
    """Return what is kept of rollup rows.

    Args:
        rows: of the rollup.
        names: the distinct series.
        codes: (rows,) index into ``names``.
        starts: (rows,) start of the slot, µs UTC.
    """
    watched = np.array([is_watched(name) for name in names], bool)
    number = np.where(watched, np.cumsum(watched) - 1, -1)
    kept = [name for name, is_kept in zip(names, watched.tolist(), strict=True) if is_kept]
    return CellRows(rows, kept, number[codes] if len(names) else codes, starts)


def cells_of(rows: Sequence[pa.RecordBatch], codes: Matrix) -> tuple[Matrix, Matrix, list[str]]:
    """Return the cells of rollup rows.

    Args:
        rows: of one message, or of several with the same columns.
        codes: (rows,) number of the series; -1 where a row is not kept.

    Returns:
        (n, 3) cells: number, code, value; (n,) row of each; error types, whose codes are ERROR + index.
    """
    places = [(at, name) for at, name in enumerate(rows[0].schema.names) if name in _READ]
    together = pa.concat_batches([each.select([at for at, _ in places]) for each in rows])
    columns = {name: together.column(at) for at, (_, name) in enumerate(places)}
    kept = codes >= 0
    parts = [_scalars(columns, kept)]
    parts += [_histogram(columns.get(name), first, kept) for name, first in (("latency", 0), ("ttft", TTFT))]
    parts += [_per_call(columns, name, kept) for name in PER_CALL]
    found, errors = _errors(columns.get("error_types"), kept)
    cells = np.concatenate([*parts, found])
    at = cells[:, 0].copy()
    cells[:, 0] = codes[at]
    return cells, at, errors


_READ = frozenset((*SCALARS, "cache_saved_nanousd", "cost_nanousd", "latency", "ttft", "error_types", *PER_CALL))
"""Columns of a rollup."""


def _scalars(columns: dict[str, pa.Array], kept: NDArray[np.bool_]) -> Matrix:
    """Rows (row, code, value) of the sums that are not 0, and of the calls whose saving is known."""
    rows = np.flatnonzero(kept)
    named = [name for name in (*SCALARS, "cache_saved_nanousd", "cost_nanousd") if name in columns]
    values = np.array([integers(columns[name])[rows] for name in named], np.int64).T
    at, which = np.nonzero(values)
    codes = np.array([CODE[name] for name in named], np.int64)
    found = np.array([rows[at], codes[which], values[at, which]]).T
    saved = columns.get("cache_saved_nanousd")
    if saved is None or saved.null_count == len(saved):
        return found
    if saved.null_count:
        rows = rows[saved.is_valid().to_numpy(zero_copy_only=False)[rows]]
    calls = integers(columns["calls"])[rows]
    return np.concatenate([found, np.array([rows, np.full(len(rows), CODE["saved_known_calls"]), calls]).T])


def _per_call(columns: dict[str, pa.Array], name: str, kept: NDArray[np.bool_]) -> Matrix:
    """Calls by their tokens or cost. Of rows that did not count them all calls are taken to be like their mean."""
    column = columns.get(name)
    if column is not None and not column.null_count:
        return _histogram(column, PER_CALL[name], kept, CALL_BINS)
    unknown = kept if column is None else kept & column.is_null().to_numpy(zero_copy_only=False)
    names = ("cost_nanousd",) if name == "call_cost" else ("input_tokens", "output_tokens")
    if any(each not in columns for each in names):
        return NONE
    calls = integers(columns["calls"])
    total = np.sum([integers(columns[each]) for each in names], axis=0)
    rows = np.flatnonzero(unknown & (calls > 0) & (total > 0))
    buckets = call_buckets(total[rows] / calls[rows])
    means = np.column_stack([rows, np.minimum(buckets, CALL_BINS - 1) + PER_CALL[name], calls[rows]])
    return np.concatenate([means, _histogram(column, PER_CALL[name], kept, CALL_BINS)])


def _histogram(column: pa.ListArray | None, first: int, kept: NDArray[np.bool_], size: int = TTFT) -> Matrix:
    if column is None:
        return NONE
    items = column.flatten()
    buckets, calls = items.flatten()
    rows = integers(column.value_parent_indices())
    held = np.flatnonzero(kept[rows])
    codes = np.clip(integers(buckets)[held], 0, size - 1) + first
    return np.array([rows[held], codes, integers(calls)[held]]).T


def _errors(column: pa.ListArray | None, kept: NDArray[np.bool_]) -> tuple[Matrix, list[str]]:
    if column is None or not len(items := column.flatten()):
        return NONE, []
    parts = items.flatten()
    names, calls = (parts[items.type.get_field_index(name)] for name in ("name", "calls"))
    coded = names.fill_null("").dictionary_encode()
    rows = integers(column.value_parent_indices())
    held = np.flatnonzero(kept[rows])
    codes = integers(coded.indices)[held] + ERROR
    return np.array([rows[held], codes, integers(calls)[held]]).T, coded.dictionary.to_pylist()


NONE: Matrix = np.zeros((0, 3), np.int64)


def integers(column: pa.Array, null: int = 0) -> Matrix:
    """Return the values of an array of int64, int32 or int16; ``null`` where there is none.

    They are read from its buffer: ``to_numpy`` imports pandas where that is installed, for more than a second.
    """
    column = column.fill_null(null) if column.null_count else column
    if not len(column):
        return np.zeros(0, np.int64)
    bits = column.type.bit_width
    kind = _KINDS[bits]
    numbers = np.frombuffer(column.buffers()[1], kind, len(column), column.offset * bits // 8)
    return numbers.astype(np.int64, copy=False)


_KINDS = {64: np.int64, 32: np.int32, 16: np.int16}
