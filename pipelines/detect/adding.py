"""Adds a batch of rollups to the windows of its app: rows to their slots; late and implausible ones are counted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.exemplars import UnreadExemplars
from pipelines.detect.items import SLOT, Batch
from pipelines.detect.kinds import counted, guardrail_of, widened
from pipelines.detect.slots import RING, Matrix

if TYPE_CHECKING:
    from pipelines.detect.windows import Windows

AHEAD = 60_000_000
BEHIND = 45 * 86_400_000_000
"""Rollups dated farther from the broker's clock are counted and not judged."""
MAX_MOVED = 20_000
"""Batches of rows of all apps that are stored between two looks: more rows at once are history."""


def add_rows(windows: Windows, batch: Batch, watched: Collection[str]) -> list[tuple[str, int, Matrix]]:
    """Add the rows of a batch; return (series, slot, sums) of those whose series is ``watched``."""
    starts = batch.starts
    plausible = (starts <= batch.kafka_time + AHEAD) & (starts >= batch.kafka_time - BEHIND)
    if not windows.closed and plausible.any():
        windows.closed = windows.first = int(starts[plausible].min())
    oldest = windows.closed - RING * SLOT
    kept, dated = plausible & (starts >= oldest), starts if plausible.all() else np.where(plausible, starts, 0)
    sums = widened(batch.sums, counted(windows.kinds, batch))
    _add_actions(windows, batch, dated, oldest)
    whole = bool(kept.all())
    if not (whole and (starts >= windows.closed).all()):
        own = np.array([name == windows.own for name in batch.series], bool)
        _count_late_and_refused(windows, starts[own], plausible[own], batch.sums[own, 0])
    names = batch.series if whole else [name for name, is_kept in zip(batch.series, kept, strict=True) if is_kept]
    new = dict.fromkeys(name for name in names if name not in windows.index)
    if not windows.has_room(len(new)):
        _add_with_evictions(windows, batch.series, starts, sums, kept)
    else:
        for name in new:
            windows.place(name, 0)
        places = np.array([windows.index[name] for name in names], np.int64)
        _store(windows, *((places, starts, sums) if whole else (places, starts[kept], sums[kept])))
    _add_exemplars(windows, batch, dated, oldest)
    if batch.cells is not None:
        since = max(batch.kafka_time - BEHIND, oldest, 1)
        windows.side.note(batch.cells, since, batch.kafka_time + AHEAD)
    if batch.epoch > windows.epoch:  # the topic was recreated: offsets of the old one are not valid in it
        windows.positions, windows.epoch = {}, batch.epoch
    if batch.epoch == windows.epoch:
        windows.positions[batch.source] = max(windows.positions.get(batch.source, 0), batch.next_offset)
    if not watched:
        return []
    return [(n, int(starts[row]), sums[row]) for row, n in enumerate(batch.series) if n in watched and kept[row]]


def _add_with_evictions(
    windows: Windows, names: list[str], starts: Matrix, sums: Matrix, kept: NDArray[np.bool_]
) -> None:
    """Store rows of more series than there is room for, one series after the other."""
    places, stored = np.full(len(names), -1), 0
    for name, first, upto in _runs(names):
        rows = (first + np.flatnonzero(kept[first:upto])).tolist()
        if not rows:
            continue
        if name not in windows.index and not windows.has_room(1) and not windows.free:
            # an eviction drops rows of other series, those of this batch included
            _store(windows, places[stored:first], starts[stored:first], sums[stored:first])
            stored = first
        places[rows] = windows.place(name, int(starts[rows[0]]))
    _store(windows, places[stored:], starts[stored:], sums[stored:])


def _count_late_and_refused(windows: Windows, starts: Matrix, plausible: NDArray[np.bool_], calls: Matrix) -> None:
    windows.late += int(calls[plausible & (starts < windows.closed)].sum())
    windows.refused += int(calls[~plausible].sum())


def _store(windows: Windows, places: Matrix, starts: Matrix, sums: Matrix) -> None:
    """Put rows into their slots; those with place -1 are left out."""
    if not (places >= 0).all():
        kept = places >= 0
        places, starts, sums = places[kept], starts[kept], sums[kept]
    if not len(places):
        return
    np.maximum.at(windows.last, places, starts)
    if (starts[1:] < starts[:-1]).any():
        order = np.argsort(starts, kind="stable")
        starts, places, sums = starts[order], places[order], sums[order]
    cuts = [0, *(np.flatnonzero(starts[1:] != starts[:-1]) + 1).tolist(), len(starts)]
    for first, upto in pairwise(cuts):
        start, rows = int(starts[first]), (places[first:upto], sums[first:upto])
        windows.slot(start).add(*rows)
        if windows.moved is not None:
            if start < windows.closed or len(windows.moved) >= MAX_MOVED:
                windows.moved = None
            else:
                windows.moved.append((windows.number, start, *rows))


def _add_actions(windows: Windows, batch: Batch, starts: Matrix, oldest: int) -> None:
    """Count the actions of guardrails over the whole app."""
    for row, name, action, calls in batch.triggers:
        start = int(starts[row])
        if batch.series[row] == windows.own and start >= max(oldest, 1):
            actions, kind = windows.slot(start).actions, guardrail_of(windows.kinds, name)
            actions[kind, action] = actions.get((kind, action), 0) + calls


def _add_exemplars(windows: Windows, batch: Batch, starts: Matrix, oldest: int) -> None:
    """Add the exemplars of a batch to their slots; not those of a series that was evicted while it was added."""
    shown = batch.exemplars
    if shown is None or not len(starts):
        return
    kept = starts >= max(oldest, 1)
    places = np.array([windows.index.get(name, -1) for name in batch.series])
    for start in np.unique(starts[kept]).tolist():
        mine = np.where(starts == start, places, -1)
        if (mine >= 0).any():
            place = np.append(mine, -1)[shown.rows]
            if isinstance(shown, UnreadExemplars):
                windows.slots[start].note(UnreadExemplars(shown.column, place))
            else:
                which = np.flatnonzero(place >= 0)
                windows.slots[start].show(shown.pick(place[which], which))


def _runs(names: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first, upto) of the runs of equal names."""
    first = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[first]:
            yield names[first], first, i
            first = i
