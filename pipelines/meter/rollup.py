"""Calls to rollups: one row per series and second of event time. Integers only, so no batch boundary shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.meter import exemplars, measures
from pipelines.meter.measures import Named
from pipelines.meter.plan import DEFAULT, Plan
from schemas.rollups import DERIVED, NOT_USER_FACING, OTHER, ROLLUP, SPAN_KEY
from schemas.variants import user_facing

Array = np.ndarray
Key = tuple[int, str]
"""(span, app or "*")."""


def roll_up(
    calls: pa.Table,
    plan: Plan = DEFAULT,
    *,
    spans: Array | None = None,
    tracked: Mapping[str, Array] | None = None,
    signals: Named | None = None,
) -> dict[Key, pa.Table]:
    """Roll ``calls`` up, in every family of ``plan``.

    Args:
        calls: METERED columns, duplicates out.
        plan: the tracked families.
        spans: (n,) int64; calls of different spans share no row. Default: all 0.
        tracked: dimension -> (n,) bool from `HeavyHitters`: where False the value shares OTHER.
        signals: what `Scoring` found in the texts of these calls.

    Returns:
        (span, app) and (span, "*") -> table of ROLLUP, where there is at least one row.
    """
    if calls.num_rows == 0:
        return {}
    spans = np.zeros(calls.num_rows, dtype=np.int64) if spans is None else spans
    batch = _Batch(calls, spans, tracked or {}, signals or measures.none_named())
    parts: dict[Key, list[pa.Table]] = {}
    for dims in plan.families():
        if not all((batch.dim(name).codes >= 0).any() for name in dims):
            continue
        table, span, app = _family(batch, dims, plan.limit(dims))
        edges = np.flatnonzero(np.diff(span * (len(batch.apps) + 1) + app, prepend=-1))
        for start, end in zip(edges, [*edges[1:], len(span)], strict=False):
            key = batch.apps[app[start]] if "app" in dims else SPAN_KEY
            parts.setdefault((int(span[start]), key), []).append(table.slice(start, end - start))
    return {key: pa.concat_tables(tables) for key, tables in parts.items()}


@dataclass(frozen=True)
class _Coded:
    """A dimension: (n,) codes, -1 = no value, and each code's value as JSON."""

    codes: Array
    json: pa.Array


@dataclass(frozen=True)
class _Batch:
    calls: pa.Table
    spans: Array
    tracked: Mapping[str, Array]
    signals: Named

    @cached_property
    def seconds(self) -> Array:
        return measures.integers(self.calls["ts"]) // 1_000_000

    @cached_property
    def counts(self) -> dict[str, Array]:
        return measures.counts(self.calls)

    @cached_property
    def hidden(self) -> Array:
        """(n,) bool: the call is of a shadow or canary variant, and in no total of what users got."""
        return ~np.asarray(user_facing(self.calls).to_numpy(), dtype=bool)

    @cached_property
    def sums(self) -> dict[str, Array]:
        return measures.sums(self.calls)

    @cached_property
    def buckets(self) -> dict[str, Array]:
        """Name -> (n,) bucket of each call, -1 = none."""
        times = {"latency": measures.buckets(self.calls["latency_ms"]), "ttft": measures.buckets(self.calls["ttft_ms"])}
        tokens = self.sums["input_tokens"] + self.sums["output_tokens"]
        each = {"call_tokens": tokens, "call_cost": self.sums["cost_nanousd"]}
        return times | {name: measures.call_buckets(values) for name, values in each.items()}

    @cached_property
    def named(self) -> dict[str, Named]:
        return {
            "guardrails": measures.triggers(self.calls),
            "error_types": measures.error_types(self.calls),
            "signals": self.signals,
        }

    @cached_property
    def candidates(self) -> exemplars.Candidates:
        return exemplars.candidates(self.calls, measures.call_hashes(self.calls["id"]), self.signals)

    @cached_property
    def dims(self) -> dict[str, _Coded]:
        return {}

    @cached_property
    def apps(self) -> list[str]:
        return encoded(self.calls["app"])[1]

    def dim(self, name: str) -> _Coded:
        if name not in self.dims:
            codes, values = measures.input_sizes(self.calls) if name in DERIVED else encoded(self.calls[name])
            if name in self.tracked:
                codes, values = _bounded(codes, values, self.tracked[name])
            self.dims[name] = _Coded(codes, pa.array([msgspec.json.encode(v).decode() for v in values], pa.string()))
        return self.dims[name]


def encoded(column: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """(n,) int64 codes, -1 = NULL, and the values they encode."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.unify_dictionaries().combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    codes = pc.fill_null(coded.indices.cast(pa.int64()), -1)
    return np.asarray(codes.to_numpy(zero_copy_only=False)), coded.dictionary.to_pylist()


def _bounded(codes: Array, values: list[str], tracked: Array) -> tuple[Array, list[str]]:
    values = values if OTHER in values else [*values, OTHER]
    codes = np.where((codes >= 0) & ~tracked, values.index(OTHER), codes)
    used, places = np.unique(codes[codes >= 0], return_inverse=True)
    bounded = np.full(len(codes), -1, dtype=np.int64)
    bounded[codes >= 0] = places
    return bounded, [values[i] for i in used]


def _family(batch: _Batch, dims: tuple[str, ...], limit: int) -> tuple[pa.Table, Array, Array]:
    """Return the rows of one family in the order of (span, app, ...), with their span and code of app."""
    coded = [batch.dim(name) for name in dims]
    inverse, rows = _groups([batch.spans, *(c.codes for c in coded), batch.seconds], optional=range(1, len(dims) + 1))
    size = len(rows)
    columns: dict[str, pa.Array] = {
        "dims": pa.repeat(pa.scalar(",".join(dims)), size),
        "series": _series(dims, [c.json.take(pa.array(c.codes[rows])) for c in coded], size),
        "second": pa.array(batch.seconds[rows]),
    }
    member = np.flatnonzero(inverse >= 0)
    groups = inverse[member]
    for name, flags in batch.counts.items():
        columns[name] = pa.array(np.bincount(inverse[flags & (inverse >= 0)], minlength=size))
    for name in NOT_USER_FACING:  # a series of a variant counts its own calls
        hidden = np.zeros(0, np.int64)
        if "variant" not in dims and batch.hidden.any():
            hidden = inverse[batch.counts[name.removeprefix("shadow_")] & batch.hidden & (inverse >= 0)]
        columns[name] = pa.array(np.bincount(hidden, minlength=size))
    for name, values in batch.sums.items():
        columns[name] = pa.array(_summed(groups, values[member], size))
    for name, (of, names, codes) in batch.named.items():
        columns[name] = _counted(inverse[of], codes, names, size)
    for name, buckets in batch.buckets.items():
        columns[name] = _histogram(groups, buckets[member], size)
    columns["exemplars"] = _shown(batch, exemplars.choose(batch.candidates, inverse, limit=limit), size)
    table = pa.table([_typed(columns[f.name], f.type) for f in ROLLUP], schema=ROLLUP)
    return table, batch.spans[rows], coded[0].codes[rows] if dims[:1] == ("app",) else np.zeros(size, dtype=np.int64)


def _groups(keys: list[Array], *, optional: range) -> tuple[Array, Array]:
    """Group by all ``keys``; calls with -1 in an ``optional`` one belong to no group.

    Returns:
        (n,) group of every call, -1 = none, groups numbered in the order of the keys; and a call of every group.
    """
    present = np.ones(len(keys[0]), dtype=bool)
    for i in optional:
        present &= keys[i] >= 0
    member = np.flatnonzero(present)
    packed = np.zeros(len(member), dtype=np.int64)
    size = 1
    for key in keys:
        values = key[member]
        low = int(values.min(initial=0))
        width = int(values.max(initial=0)) - low + 1
        if size * width >= 2**62:  # hostile event times: the year 1 beside the year 9999
            distinct, packed = np.unique(packed, return_inverse=True)
            size = len(distinct)
        if size * width >= 2**62:
            distinct, values = np.unique(values, return_inverse=True)
            low, width = 0, len(distinct)
        packed = packed * width + (values - low)
        size *= width
    _, first, groups = np.unique(packed, return_index=True, return_inverse=True)
    inverse = np.full(len(keys[0]), -1, dtype=np.int64)
    inverse[member] = groups
    return inverse, member[first]


def _summed(groups: Array, values: Array, size: int) -> Array:
    """Exact sums: floats while no sum can reach 2^53, integers otherwise."""
    if float(values.sum(dtype=np.float64)) < 2**52:
        return np.bincount(groups, weights=values, minlength=size).astype(np.int64)
    exact = np.zeros(size, dtype=np.int64)
    np.add.at(exact, groups, values)
    return exact


def _series(dims: tuple[str, ...], values: list[pa.Array], size: int) -> pa.Array:
    if not dims:
        return pa.repeat(pa.scalar("{}"), size)
    pieces: list[pa.Array | str] = []
    for i, (name, value) in enumerate(zip(dims, values, strict=True)):
        pieces += [f'{"," if i else "{"}"{name}":', value]
    return pc.binary_join_element_wise(*pieces, "}", "")


def _counted(groups: Array, codes: Array, names: list[tuple[str, str]], size: int) -> pa.Array:
    if not names:
        return pa.array([[]], ROLLUP.field("guardrails").type).take(pa.array(np.zeros(size, dtype=np.int32)))
    kept = groups >= 0
    width = len(names)
    cells, calls = np.unique(groups[kept] * width + codes[kept], return_counts=True)
    which = pa.array(cells % width)
    fields = [pa.array([n[i] for n in names], pa.string()).take(which) for i in (0, 1)]
    struct = pa.StructArray.from_arrays([*fields, pa.array(calls)], ["name", "action", "calls"])
    return pa.ListArray.from_arrays(_offsets(cells // width, size), struct)


def _histogram(groups: Array, buckets: Array, size: int) -> pa.Array:
    kept = buckets >= 0
    width = 4096
    cells, calls = np.unique(groups[kept] * width + buckets[kept], return_counts=True)
    columns = [pa.array((cells % width).astype(np.int16)), pa.array(calls.astype(np.int32))]
    return pa.ListArray.from_arrays(
        _offsets(cells // width, size), pa.StructArray.from_arrays(columns, ["bucket", "calls"])
    )


def _shown(batch: _Batch, chosen: exemplars.Chosen, size: int) -> pa.Array:
    rows = pa.array(chosen.rows)
    labels = pa.array(batch.candidates.labels, pa.string())
    facts = batch.calls.select(["_partition", "_offset", "id"]).take(rows).combine_chunks()
    columns = [labels.take(pa.array(chosen.codes)), pa.array(chosen.values), *(_plain(c) for c in facts.columns)]
    names = ["measure", "value", "partition", "offset", "call_id"]
    return pa.ListArray.from_arrays(_offsets(chosen.groups, size), pa.StructArray.from_arrays(columns, names))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


def _offsets(groups: Array, size: int) -> pa.Array:
    """Offsets of a list column whose items are sorted by group."""
    return pa.array(np.searchsorted(groups, np.arange(size + 1)).astype(np.int32))
