"""Columns as numpy arrays and back: counts, times, and money as whole nano-USD."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import MONEY

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_CALL_NANOUSD = 10**15
"""A call of more than a million dollars is a broken counter, not a cost: it stays unpriced."""


def half_even(value: Ints, unit: int) -> Ints:
    """Return value / unit rounded half to even, at most one more than MAX_CALL_NANOUSD."""
    quotient, rest = np.divmod(value, unit)
    up = (rest * 2 > unit) | ((rest * 2 == unit) & (quotient % 2 == 1))
    return np.asarray(np.minimum(quotient + up, MAX_CALL_NANOUSD + 1), np.int64)


def half_even_int(value: int, unit: int) -> int:
    """Return value / unit rounded half to even."""
    quotient, rest = divmod(value, unit)
    return quotient + (rest * 2 > unit or (rest * 2 == unit and quotient % 2 == 1))


def money(nano: Ints, valid: Bools) -> pa.Array:
    """Return int64 nano-USD as DECIMAL(18,9): the same integer, as the low word of 128 bits (never negative)."""
    words = np.zeros((len(nano), 2), np.int64)
    words[:, 0] = np.where(valid, nano, 0)
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(MONEY, len(nano), [bitmap, pa.py_buffer(words)])


def nano(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Return DECIMAL(18,9) as int64 nano-USD, -1 where NULL."""
    array = one(column)
    low = np.frombuffer(array.buffers()[1] or b"", np.int64)[2 * array.offset : 2 * (array.offset + len(array)) : 2]
    return np.where(valid(array), low, -1)


def one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return the column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def filled(column: pa.ChunkedArray) -> Ints:
    """Return integers, 0 where NULL."""
    return np.asarray(pc.fill_null(one(column), 0).to_numpy(zero_copy_only=False), np.int64)


def micros(column: pa.ChunkedArray) -> Ints:
    """Return times as µs since 1970."""
    return np.asarray(one(column).cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)


def valid(column: pa.ChunkedArray | pa.Array) -> Bools:
    """Return where the column is not NULL."""
    return np.asarray(one(pc.is_valid(column)).to_numpy(zero_copy_only=False), np.bool_)


def equals(table: pa.Table, name: str, values: tuple[str, ...]) -> Bools:
    """Return where the column is one of ``values``."""
    inside = pc.is_in(table.column(name), value_set=pa.array(values, pa.string()))
    return np.asarray(one(inside).to_numpy(zero_copy_only=False), np.bool_)
