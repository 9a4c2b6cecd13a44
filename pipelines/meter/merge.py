"""Rollups of the same series and second become one: commutative, associative and exact."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from pipelines.meter.exemplars import ONE_EACH
from pipelines.meter.plan import DEFAULT, Plan
from schemas.rollups import MAYBE_BUCKETS, MAYBE_SUMS, ROLLUP, SUMS

_KEY = ["dims", "series", "second"]
_LISTS = {
    "guardrails": (["name", "action"], ["calls"]),
    "error_types": (["name", "action"], ["calls"]),
    "signals": (["name", "action"], ["calls"]),
    "latency": (["bucket"], ["calls"]),
    "ttft": (["bucket"], ["calls"]),
    **{name: (["bucket"], ["calls"]) for name in MAYBE_BUCKETS},
}


def merge(a: pa.Table, b: pa.Table, plan: Plan = DEFAULT) -> pa.Table:
    """Return the rollups of the calls of ``a`` and of ``b``, sorted by series and second.

    Merging what was rolled up apart equals rolling up together, for any split: integers are summed, and exemplars
    are the best of both under one total order. The calls of ``a`` and ``b`` must be different ones.
    """
    return combine([a, b], plan)


def combine(tables: list[pa.Table], plan: Plan = DEFAULT) -> pa.Table:
    """`merge` of any number of tables of ROLLUP."""
    rows = pl.concat([_frame(t) for t in tables])
    known = [pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()) for name in MAYBE_SUMS]
    unknown = [pl.col(name).null_count().alias(f"{name}_unknown") for name in MAYBE_BUCKETS]
    merged = rows.group_by(_KEY).agg(pl.col([name for name in SUMS if name not in MAYBE_SUMS]).sum(), *known, *unknown)
    for name, (keys, values) in _LISTS.items():
        items = _items(rows, name).group_by([*_KEY, *keys]).agg(pl.col(values).sum().cast(_small(name)))
        merged = _joined(merged, _gathered(items.sort([*_KEY, *keys]), name, [*keys, *values]), name)
    merged = merged.with_columns(
        pl.when(pl.col(f"{name}_unknown") == 0).then(pl.col(name)).alias(name) for name in MAYBE_BUCKETS
    )
    best = _best(_items(rows, "exemplars"), plan)
    fields = ["measure", "value", "partition", "offset", "call_id"]
    merged = _joined(merged, _gathered(best, "exemplars", fields), "exemplars")
    table = merged.sort(_KEY).select(ROLLUP.names).to_arrow()
    return table.cast(ROLLUP)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table.cast(ROLLUP))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _small(name: str) -> type[pl.DataType]:
    return pl.Int32 if _LISTS[name][0] == ["bucket"] else pl.Int64


def _items(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    filled = rows.select(*_KEY, name).filter(pl.col(name).list.len() > 0)
    return filled.explode(name).unnest(name)


def _best(items: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    limits = {",".join(dims): plan.limit(dims) for dims in plan.families()}
    limit = pl.col("dims").replace_strict(limits, default=plan.exemplars, return_dtype=pl.Int64)
    single = pl.any_horizontal(pl.col("measure").str.starts_with(prefix) for prefix in ONE_EACH)
    # the most expensive and the longest first, but the lowest hash
    ordered = items.with_columns(_by=pl.when(pl.col("measure") == "hash").then("value").otherwise(-pl.col("value")))
    ordered = ordered.sort([*_KEY, "measure", "_by", "partition", "offset"])
    nth = pl.int_range(pl.len()).over([*_KEY, "measure"])
    return ordered.filter(nth < pl.when(single).then(1).otherwise(limit))


def _gathered(items: pl.DataFrame, name: str, fields: list[str]) -> pl.DataFrame:
    return items.group_by(_KEY, maintain_order=True).agg(pl.struct(fields).alias(name))


def _joined(merged: pl.DataFrame, items: pl.DataFrame, name: str) -> pl.DataFrame:
    return merged.join(items, on=_KEY, how="left").with_columns(pl.col(name).fill_null([]))
