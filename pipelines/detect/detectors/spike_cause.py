"""What a spike is caused by: the named values with the factors of their change, and the SQL that returns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from msgspec.structs import replace

from pipelines.alerts import evidence
from pipelines.alerts.cause import Explained, Split, Totals, split
from pipelines.alerts.cause.ranking import EXPLAINED
from pipelines.alerts.cause.split import Cell, Measure
from pipelines.alerts.cause.words import Changed, factors, split_words
from pipelines.detect.items import COLUMN
from pipelines.detect.windows import SLOT, Floats, Matrix, Windows
from schemas.alerts import BROAD, Cause, Parts, Usage
from schemas.rollups import series_pairs

_INSIDE = frozenset({"feature", "model"})
"""Dimensions whose values are the cells of a series: price and tokens per call depend on them."""
_COVERED = 0.8
"""Least share of the calls of a series that its cells must have, before and now, else it is one cell."""
_NANO = 10**9


@dataclass(frozen=True)
class Change:
    """The window of an incident, and what is usual in it."""

    windows: Windows
    expected: Floats
    """(series, 3) USD, tokens and calls per slot."""
    start: int
    """µs UTC."""
    until: int
    measure: Measure
    volume: bool = True
    """False for costs and tokens per call: the baseline has as many calls as there are now."""

    @property
    def slots(self) -> int:
        """Length of the window."""
        return max((self.until - self.start) // SLOT, 1)

    @property
    def minutes(self) -> float:
        """The same in minutes."""
        return self.slots * SLOT / 60e6


def causes(change: Change, explained: Explained) -> tuple[tuple[Cause, ...], str]:
    """Return the causes of ``explained`` with their parts, and SQL that returns what they were in the window.

    Where nothing is named the first cause is BROAD, with the parts of the app as a whole.
    """
    sums = change.windows.total(change.start, change.until)
    ranked = list(zip(explained.causes, explained.places, strict=True))
    if not explained.named:
        top = max((cause.share for cause in explained.causes), default=0.0)
        ranked.insert(0, (Cause("", BROAD, top, "", normal=1.0), change.windows.index[change.windows.own]))
    described = tuple(_described(change, sums, cause, place) for cause, place in ranked)
    return described, _sql(change, [place for _, place in ranked])


def _described(change: Change, sums: Matrix, cause: Cause, place: int) -> Cause:
    before, now = _before(change, place), _now(sums, place)
    parts = split(_cells(change, sums, place), change.measure, volume=change.volume)
    if not change.volume and before.calls:
        before = before.scaled(Fraction(now.calls) / Fraction(before.calls))
    changed = Changed(before, now, parts, change.measure, change.minutes)
    if cause.value == BROAD:
        most = f", the largest has {cause.share:.0%}" if cause.share else ""
        what = f"broad: no three values explain {EXPLAINED:.0%} of the rise{most}"
        text = f"{what}; in the app {factors(changed)}"
    else:
        text = split_words(f"{cause.dimension} {cause.value}", cause.share, changed)
    return replace(cause, text=text, parts=_parts(parts, change.measure), before=_usage(before), now=_usage(now))


def _cells(change: Change, sums: Matrix, place: int) -> list[Cell]:
    """Baseline and now of the features and models of a series, which add up to it."""
    whole = _before(change, place), _now(sums, place)
    inside = _places_inside(change.windows, place)
    cells = [(_before(change, p), _now(sums, p)) for p in inside]
    for side in (0, 1):
        if sum(cell[side].calls for cell in cells) < _COVERED * whole[side].calls:
            return [whole]
    rest = whole[0], whole[1]
    for before, now in cells:
        rest = rest[0].plus(before, -1), rest[1].plus(now, -1)
    return [*cells, rest] if any((*rest[0], *rest[1])) else cells


def _places_inside(windows: Windows, place: int) -> list[int]:
    """Series of the finest tracked dimensions that divide this one; empty where there are none."""
    mine = series_pairs(windows.series[place])
    groups = [(i, set(name.split(","))) for i, name in enumerate(windows.groups)]
    finer = [(i, group - mine.keys()) for i, group in groups if mine.keys() < group]
    able = [(len(more), "model" in more, i) for i, more in finer if more <= _INSIDE]
    if not able:
        return []
    members = np.flatnonzero(windows.group == max(able)[2]).tolist()
    return [p for p in members if windows.series[p] and mine.items() <= series_pairs(windows.series[p]).items()]


def _before(change: Change, place: int) -> Totals:
    cost, tokens, calls = (change.slots * change.expected[place]).tolist()
    return Totals(Fraction(round(calls * 10**6), 10**6), round(tokens), round(cost * _NANO))


def _now(sums: Matrix, place: int) -> Totals:
    return Totals(*(int(sums[place, COLUMN[name]]) for name in ("calls", "tokens", "cost_nanousd")))


def _usage(totals: Totals) -> Usage:
    return Usage(float(totals.calls), float(totals.tokens), float(totals.cost) / _NANO)


def _parts(parts: Split, measure: Measure) -> Parts:
    unit = _NANO if measure == "cost" else 1
    names = Parts.__struct_fields__
    return Parts(**{name: float(getattr(parts, name)) / unit for name in names})


def _sql(change: Change, places: Sequence[int]) -> str:
    windows = change.windows
    series = [series_pairs(windows.series[p]) for p in places]
    return evidence.cause_sql(series, (change.start, change.until), windows.positions, windows.epoch)
