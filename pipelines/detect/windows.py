"""Rollups of one app, accumulated into slots of event time, and the windows that end now.

A slot is 10 s. Windows are sums of slots, the open ones included, so that a big step is seen in seconds; what a series
has learned comes only from slots that left the ring five minutes later, so that an incident does not teach itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.items import COLUMN, COLUMNS, GUARDRAIL, SLOT, Batch
from schemas.rollups import OTHER, series_key, series_pairs

RING = 30
"""Closed slots kept: five minutes."""
LATENESS = 2_000_000
"""How long a slot stays open after the watermark passed its end."""
AHEAD = 60_000_000
BEHIND = 45 * 86_400_000_000
"""Rollups dated farther from the broker's clock are counted and not judged."""
MAX_SERIES = 4096
"""Per app; series beyond take the places of those silent for longest."""
MAX_KINDS = 24
"""Guardrails counted apart; the rest share ``guardrail:other``."""
WIDE = ("user",)
"""Dimensions with many values: their series are judged against each other, not each by itself."""
_EXEMPLARS = 3
__all__ = ["LATENESS", "RING", "SLOT", "Slot", "Windows", "column"]

Matrix = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass
class Slot:
    """What happened in ten seconds: series index -> sums over the columns; and the calls that show it."""

    rows: dict[int, Matrix] = field(default_factory=dict)
    exemplars: dict[tuple[int, str], list[tuple[int, str]]] = field(default_factory=dict)
    """(series index, measure) -> [(value, call id)], dearest first."""
    actions: dict[tuple[str, str], int] = field(default_factory=dict)
    """(guardrail, action) -> calls, over the whole app."""

    def __post_init__(self) -> None:
        self._dense: tuple[Matrix, Matrix] | None = None

    def add(self, place: int, sums: Matrix) -> None:
        """Add the sums of one rollup row."""
        known = self.rows.get(place)
        self.rows[place] = sums if known is None else _sum(known, sums)
        self._dense = None

    def dense(self) -> tuple[Matrix, Matrix]:
        """(places, sums): the rows as arrays, kept until something is added."""
        if self._dense is None:
            places = np.fromiter(self.rows, np.int64, len(self.rows))
            sums = np.zeros((len(places), max((len(r) for r in self.rows.values()), default=0)), np.int64)
            for i, row in enumerate(self.rows.values()):
                sums[i, : len(row)] = row
            self._dense = places, sums
        return self._dense

    def drop(self, places: set[int]) -> None:
        """Forget series whose places are given to others."""
        self._dense = None
        self.rows = {p: sums for p, sums in self.rows.items() if p not in places}
        self.exemplars = {key: calls for key, calls in self.exemplars.items() if key[0] not in places}


@dataclass
class Windows:
    """All series of one app. Columns are ``items.COLUMNS``, then one per guardrail kind."""

    app: str
    series: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    """Distinct dimension sets, such as ``app,user``."""
    group: list[int] = field(default_factory=list)
    """Group of every series."""
    named: list[bool] = field(default_factory=list)
    """False for the app itself and for the pool of what is not tracked."""
    last: list[int] = field(default_factory=list)
    """Slot in which a series was last heard."""
    kinds: list[str] = field(default_factory=list)
    slots: dict[int, Slot] = field(default_factory=dict)
    closed: int = 0
    """Start of the first slot that is still open; 0 = nothing was heard yet."""
    first: int = 0
    late: int = 0
    """Calls in rollups that came after their slot had closed."""
    refused: int = 0
    """Calls dated too far ahead or back to be judged."""
    positions: dict[int, int] = field(default_factory=dict)
    """Source partition -> next offset that is in these sums."""
    epoch: int = 0
    free: list[int] = field(default_factory=list)
    """Places that were taken from series silent for longest."""
    reused: list[int] = field(default_factory=list)
    """Indices whose series changed since the last judgement: what was learned under them is void."""

    def __post_init__(self) -> None:
        self.own = series_key({"app": self.app})[1]
        """The series of the app itself."""

    @property
    def width(self) -> int:
        """Columns in use."""
        return len(COLUMNS) + len(self.kinds)

    def add(self, batch: Batch) -> list[tuple[str, int, Matrix]]:
        """Take in a batch; return (series, slot, sums) of what was added, for open incidents."""
        starts = batch.starts
        sane = (starts <= batch.kafka_time + AHEAD) & (starts >= batch.kafka_time - BEHIND)
        if not self.closed and sane.any():
            self.closed = self.first = int(starts[sane].min())
        oldest = self.closed - RING * SLOT
        extra = self._triggers(batch, np.where(sane, starts, 0), oldest)
        added = []
        for row, name in enumerate(batch.series):
            start = int(starts[row])
            if name == self.own:
                self.late += int(batch.sums[row, 0]) if sane[row] and start < self.closed else 0
                self.refused += 0 if sane[row] else int(batch.sums[row, 0])
            if start < oldest or not sane[row]:
                continue
            place = self.place(name, start)
            sums = self._widen(batch.sums[row], extra.get(row, {}))
            self.slots.setdefault(start, Slot()).add(place, sums)
            added.append((name, start, sums))
        self._keep(batch, np.where(sane, starts, 0), oldest)
        if batch.epoch > self.epoch:  # the topic was made again: offsets of the old one mean nothing in it
            self.positions, self.epoch = {}, batch.epoch
        if batch.epoch == self.epoch:
            self.positions[batch.source] = max(self.positions.get(batch.source, 0), batch.next_offset)
        return added

    def place(self, name: str, slot: int) -> int:
        """Index of a series; the one silent for longest gives way when all are taken."""
        known = self.index.get(name)
        if known is None:
            known = len(self.series)
            if known >= MAX_SERIES:
                known = self._evict()
            else:
                self.series.append("")
                self.group.append(0)
                self.named.append(False)
                self.last.append(slot)
            self._settle(known, name, slot)
        self.last[known] = max(self.last[known], slot)
        return known

    def wide(self) -> NDArray[np.bool_]:
        """(series,) which have a dimension of many values."""
        return self.wide_groups()[self.group]

    def wide_groups(self) -> NDArray[np.bool_]:
        """(groups,) the same by group."""
        return np.array([any(d in WIDE for d in g.split(",")) for g in self.groups], bool)

    def _evict(self) -> int:
        """Make room: an eighth of all places at once, those silent for longest, so that a flood of names is cheap."""
        if not self.free:
            oldest = np.argsort(np.array(self.last), kind="stable").tolist()
            self.free = [p for p in oldest if self.series[p] != self.own][: max(1, MAX_SERIES // 8)][::-1]
            gone = set(self.free)
            for place in self.free:
                del self.index[self.series[place]]
                self.series[place], self.named[place], self.group[place] = "", False, 0
            for held in self.slots.values():
                held.drop(gone)
            self.reused += self.free
        place = self.free.pop()
        self.last[place] = 0
        return place

    def _settle(self, known: int, name: str, slot: int) -> None:
        pairs = series_pairs(name)
        group = ",".join(pairs)
        if group not in self.groups:
            self.groups.append(group)
        self.index[name] = known
        self.series[known] = name
        self.group[known] = self.groups.index(group)
        self.named[known] = len(pairs) > 1 and OTHER not in list(pairs.values())[1:]

    def total(self, since: int, until: int) -> Matrix:
        """Sums over the slots that start in [since, until): (series, columns)."""
        out = np.zeros((len(self.series), self.width), np.int64)
        for start in range(since, until, SLOT):
            if slot := self.slots.get(start):
                places, sums = slot.dense()
                out[places, : sums.shape[1]] += sums
        return out

    def of(self, place: int, measure: int, since: int, until: int) -> Matrix:
        """One series and column, slot by slot."""
        out = np.zeros((until - since) // SLOT, np.int64)
        for i, start in enumerate(range(since, until, SLOT)):
            row = self.slots[start].rows.get(place) if start in self.slots else None
            if row is not None and measure < len(row):
                out[i] = row[measure]
        return out

    def latest(self) -> int:
        """End of the youngest slot with anything in it."""
        return max(self.slots, default=self.closed - SLOT) + SLOT

    def gap(self, until: int) -> int:
        """How many slots may be closed at once: nothing is in the ring, and nothing comes before the next one held."""
        ahead = min(self.slots, default=until)
        if ahead <= self.closed:
            return 0
        return max(0, (min(ahead, until - LATENESS) - self.closed) // SLOT)

    def close(self) -> Matrix:
        """Close the oldest open slot; return the sums of the slot that thereby leaves the ring."""
        leaving = self.slots.pop(self.closed - RING * SLOT, Slot())
        self.closed += SLOT
        out = np.zeros((len(self.series), self.width), np.int64)
        places, sums = leaving.dense()
        out[places, : sums.shape[1]] = sums
        return out

    def calls_of(self, place: int, measure: str, since: int, until: int, limit: int = 10) -> tuple[str, ...]:
        """Exemplar call ids of a series, dearest first."""
        found = [
            pair
            for start in range(since, until, SLOT)
            for (at, name), pairs in self.slots.get(start, Slot()).exemplars.items()
            if at == place and (name == measure or name.startswith(measure + ":"))
            for pair in pairs
        ]
        return tuple(dict.fromkeys(call for _, call in sorted(found, key=lambda p: (-p[0], p[1]))))[:limit]

    def _triggers(self, batch: Batch, starts: Matrix, oldest: int) -> dict[int, dict[int, int]]:
        extra: dict[int, dict[int, int]] = {}
        for row, name, action, calls in batch.triggers:
            column = self._kind(name)
            row_extra = extra.setdefault(row, {})
            row_extra[column] = row_extra.get(column, 0) + calls
            if batch.series[row] == self.own:
                start = int(starts[row])
                if start >= max(oldest, 1):
                    actions = self.slots.setdefault(start, Slot()).actions
                    kind = self.kinds[column - len(COLUMNS)].removeprefix(GUARDRAIL)  # bounded, as names are not
                    actions[kind, action] = actions.get((kind, action), 0) + calls
        return extra

    def _kind(self, name: str) -> int:
        kind = GUARDRAIL + name
        if kind not in self.kinds:
            if len(self.kinds) >= MAX_KINDS:
                kind = GUARDRAIL + OTHER
            if kind not in self.kinds:
                self.kinds.append(kind)
        return len(COLUMNS) + self.kinds.index(kind)

    def _widen(self, sums: Matrix, extra: dict[int, int]) -> Matrix:
        if not extra:
            return sums.copy()
        out = np.zeros(max(extra) + 1, np.int64)
        out[: len(sums)] = sums
        for column, calls in extra.items():
            out[column] = calls
        return out

    def _keep(self, batch: Batch, starts: Matrix, oldest: int) -> None:
        for row, measure, value, call_id in batch.exemplars:
            start = int(starts[row])
            if start < max(oldest, 1):
                continue
            held = self.slots[start].exemplars
            if (place := self.index.get(batch.series[row])) is None:  # gave way within this batch
                continue
            key = (place, measure)
            known = held.get(key)
            if known is None:
                held[key] = [(value, call_id)]
            elif len(known) < _EXEMPLARS or value >= known[-1][0]:
                best = sorted({*known, (value, call_id)}, key=lambda p: (-p[0], p[1]))
                held[key] = best[:_EXEMPLARS]


def column(kinds: list[str], name: str) -> int:
    """Index of a column by name: a rollup column or a guardrail kind."""
    return COLUMN[name] if name in COLUMN else len(COLUMNS) + kinds.index(name)


def _sum(a: Matrix, b: Matrix) -> Matrix:
    if len(a) < len(b):
        a, b = b, a
    out = a.copy()
    out[: len(b)] += b
    return out
