"""Ten seconds of one app: the sums of every series with a call, and example calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.exemplars import Exemplars, UnreadExemplars, concatenated

Matrix = NDArray[np.int64]
RING = 30
"""Closed slots kept: five minutes."""
_EXEMPLARS = 3


def _none() -> Matrix:
    return np.zeros(0, np.int64)


@dataclass
class Slot:
    """The rows of ten seconds. They are stored as received and merged when they are read."""

    places: Matrix = field(default_factory=_none)
    """(rows,) which series, ascending."""
    sums: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """(rows, columns) their sums."""
    exemplars: dict[tuple[int, str], list[tuple[int, str]]] = field(default_factory=dict)
    """(series index, measure) -> [(value, call id)], most expensive first."""
    actions: dict[tuple[str, str], int] = field(default_factory=dict)
    """(guardrail, action) -> calls, over the whole app."""

    def __post_init__(self) -> None:
        self._more: list[tuple[Matrix, Matrix]] = []
        self._shown: list[Exemplars] = []
        self._unread: list[UnreadExemplars] = []
        self._most: dict[int, tuple[int, int]] = {}

    def add(self, places: Matrix, sums: Matrix) -> None:
        """Add rows: ``places`` (n,), ``sums`` (n, columns). A place may come several times."""
        self._more.append((places, sums))

    def dense(self) -> tuple[Matrix, Matrix]:
        """(places, sums): every place once, ascending."""
        if self._more:
            self.places, self.sums = _merged([(self.places, self.sums), *self._more])
            self._more = []
        return self.places, self.sums

    @property
    def is_dense(self) -> bool:
        """Whether its rows are merged."""
        return not self._more

    def parts(self) -> list[tuple[Matrix, Matrix]]:
        """Rows as received."""
        return [(self.places, self.sums), *self._more]

    def put(self, places: Matrix, sums: Matrix) -> None:
        """Replace all rows by their sums; columns that no row has are left out."""
        width = max(part.shape[1] for _, part in self.parts())
        self.places, self.sums, self._more = places, sums[:, :width], []

    def show(self, exemplars: Exemplars) -> None:
        """Add example calls of the series ``exemplars.rows``."""
        self._shown.append(exemplars)

    def note(self, shown: UnreadExemplars) -> None:
        """Add example calls of the series ``shown.rows``; they are read when they are used."""
        self._unread.append(shown)

    def _read(self) -> list[Exemplars]:
        if self._unread:
            self._shown.append(concatenated(self._unread).read())
            self._unread = []
        return self._shown

    def shown(self) -> dict[tuple[int, str], list[tuple[int, str]]]:
        """(series index, measure) -> [(value, call id)], the most expensive first, few of each."""
        for more in self._read():
            names = [more.measures[code] for code in more.codes.tolist()]
            for place, name, value, call in zip(
                more.rows.tolist(), names, more.values.tolist(), more.call_ids(), strict=True
            ):
                self._keep((place, name), value, call)
        if self._shown:
            self._shown, self._most = [], {}
        return self.exemplars

    def most_expensive(self, place: int) -> int:
        """Highest cost of an example call of a series, in nano-USD."""
        shown = self._read()
        seen, top = self._most.get(place, (0, -1))
        if top < 0:
            top = max((value for value, _ in self.exemplars.get((place, "cost"), ())), default=0)
        for more in shown[seen:]:
            cost = more.measures.index("cost") if "cost" in more.measures else -1
            top = max(top, int(more.values[(more.rows == place) & (more.codes == cost)].max(initial=0)))
        self._most[place] = len(self._shown), top
        return top

    def _keep(self, key: tuple[int, str], value: int, call: str) -> None:
        known = self.exemplars.get(key)
        if known is None:
            self.exemplars[key] = [(value, call)]
        elif len(known) < _EXEMPLARS or value >= known[-1][0]:
            best = sorted({*known, (value, call)}, key=lambda pair: (-pair[0], pair[1]))
            self.exemplars[key] = best[:_EXEMPLARS]

    def merge(self) -> None:
        """Merge all rows into the fields, before the state is encoded."""
        self.dense()
        self.shown()

    def value(self, place: int, column: int) -> int:
        """One number; 0 where that series has no row."""
        places, sums = self.dense()
        row = int(np.searchsorted(places, place)) if place else 0
        if row == len(places) or places[row] != place or column >= sums.shape[1]:
            return 0
        return int(sums[row, column])

    def row(self, place: int) -> Matrix | None:
        """The sums of one series; None where it has no row."""
        places, sums = self.dense()
        row = int(np.searchsorted(places, place))
        return sums[row] if row < len(places) and places[row] == place else None

    def drop(self, places: NDArray[np.bool_]) -> None:
        """Remove the series that are set in ``places``: their places are assigned to others."""
        held, sums = self.dense()
        self._most = {}
        kept = ~places[held]
        self.places, self.sums = held[kept], sums[kept]
        self.exemplars = {key: calls for key, calls in self.shown().items() if not places[key[0]]}


def merge_all(slots: Sequence[Slot]) -> None:
    """Make ``dense`` cheap for many slots, of several apps: their rows are merged at once."""
    parts = [(i, *part) for i, slot in enumerate(slots) for part in slot.parts() if len(part[0])]
    if not parts:
        return
    parts.sort(key=lambda part: part[2].shape[1])
    sizes = [len(places) for _, places, _ in parts]
    widest = parts[-1][2].shape[1]
    which = np.repeat([i for i, _, _ in parts], sizes)
    places = np.concatenate([places for _, places, _ in parts])
    sums = np.concatenate([s if s.shape[1] == widest else _widened(s, widest) for _, _, s in parts])
    order = np.lexsort((places, which))
    which, places = which[order], places[order]
    new = np.ones(len(places), bool)
    new[1:] = (which[1:] != which[:-1]) | (places[1:] != places[:-1])
    first = np.flatnonzero(new)
    sums, places = np.add.reduceat(sums[order], first, axis=0), places[first]
    ends = np.searchsorted(which[first], np.arange(len(slots) + 1)).tolist()
    for i, slot in enumerate(slots):
        slot.put(places[ends[i] : ends[i + 1]], sums[ends[i] : ends[i + 1]])


def _merged(parts: list[tuple[Matrix, Matrix]]) -> tuple[Matrix, Matrix]:
    width = max(sums.shape[1] for _, sums in parts)
    places = np.concatenate([p for p, _ in parts])
    sums = np.concatenate([s if s.shape[1] == width else _widened(s, width) for _, s in parts])
    order = np.argsort(places, kind="stable")
    places = places[order]
    first = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]])) if len(places) else _none()
    if len(first) == len(places):
        return places, sums[order]
    return places[first], np.add.reduceat(sums[order], first, axis=0)


def _widened(sums: Matrix, width: int) -> Matrix:
    out = np.zeros((len(sums), width), np.int64)
    out[:, : sums.shape[1]] = sums
    return out
