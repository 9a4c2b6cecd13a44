"""What tests read that judge once a minute: latencies, tokens and cost of calls, cache reads, retries and error types.

They are kept beside the sums of ``Windows``: most series have few of these numbers, so each is a cell (series, code,
value). Series are numbered apart, for ``input_size`` is a dimension of these tests alone: to the other detectors a
prompt that grew would look like calls that left one class and came to another.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.rollups import CALL_GAMMA, DERIVED, OTHER, series_pairs

Matrix = NDArray[np.int64]
WATCHED = ("feature", "tenant", "provider", "model", "release", "prompt_version", *DERIVED)
"""Dimensions of the series that are kept, each by itself below the app."""
MAX_NAMES = 192
"""Series of one app; those silent for longest give way."""
MAX_ERRORS = 24
"""Error types counted apart in one app; the rest share OTHER."""
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
KEPT_LONGER = 120
"""Slots for which the sums of OF_LONGER are kept: twenty minutes, in which a slice of rare calls makes some."""
OF_LONGER = [CODE[name] for name in ("calls", "input_tokens", "output_tokens", "cost_nanousd")]
ERROR = 3 * TTFT
"""Code of the first error type."""


@lru_cache(maxsize=8192)
def is_watched(name: str) -> bool:
    """Whether the cells of a series (JSON) are kept."""
    (_, *below) = series_pairs(name).items()
    return not below or (len(below) == 1 and below[0][0] in WATCHED and below[0][1] != OTHER)


@lru_cache(maxsize=8192)
def is_beside(name: str) -> bool:
    """Whether only the tests of a minute judge a series (JSON)."""
    return not series_pairs(name).keys().isdisjoint(DERIVED)


@dataclass(frozen=True)
class Cells:
    """The cells of one batch of rollups."""

    names: list[str]
    starts: Matrix
    """(n,) start of the slot, µs UTC."""
    cells: Matrix
    """(n, 3): index into ``names``, code, value. The value of an error type is its calls, its code ERROR + index into
    ``errors``."""
    errors: list[str] = field(default_factory=list)


def cells_of(columns: dict[str, pa.Array], names: list[str], codes: Matrix, starts: Matrix) -> Cells:
    """Return what is kept of rollup rows.

    Args:
        columns: of the rollup; lists that a version did not count may be NULL.
        names: the distinct series.
        codes: (rows,) index into ``names``.
        starts: (rows,) start of the slot, µs UTC.
    """
    kept = np.array([is_watched(name) for name in names], bool)[codes] if len(names) else np.zeros(0, bool)
    parts = [_scalar(columns, name, kept) for name in (*SCALARS, "cache_saved_nanousd", "cost_nanousd")]
    parts.append(_saved_known(columns, kept))
    parts += [_histogram(columns.get(name), first, kept) for name, first in (("latency", 0), ("ttft", TTFT))]
    parts += [_per_call(columns, name, kept) for name in PER_CALL]
    found, errors = _errors(columns.get("error_types"), kept)
    rows = np.concatenate([*parts, found])
    at = rows[:, 0]
    return Cells(names, starts[at], np.column_stack([codes[at], rows[:, 1:]]), errors)


def _scalar(columns: dict[str, pa.Array], name: str, kept: NDArray[np.bool_]) -> Matrix:
    if name not in columns:
        return _NONE
    values = _integers(columns[name])
    rows = np.flatnonzero(kept & (values != 0))
    return np.column_stack([rows, np.full(len(rows), CODE[name]), values[rows]])


def _saved_known(columns: dict[str, pa.Array], kept: NDArray[np.bool_]) -> Matrix:
    saved = columns.get("cache_saved_nanousd")
    if saved is None or saved.null_count == len(saved):
        return _NONE
    rows = np.flatnonzero(kept & saved.is_valid().to_numpy(zero_copy_only=False))
    calls = _integers(columns["calls"])[rows]
    return np.column_stack([rows, np.full(len(rows), CODE["saved_known_calls"]), calls])


def _per_call(columns: dict[str, pa.Array], name: str, kept: NDArray[np.bool_]) -> Matrix:
    """Calls by their tokens or cost. Of rows that did not count them all calls are taken to be like their mean."""
    column = columns.get(name)
    if column is not None and not column.null_count:
        return _histogram(column, PER_CALL[name], kept, CALL_BINS)
    unknown = kept if column is None else kept & column.is_null().to_numpy(zero_copy_only=False)
    names = ("cost_nanousd",) if name == "call_cost" else ("input_tokens", "output_tokens")
    if any(each not in columns for each in names):
        return _NONE
    calls = _integers(columns["calls"])
    total = np.sum([_integers(columns[each]) for each in names], axis=0)
    rows = np.flatnonzero(unknown & (calls > 0) & (total > 0))
    buckets = np.ceil(np.log(np.maximum(total[rows] / calls[rows], 1.0)) / np.log(CALL_GAMMA)).astype(np.int64)
    means = np.column_stack([rows, np.minimum(buckets, CALL_BINS - 1) + PER_CALL[name], calls[rows]])
    return np.concatenate([means, _histogram(column, PER_CALL[name], kept, CALL_BINS)])


def _histogram(column: pa.ListArray | None, first: int, kept: NDArray[np.bool_], size: int = TTFT) -> Matrix:
    if column is None:
        return _NONE
    items = column.flatten()
    buckets, calls = items.flatten()
    rows = _integers(column.value_parent_indices())
    held = kept[rows]
    codes = np.clip(_integers(buckets), 0, size - 1) + first
    return np.column_stack([rows[held], codes[held], _integers(calls)[held]])


def _errors(column: pa.ListArray | None, kept: NDArray[np.bool_]) -> tuple[Matrix, list[str]]:
    if column is None or not len(items := column.flatten()):
        return _NONE, []
    parts = items.flatten()
    names, calls = (parts[items.type.get_field_index(name)] for name in ("name", "calls"))
    coded = names.fill_null("").dictionary_encode()
    rows = _integers(column.value_parent_indices())
    held = kept[rows]
    codes = _integers(coded.indices) + ERROR
    return np.column_stack([rows[held], codes[held], _integers(calls)[held]]), coded.dictionary.to_pylist()


_NONE: Matrix = np.zeros((0, 3), np.int64)


def _integers(column: pa.Array) -> Matrix:
    column = column.fill_null(0) if column.null_count else column
    numbers: Matrix = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return numbers


@dataclass
class Side:
    """The cells of one app in the slots of its ring."""

    names: list[str] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    """Slot in which a series was last seen."""
    errors: list[str] = field(default_factory=list)
    """Error types, by their number."""
    slots: dict[int, list[Matrix]] = field(default_factory=dict)
    """Start of the slot -> cells (series, code, value) as they came."""
    older: dict[int, Matrix] = field(default_factory=dict)
    """The same of slots that were dropped, of the codes OF_LONGER only; at most KEPT_LONGER slots."""

    def __post_init__(self) -> None:
        self.index = {name: row for row, name in enumerate(self.names)}
        self._starts = sorted(self.slots)
        """Of the slots, ascending: in a backlog there are weeks of them, and each look reads a few minutes."""

    def add(self, batch: Cells, kept: NDArray[np.bool_], starts: Matrix) -> None:
        """Add the cells of a batch that are ``kept``, (n,), under the slots ``starts``."""
        cells, at = batch.cells[kept], starts[kept]
        if not len(cells):
            return
        for name_row in np.unique(cells[:, 0]).tolist():
            latest = int(at[cells[:, 0] == name_row].max())
            self._place(batch.names[name_row], latest)
        place = np.array([self.index.get(name, -1) for name in batch.names], np.int64)
        error = np.array([ERROR + self._error(name) for name in batch.errors], np.int64)
        codes = cells[:, 1].copy()
        if len(error):
            typed = codes >= ERROR
            codes[typed] = error[codes[typed] - ERROR]
        placed = np.column_stack([place[cells[:, 0]], codes, cells[:, 2]])
        for start in np.unique(at).tolist():
            mine = placed[(at == start) & (placed[:, 0] >= 0)]
            if start not in self.slots:
                insort(self._starts, start)
            self.slots.setdefault(start, []).append(mine)

    def cells(self, since: int, until: int) -> Matrix:
        """(n, 3) cells of the slots that start in [since, until)."""
        first, end = bisect_left(self._starts, since), bisect_left(self._starts, until)
        held = [part for start in self._starts[first:end] for part in self.slots[start]]
        return np.concatenate(held) if held else _NONE

    def total(self, codes: list[int], since: int, until: int) -> NDArray[np.float64]:
        """(series, len(codes)) sums of some codes over the slots that start in [since, until)."""
        return sums_of(self.cells(since, until), codes, len(self.names))

    def longer(self, codes: list[int], since: int, until: int) -> NDArray[np.float64]:
        """The same of codes that are OF_LONGER, over up to KEPT_LONGER slots that have closed."""
        older = [cells for start, cells in self.older.items() if since <= start < until]
        return sums_of(np.concatenate([self.cells(since, until), *older]), codes, len(self.names))

    def by_slot(self, name: str, codes: list[int], starts: list[int]) -> NDArray[np.float64]:
        """(len(starts), len(codes)) sums of one series; see ``longer``."""
        out, place = np.zeros((len(starts), len(codes))), self.index.get(name, -1)
        for at, start in enumerate(starts):
            parts = self.slots.get(start) or ([self.older[start]] if start in self.older else [])
            for cells in parts:
                mine = cells[cells[:, 0] == place]
                out[at] += [float(mine[mine[:, 1] == code, 2].sum()) for code in codes]
        return out

    def clear(self) -> None:
        """Forget all slots; the series and the error types keep their numbers."""
        self.slots.clear()
        self.older.clear()
        self._starts.clear()

    def drop(self, before: int, longer: int) -> None:
        """Forget the slots that start before a time, and the sums that are kept longer before another one."""
        first = bisect_left(self._starts, before)
        for start in self._starts[:first]:
            cells = np.concatenate(self.slots.pop(start))
            self.older[start] = cells[np.isin(cells[:, 1], OF_LONGER)]
        del self._starts[:first]
        for start in [start for start in self.older if start < longer]:
            del self.older[start]

    def _place(self, name: str, slot: int) -> None:
        row = self.index.get(name)
        if row is None:
            if len(self.names) >= MAX_NAMES:
                row = self._evicted()
                self.names[row], self.last[row] = name, slot
            else:
                row = len(self.names)
                self.names.append(name)
                self.last.append(slot)
            self.index[name] = row
        self.last[row] = max(self.last[row], slot)

    def _evicted(self) -> int:
        """Make room; the app's own series, which has no dimension below it, stays."""
        row = min((r for r, name in enumerate(self.names) if len(series_pairs(name)) > 1), key=lambda r: self.last[r])
        del self.index[self.names[row]]
        for parts in self.slots.values():
            parts[:] = [part[part[:, 0] != row] for part in parts]
        self.older = {start: cells[cells[:, 0] != row] for start, cells in self.older.items()}
        return row

    def _error(self, name: str) -> int:
        if name not in self.errors:
            if len(self.errors) >= MAX_ERRORS:
                name = OTHER
            if name not in self.errors:
                self.errors.append(name)
        return self.errors.index(name)


def sums_of(cells: Matrix, codes: list[int], rows: int) -> NDArray[np.float64]:
    """(rows, len(codes)) sums of ``cells`` by series and code."""
    out = np.zeros((rows, len(codes)))
    for column, code in enumerate(codes):
        mine = cells[cells[:, 1] == code]
        out[:, column] = np.bincount(mine[:, 0], weights=mine[:, 2], minlength=rows)[:rows]
    return out
