"""What the detectors of ``minute`` read: latencies, tokens and cost of calls, cache reads, retries and error types.

They are stored apart from the sums of ``Windows``: most series have few of these numbers, so each is a cell (series,
code, value). Series have their own numbers here, because only these detectors use the dimension ``input_size``: the
other ones would take a longer prompt for calls that moved from one size class to another.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.detect.cells import (
    CALL_BINS,
    CODE,
    ERROR,
    NONE,
    PER_CALL,
    TTFT,
    CellRows,
    Cells,
    Matrix,
    cells_of,
    is_minute_only,
    is_watched,
)
from pipelines.detect.side_cells import CODES, Minutes, merged, sums_of
from schemas.rollups import OTHER, series_pairs

__all__ = [
    "CALL_BINS",
    "CODE",
    "ERROR",
    "PER_CALL",
    "TTFT",
    "CellRows",
    "Cells",
    "Matrix",
    "Side",
    "is_minute_only",
    "is_watched",
]
MAX_NAMES = 192
"""Series of one app; those without a call for the longest time are evicted."""
MAX_ERRORS = 24
"""Error types counted apart in one app; the rest share OTHER."""
KEPT_LONGER = 120
"""Slots for which the sums of OF_LONGER are kept: twenty minutes, in which a series with rare calls has some."""
OF_LONGER = [CODE[name] for name in ("calls", "input_tokens", "output_tokens", "cost_nanousd")]
_IS_LONGER = np.isin(np.arange(CODES), OF_LONGER)
"""By code."""
MOST_UNREAD, MOST_UNREAD_ROWS = 16, 4_000
"""Messages whose cells are not read yet: their rows are stored as received, some 15 KB each."""


@dataclass
class Side:
    """The cells of one app in the slots of its ring."""

    names: list[str] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    """Slot in which a series was last seen."""
    errors: list[str] = field(default_factory=list)
    """Error types, by their number."""
    slots: dict[int, list[Matrix]] = field(default_factory=dict)
    """Start of the slot -> cells (series, code, value) as received."""
    older: dict[int, Matrix] = field(default_factory=dict)
    """The same of slots that were dropped, of the codes OF_LONGER only; at most KEPT_LONGER slots."""

    def __post_init__(self) -> None:
        self.index = {name: row for row, name in enumerate(self.names)}
        self._starts = sorted(self.slots)
        """Of the slots, ascending: in a backlog there are weeks of them, and each look reads a few minutes."""
        self._unread: list[tuple[pa.RecordBatch, Matrix, Matrix]] = []
        """(rows, number of their series, -1 = not kept, and their slots) of messages, as received."""
        self._unmerged = set[int]()
        """Slots whose cells are not merged."""

    def note(self, message: CellRows | Cells, since: int, until: int) -> None:
        """Add the rows of a message whose slots start in [since, until]; their cells are read later."""
        if isinstance(message, Cells):
            self.add(message, (message.starts >= since) & (message.starts <= until), message.starts)
            return
        kept = (message.codes >= 0) & (message.starts >= since) & (message.starts <= until)
        if not kept.any():
            return
        if sum(name not in self.index for name in message.names) + len(self.names) > MAX_NAMES:
            self.note(message.read(), since, until)
            return
        place = self._placed(message.names, message.codes[kept], message.starts[kept])
        self._unread.append((message.rows, np.where(kept, place[message.codes], -1), message.starts))
        rows = sum(len(starts) for _, _, starts in self._unread)
        if len(self._unread) >= MOST_UNREAD or rows >= MOST_UNREAD_ROWS:
            self.read()

    def read(self) -> None:
        """Read the cells of the messages that were added."""
        unread, self._unread = self._unread, []
        for _, messages in groupby(unread, key=lambda message: message[0].schema):
            rows, places, starts = zip(*messages, strict=True)
            cells, at, errors = cells_of(rows, np.concatenate(places))
            self._put(cells, np.concatenate(starts)[at], errors)

    def add(self, batch: Cells, kept: NDArray[np.bool_], starts: Matrix) -> None:
        """Add the cells of a batch that are ``kept``, (n,), under the slots ``starts``."""
        self.read()
        cells, at = batch.cells[kept], starts[kept]
        if not len(cells):
            return
        place = self._placed(batch.names, cells[:, 0], at)
        cells[:, 0] = place[cells[:, 0]]
        held = cells[:, 0] >= 0  # the others were evicted for series of this batch
        self._put(cells[held], at[held], batch.errors)

    def _placed(self, names: list[str], codes: Matrix, starts: Matrix) -> Matrix:
        """Add the series ``codes``, which have rows in ``starts``; return the number of each name, -1 = none."""
        latest = np.full(len(names), -1)
        np.maximum.at(latest, codes, starts)
        for name, slot in zip(names, latest.tolist(), strict=True):
            if slot >= 0:
                self._place(name, slot)
        return np.array([self.index.get(name, -1) for name in names], np.int64)

    def _put(self, cells: Matrix, starts: Matrix, errors: list[str]) -> None:
        """Put cells, whose series have places, into their slots."""
        if errors:
            error = np.array([ERROR + self._error(name) for name in errors], np.int64)
            typed = cells[:, 1] >= ERROR
            cells[typed, 1] = error[cells[typed, 1] - ERROR]
        order = np.argsort(starts, kind="stable")
        cells, starts = cells[order], starts[order]
        first = np.flatnonzero(
            np.diff(starts, prepend=starts[:1] - 1)
        ).tolist()  # of many slots where a backlog is read
        for begin, upto in pairwise([*first, len(starts)]):
            start = int(starts[begin])
            if start not in self.slots:
                insort(self._starts, start)
            self.slots.setdefault(start, []).append(cells[begin:upto])
            self._unmerged.add(start)

    def cells(self, since: int, until: int) -> Matrix:
        """(n, 3) cells of the slots that start in [since, until)."""
        self.read()
        first, end = bisect_left(self._starts, since), bisect_left(self._starts, until)
        held = [self._merged_slot(start) for start in self._starts[first:end]]
        return np.concatenate(held) if held else NONE

    def minutes(self, ends: Sequence[int], length: int) -> Minutes:
        """Cells of minutes that follow each other, each ``length`` µs long."""
        self.read()
        since = ends[0] - length
        held = self._starts[bisect_left(self._starts, since) : bisect_left(self._starts, ends[-1])]
        parts = [self._merged_slot(start) for start in held]
        cells = np.concatenate([NONE, *parts])
        at = np.repeat([(start - since) // length for start in held] or NONE[:, 0], [len(part) for part in parts])
        cells[:, 0] += at * len(self.names)
        busy = np.zeros(len(ends), bool)
        busy[at] = True
        return Minutes(cells, len(ends), len(self.names), busy)

    def merge(self) -> None:
        """Merge the cells of every slot, before the state is encoded."""
        self.read()
        for start in sorted(self._unmerged):
            self._merged_slot(start)

    def _merged_slot(self, start: int) -> Matrix:
        """Cells of a slot, each once; they are read more than once."""
        parts = self.slots[start]
        if start in self._unmerged:
            self._unmerged.remove(start)
            parts[:] = [merged(np.concatenate(parts))]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def total(self, codes: list[int], since: int, until: int) -> NDArray[np.float64]:
        """(series, len(codes)) sums of some codes over the slots that start in [since, until)."""
        return sums_of(self.cells(since, until), codes, len(self.names))

    def longer(self, codes: list[int], since: int, until: int) -> NDArray[np.float64]:
        """The same of codes that are OF_LONGER, over up to KEPT_LONGER slots that have closed."""
        older = [cells for start, cells in self.older.items() if since <= start < until]
        return sums_of(np.concatenate([self.cells(since, until), *older]), codes, len(self.names))

    def by_slot(self, name: str, codes: list[int], starts: list[int]) -> NDArray[np.float64]:
        """(len(starts), len(codes)) sums of one series; see ``longer``."""
        self.read()
        out, place = np.zeros((len(starts), len(codes))), self.index.get(name, -1)
        for at, start in enumerate(starts):
            parts = self.slots.get(start) or ([self.older[start]] if start in self.older else [])
            for cells in parts:
                mine = cells[cells[:, 0] == place]
                out[at] += [float(mine[mine[:, 1] == code, 2].sum()) for code in codes]
        return out

    def clear(self) -> None:
        """Remove all slots; the series and the error types keep their numbers."""
        self.slots.clear()
        self.older.clear()
        self._starts.clear()
        self._unread.clear()
        self._unmerged.clear()

    def drop(self, before: int, longer: int) -> None:
        """Remove the slots that start before ``before``, and the sums that are kept longer before ``longer``."""
        self.read()
        first = bisect_left(self._starts, before)
        for start in self._starts[:first]:
            cells = self._merged_slot(start)
            self.older[start] = cells[_IS_LONGER[cells[:, 1]]]
            del self.slots[start]
        del self._starts[:first]
        for start in [start for start in self.older if start < longer]:
            del self.older[start]

    def _place(self, name: str, slot: int) -> None:
        row = self.index.get(name)
        if row is None:
            if len(self.names) >= MAX_NAMES:
                row = self._evict()
                self.names[row], self.last[row] = name, slot
            else:
                row = len(self.names)
                self.names.append(name)
                self.last.append(slot)
            self.index[name] = row
        self.last[row] = max(self.last[row], slot)

    def _evict(self) -> int:
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
