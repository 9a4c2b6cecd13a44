"""Example calls of a number: the most expensive, the longest, the slowest, random ones; one per trigger and error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.meter import measures
from schemas.rollups import SCORED, SIGNAL

Array = np.ndarray
ONE_EACH = ("guardrail:", "error:", "cost_differs", SIGNAL)
"""Prefixes of measures that keep a single call, the first."""
_FEW = 64
"""Labels."""


@dataclass(frozen=True)
class Candidates:
    """The calls of a batch, ranked by every measure: a total order each, so that merging is commutative.

    In the order of (measure, rank): best first.
    """

    labels: list[str]
    """Sorted; a measure's code is its index."""
    singles: Array
    """(m,) bool: keeps one call only."""
    rows: Array
    """Index of the call."""
    values: Array
    codes: Array


@dataclass(frozen=True)
class Chosen:
    """Exemplars in the order of (group, measure, rank)."""

    groups: Array
    codes: Array
    rows: Array
    values: Array


def candidates(calls: pa.Table, hashes: Array, signals: measures.Named | None = None) -> Candidates:
    """Rank ``calls``: most expensive (nano-USD), most tokens, slowest (µs), lowest hash (63 bits); ties by position."""
    position = np.lexsort((measures.integers(calls["_offset"]), measures.integers(calls["_partition"])))
    place = np.empty(len(position), dtype=np.int64)
    place[position] = np.arange(len(position))
    micros = np.round(np.asarray(calls["latency_ms"].fill_null(0.0).to_numpy()) * 1000.0).astype(np.int64)
    low = (hashes >> np.uint64(1)).astype(np.int64)
    tokens = measures.integers(calls["input_tokens"]) + measures.integers(calls["output_tokens"])
    found: dict[str, tuple[Array, Array]] = {"hash": (np.lexsort((place, low)), low)}
    for name, values in (("cost", measures.integers(calls["cost_nanousd"])), ("tokens", tokens), ("latency", micros)):
        order = np.lexsort((place, -values))
        found[name] = (order[values[order] > 0], values)
    none = np.zeros(calls.num_rows, dtype=np.int64)
    found |= {label: (rows[np.argsort(place[rows])], none) for label, rows in _occasions(calls, signals).items()}
    labels = sorted(found)
    rows = [found[label][0] for label in labels]
    sizes = np.array([len(r) for r in rows], dtype=np.int64)
    return Candidates(
        labels=labels,
        singles=np.array([label.startswith(ONE_EACH) for label in labels]),
        rows=np.concatenate(rows),
        values=np.concatenate([found[label][1][r] for label, r in zip(labels, rows, strict=True)]),
        codes=np.repeat(np.arange(len(labels)), sizes),
    )


def choose(among: Candidates, inverse: Array, *, limit: int) -> Chosen:
    """Keep the best ``limit`` of every (group, measure), one where a single is kept.

    Args:
        among: the ranked calls.
        inverse: (n,) group of every call, -1 = none.
        limit: of measures that are no singles.
    """
    width = len(among.labels)
    left = np.flatnonzero(inverse[among.rows] >= 0)
    cells = inverse[among.rows[left]] * width + among.codes[left]
    # many labels would make a huge sparse space of cells
    distinct, cells = np.unique(cells, return_inverse=True) if width > _FEW else (None, cells)
    best = np.empty(int(cells.max(initial=-1)) + 1, dtype=np.int64)
    taken = []
    for nth in range(limit):
        best.fill(-1)
        best[cells[::-1]] = left[::-1]  # the last write wins: the best of its cell; a sort costs four times as much
        winners = np.flatnonzero(best >= 0)
        taken.append(np.stack([winners, np.full(len(winners), nth), best[winners]]))
        keep = best[cells] != left
        if nth == 0:
            keep &= ~among.singles[among.codes[left]]
        left, cells = left[keep], cells[keep]
    cell, nth_, at = np.concatenate(taken, axis=1)
    order = np.lexsort((nth_, cell))
    cell, at = cell[order], at[order]
    cell = cell if distinct is None else distinct[cell]
    return Chosen(cell // width, cell % width, among.rows[at], among.values[at])


def _occasions(calls: pa.Table, signals: measures.Named | None) -> dict[str, Array]:
    """Label -> rows of every guardrail trigger, error type and hit of a signal, and of reported costs that differ."""
    differing = np.flatnonzero(calls["cost_differs"].fill_null(False).to_numpy())
    found: dict[str, Array] = {"cost_differs": differing} if len(differing) else {}
    for prefix, (rows, names, codes) in zip(
        ONE_EACH[:2], (measures.triggers(calls), measures.error_types(calls)), strict=True
    ):
        order = np.argsort(codes, kind="stable")
        cuts = np.searchsorted(codes[order], np.arange(1, len(names)))
        for (name, action), mine in zip(names, np.split(rows[order], cuts), strict=True) if names else ():
            label = f"{prefix}{name}:{action}" if prefix == "guardrail:" else f"{prefix}{name}"
            found[label] = np.concatenate([found[label], mine]) if label in found else mine
    rows, names, codes = signals or measures.none_named()
    hits = {i: f"{SIGNAL}{side}:{name}" for i, (name, side) in enumerate(names) if name != SCORED}
    return found | {label: rows[codes == i] for i, label in hits.items()}
