"""Rollups of one app, accumulated into slots of event time, and the windows that end now.

A slot is 10 s. Windows are sums of slots, the open ones included, so that a big step is seen in seconds; what a series
has learned comes only from slots that left the ring five minutes later, so that an incident is not learned as normal.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.items import BASE, COLUMN, COLUMNS, GUARDRAIL, SLOT, Batch, UnreadExemplars
from pipelines.detect.side import KEPT_LONGER, Side
from pipelines.detect.slots import Matrix, Slot
from schemas.rollups import OTHER, series_key, series_pairs

RING = 30
"""Closed slots kept: five minutes."""
LATENESS = 2_000_000
"""How long a slot stays open after the watermark passed its end."""
AHEAD = 60_000_000
BEHIND = 45 * 86_400_000_000
"""Rollups dated farther from the broker's clock are counted and not judged."""
MAX_SERIES = 4096
"""Per app; further series take the places of those without a call for the longest time."""
MAX_KINDS = 24
"""Guardrails counted apart; the rest share ``guardrail:other``. Of signals beyond, none is counted."""
MAX_MOVED = 20_000
"""Batches of rows of all apps that are stored between two looks: more rows at once are history."""
HIGH_CARDINALITY = ("user",)
"""Dimensions with many values: their series are judged against each other, not each by itself."""
__all__ = ["LATENESS", "RING", "SLOT", "Matrix", "Slot", "Windows", "column"]

Floats = NDArray[np.float64]


@dataclass
class Windows:
    """All series of one app. Columns are ``items.COLUMNS``, then one per kind: guardrails and text signals, as met."""

    app: str
    series: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    """Distinct dimension sets, such as ``app,user``."""
    group: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Group of every series."""
    named: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """False for the app itself and for the pool of what is not tracked."""
    last: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Slot of the last row of a series."""
    kinds: list[str] = field(default_factory=list)
    slots: dict[int, Slot] = field(default_factory=dict)
    closed: int = 0
    """Start of the first slot that is still open; 0 = there was no row yet."""
    first: int = 0
    late: int = 0
    """Calls in rollups that came after their slot had closed."""
    refused: int = 0
    """Calls dated too far ahead or back to be judged."""
    positions: dict[int, int] = field(default_factory=dict)
    """Source partition -> next offset that is in these sums."""
    epoch: int = 0
    free: list[int] = field(default_factory=list)
    """Places of evicted series, which had no call for the longest time."""
    reused: list[int] = field(default_factory=list)
    """Indices whose series changed since the last judgement: what was learned under them is void."""
    side: Side = field(default_factory=Side)
    """What the detectors read that judge once a minute; its series have their own numbers."""

    def __post_init__(self) -> None:
        self.own = series_key({"app": self.app})[1]
        """The series of the app itself."""
        self.lake_usd = 0.0
        """Highest spend of any app of this partition, USD per slot in five minutes; the judge sets it."""
        self._starts = sorted(self.slots)
        self._top = self._starts[-1] if self._starts else 0
        self._high_cardinality: NDArray[np.bool_] | None = None
        self.moved: list[tuple[int, int, Matrix, Matrix]] | None = None
        """(number, start, series, sums) of rows that came in open buckets, of this app and others; None where not all
        of them are stored."""
        self.number = -1
        """Of this app in there."""
        self.learned = 0
        """``closed`` when buckets left the ring last: earlier ones than RING before it are not kept."""

    @property
    def width(self) -> int:
        """Columns in use."""
        return len(COLUMNS) + len(self.kinds)

    def add(self, batch: Batch, watched: Collection[str] = ()) -> list[tuple[str, int, Matrix]]:
        """Add the rows of a batch; return (series, slot, sums) of those whose series is ``watched``."""
        starts = batch.starts
        plausible = (starts <= batch.kafka_time + AHEAD) & (starts >= batch.kafka_time - BEHIND)
        if not self.closed and plausible.any():
            self.closed = self.first = int(starts[plausible].min())
        oldest = self.closed - RING * SLOT
        kept, dated = plausible & (starts >= oldest), starts if plausible.all() else np.where(plausible, starts, 0)
        sums = self._widen(batch.sums, self._triggers(batch, dated, oldest))
        whole = bool(kept.all())
        if not (whole and (starts >= self.closed).all()):
            own = np.array([name == self.own for name in batch.series], bool)
            self._count_late_and_refused(starts[own], plausible[own], batch.sums[own, 0])
        names = batch.series if whole else [name for name, is_kept in zip(batch.series, kept, strict=True) if is_kept]
        new = dict.fromkeys(name for name in names if name not in self.index)
        if new and len(self.series) + len(new) > MAX_SERIES:
            self._add_making_room(batch.series, starts, sums, kept)
        else:
            for name in new:
                self.place(name, 0)
            places = np.array([self.index[name] for name in names], np.int64)
            self._store(*((places, starts, sums) if whole else (places, starts[kept], sums[kept])))
        self._keep(batch, dated, oldest)
        if batch.cells is not None:
            since = max(batch.kafka_time - BEHIND, oldest, 1)
            self.side.note(batch.cells, since, batch.kafka_time + AHEAD)
        if batch.epoch > self.epoch:  # the topic was recreated: offsets of the old one are not valid in it
            self.positions, self.epoch = {}, batch.epoch
        if batch.epoch == self.epoch:
            self.positions[batch.source] = max(self.positions.get(batch.source, 0), batch.next_offset)
        if not watched:
            return []
        return [(n, int(starts[row]), sums[row]) for row, n in enumerate(batch.series) if n in watched and kept[row]]

    def _add_making_room(self, names: list[str], starts: Matrix, sums: Matrix, kept: NDArray[np.bool_]) -> None:
        """Store rows of more series than there is room for, one series after the other."""
        places, stored = np.full(len(names), -1), 0
        for name, first, upto in _stretches(names):
            rows = (first + np.flatnonzero(kept[first:upto])).tolist()
            if not rows:
                continue
            if name not in self.index and len(self.series) >= MAX_SERIES and not self.free:
                # an eviction drops rows of other series, those of this batch included
                self._store(places[stored:first], starts[stored:first], sums[stored:first])
                stored = first
            places[rows] = self.place(name, int(starts[rows[0]]))
        self._store(places[stored:], starts[stored:], sums[stored:])

    def _count_late_and_refused(self, starts: Matrix, plausible: NDArray[np.bool_], calls: Matrix) -> None:
        self.late += int(calls[plausible & (starts < self.closed)].sum())
        self.refused += int(calls[~plausible].sum())

    def _store(self, places: Matrix, starts: Matrix, sums: Matrix) -> None:
        """Put rows into their slots; those with place -1 are left out."""
        if not (places >= 0).all():
            kept = places >= 0
            places, starts, sums = places[kept], starts[kept], sums[kept]
        if not len(places):
            return
        np.maximum.at(self.last, places, starts)
        if (starts[1:] < starts[:-1]).any():
            order = np.argsort(starts, kind="stable")
            starts, places, sums = starts[order], places[order], sums[order]
        cuts = [0, *(np.flatnonzero(starts[1:] != starts[:-1]) + 1).tolist(), len(starts)]
        for first, upto in pairwise(cuts):
            start, rows = int(starts[first]), (places[first:upto], sums[first:upto])
            self.slot(start).add(*rows)
            if self.moved is not None:
                if start < self.closed or len(self.moved) >= MAX_MOVED:
                    self.moved = None
                else:
                    self.moved.append((self.number, start, *rows))

    def slot(self, start: int) -> Slot:
        """The slot that begins at ``start``, made where there is none."""
        found = self.slots.get(start)
        if found is None:
            found = self.slots[start] = Slot()
            heapq.heappush(self._starts, start)
            self._top = max(self._top, start)
        return found

    def place(self, name: str, slot: int) -> int:
        """Index of a series; when all are taken, the series without a call for the longest time is evicted."""
        known = self.index.get(name)
        if known is None:
            known = len(self.series)
            if known >= MAX_SERIES:
                known = self._evict()
            else:
                self.series.append("")
                self.group = np.append(self.group, 0)
                self.named = np.append(self.named, False)
                self.last = np.append(self.last, slot)
            self._register(known, name)
        self.last[known] = max(self.last[known], slot)
        return known

    def high_cardinality(self) -> NDArray[np.bool_]:
        """(series,) which have a dimension of many values."""
        if self._high_cardinality is None:
            self._high_cardinality = self.high_cardinality_groups()[self.group]
        return self._high_cardinality

    def high_cardinality_groups(self) -> NDArray[np.bool_]:
        """(groups,) the same by group."""
        return np.array([any(d in HIGH_CARDINALITY for d in g.split(",")) for g in self.groups], bool)

    def _evict(self) -> int:
        """Evict an eighth of all series at once, those without a call for the longest time; return a free place."""
        if not self.free:
            oldest = np.argsort(self.last, kind="stable").tolist()
            self.free = [p for p in oldest if self.series[p] != self.own][: max(1, MAX_SERIES // 8)][::-1]
            is_evicted = np.zeros(len(self.series), bool)
            is_evicted[self.free] = True
            for place in self.free:
                del self.index[self.series[place]]
                self.series[place] = ""
            self.named[is_evicted], self.group[is_evicted], self._high_cardinality = False, 0, None
            for held in self.slots.values():
                held.drop(is_evicted)
            self.reused += self.free
            self.moved = None
        place = self.free.pop()
        self.last[place] = 0
        return place

    def _register(self, known: int, name: str) -> None:
        pairs = series_pairs(name)
        group = ",".join(pairs)
        if group not in self.groups:
            self.groups.append(group)
        self.index[name] = known
        self.series[known] = name
        self.group[known] = self.groups.index(group)
        self.named[known] = len(pairs) > 1 and OTHER not in list(pairs.values())[1:]
        self._high_cardinality = None

    def total(self, since: int, until: int) -> Matrix:
        """Sums over the slots that start in [since, until): (series, columns)."""
        out = np.zeros((len(self.series), self.width), np.int64)
        for start in self.held(since, until):
            places, sums = self.slots[start].dense()
            out[places, : sums.shape[1]] += sums
        return out

    def total_of(self, columns: NDArray[np.int64], since: int, until: int) -> Matrix:
        """The same of some columns, which every row has: (series, len(columns))."""
        out = np.zeros((len(self.series), len(columns)), np.int64)
        for start in self.held(since, until):
            places, sums = self.slots[start].dense()
            out[places] += sums[:, columns]
        return out

    def held(self, since: int, until: int) -> list[int]:
        """Starts in [since, until) of the slots that hold anything, ascending: as cheap for a year as for an hour."""
        if (until - since) // SLOT > len(self.slots):
            return sorted(start for start in self.slots if since <= start < until)
        return [start for start in range(since, until, SLOT) if start in self.slots]

    def of(self, place: int, measure: int, since: int, until: int) -> Matrix:
        """One series and column, slot by slot."""
        out = np.zeros((until - since) // SLOT, np.int64)
        for start in self.held(since, until):
            out[(start - since) // SLOT] = self.slots[start].value(place, measure)
        return out

    def row(self, place: int, since: int, until: int) -> Matrix:
        """Sums of one series over the slots that start in [since, until): (columns,)."""
        out = np.zeros(self.width, np.int64)
        for start in self.held(since, until):
            if (sums := self.slots[start].row(place)) is not None:
                out[: len(sums)] += sums
        return out

    def latest(self) -> int:
        """End of the newest slot that holds anything."""
        return (self._top if self.slots else self.closed - SLOT) + SLOT

    def behind(self, watermark: int) -> int:
        """How many open slots the watermark has passed."""
        return max(0, (watermark - LATENESS - self.closed) // SLOT) if self.closed else 0

    def gap(self, until: int) -> int:
        """How many slots may be closed at once: the ring and the slots before the next row are empty."""
        while self._starts and self._starts[0] not in self.slots:
            heapq.heappop(self._starts)
        ahead = self._starts[0] if self._starts else until
        if ahead <= self.closed:
            return 0
        return max(0, (min(ahead, until - LATENESS) - self.closed) // SLOT)

    def close_all(self, count: int) -> None:
        """Close the next ``count`` slots."""
        for start in self.held(self.closed - RING * SLOT, self.closed + (count - RING) * SLOT):
            del self.slots[start]
        self.closed += count * SLOT
        self.learned = self.closed
        self.side.drop(self.closed - RING * SLOT, self.closed - KEPT_LONGER * SLOT)

    def clear(self) -> None:
        """Remove the sums of the slots; closed slots stay closed."""
        self.slots.clear()
        self.side.clear()
        self._starts, self._top, self.moved = [], 0, None

    def close(self) -> Matrix:
        """Close the oldest open slot; return the sums of the slot that is evicted from the ring."""
        evicted = self.slots.pop(self.closed - RING * SLOT, Slot())
        self.closed += SLOT
        self.learned = self.closed
        self.side.drop(self.closed - RING * SLOT, self.closed - KEPT_LONGER * SLOT)
        out = np.zeros((len(self.series), self.width), np.int64)
        places, sums = evicted.dense()
        out[places, : sums.shape[1]] = sums
        return out

    def calls_of(self, place: int, measure: str, since: int, until: int, limit: int = 10) -> tuple[str, ...]:
        """Exemplar call ids of a series, the most expensive first."""
        found = [
            pair
            for start in self.held(since, until)
            for (at, name), pairs in self.slots[start].shown().items()
            if at == place and (name == measure or name.startswith(measure + ":"))
            for pair in pairs
        ]
        return tuple(dict.fromkeys(call for _, call in sorted(found, key=lambda p: (-p[0], p[1]))))[:limit]

    def _triggers(self, batch: Batch, starts: Matrix, oldest: int) -> dict[int, dict[int, int]]:
        extra: dict[int, dict[int, int]] = {}
        for row, name, action, calls in batch.triggers:
            column = self._guardrail(name)
            row_extra = extra.setdefault(row, {})
            row_extra[column] = row_extra.get(column, 0) + calls
            if batch.series[row] == self.own:
                start = int(starts[row])
                if start >= max(oldest, 1):
                    actions = self.slot(start).actions
                    kind = self.kinds[column - len(COLUMNS)].removeprefix(GUARDRAIL)  # bounded, as names are not
                    actions[kind, action] = actions.get((kind, action), 0) + calls
        for row, kind, calls in batch.signals:
            if self.is_counted(kind):
                row_extra, column = extra.setdefault(row, {}), self._kind(kind)
                row_extra[column] = row_extra.get(column, 0) + calls
        return extra

    def is_counted(self, kind: str) -> bool:
        """Whether a kind of text signals has a column, or gets one."""
        return kind in self.kinds or kind.startswith(BASE) or len(self.kinds) < 2 * MAX_KINDS

    def _guardrail(self, name: str) -> int:
        guards = sum(kind.startswith(GUARDRAIL) for kind in self.kinds)
        known = GUARDRAIL + name in self.kinds or guards < MAX_KINDS
        return self._kind(GUARDRAIL + (name if known else OTHER))

    def _kind(self, kind: str) -> int:
        if kind not in self.kinds:
            self.kinds.append(kind)
        return len(COLUMNS) + self.kinds.index(kind)

    def _widen(self, sums: Matrix, extra: dict[int, dict[int, int]]) -> Matrix:
        """``sums`` with a column for every kind that is in ``extra``."""
        if not extra:
            return sums
        width = max((column for columns in extra.values() for column in columns), default=sums.shape[1] - 1) + 1
        out = np.zeros((len(sums), width), np.int64)
        out[:, : sums.shape[1]] = sums
        for row, columns in extra.items():
            for column, calls in columns.items():
                out[row, column] = calls
        return out

    def _keep(self, batch: Batch, starts: Matrix, oldest: int) -> None:
        """Add the exemplars of a batch to their slots; not those of a series that was evicted while it was added."""
        shown = batch.exemplars
        if shown is None or not len(starts):
            return
        kept = starts >= max(oldest, 1)
        places = np.array([self.index.get(name, -1) for name in batch.series])
        for start in np.unique(starts[kept]).tolist():
            mine = np.where(starts == start, places, -1)
            if (mine >= 0).any():
                place = np.append(mine, -1)[shown.rows]
                if isinstance(shown, UnreadExemplars):
                    self.slots[start].note(UnreadExemplars(shown.column, place))
                else:
                    which = np.flatnonzero(place >= 0)
                    self.slots[start].show(shown.pick(place[which], which))


def _stretches(names: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first, upto) of the stretches of equal names."""
    first = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[first]:
            yield names[first], first, i
            first = i


def column(kinds: list[str], name: str) -> int:
    """Index of a column by name: a rollup column or a kind of ``Windows.kinds``."""
    return COLUMN[name] if name in COLUMN else len(COLUMNS) + kinds.index(name)
