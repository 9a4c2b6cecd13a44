"""Rollups of one app, accumulated into slots of event time, and the windows that end now.

A slot is 10 s. Windows are sums of slots, the open ones included, so that a big step is seen in seconds; what a series
has learned comes only from slots that left the ring five minutes later, so that an incident is not learned as normal.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.adding import add_rows
from pipelines.detect.items import COLUMNS, SLOT, Batch
from pipelines.detect.side import KEPT_LONGER, Side
from pipelines.detect.slots import RING, Matrix, Slot
from schemas.rollups import OTHER, series_key, series_pairs

LATENESS = 2_000_000
"""How long a slot stays open after the watermark passed its end."""
MAX_SERIES = 4096
"""Per app; further series take the places of those without a call for the longest time."""
HIGH_CARDINALITY = ("user",)
"""Dimensions with many values: their series are judged against each other, not each by itself."""
__all__ = ["LATENESS", "RING", "SLOT", "Matrix", "Slot", "Windows"]

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
        return add_rows(self, batch, watched)

    def has_room(self, count: int) -> bool:
        """Whether ``count`` new series fit without an eviction."""
        return len(self.series) + count <= MAX_SERIES

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
