"""What has landed, as counters for metrics: calls, cost and tokens by app and model, alerts by kind; distributions
are in ``observed``. Pure.

Labels are bounded: after `MOST_SERIES` pairs of app and model, further ones count as `OTHER`. A user is no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.land.observed import OTHER, Observed, only
from pipelines.land.observed import label as _label
from pipelines.pricing.flags import COST_DIFFERS
from pipelines.pricing.price import comparable
from schemas.arrow import MONEY
from schemas.usage import MEASURES
from schemas.variants import user_facing

CONTENT = (
    *("messages", "system_text", "input_text", "output_text", "prompt_variables", "error_message", "extra"),
    *("tools", "tags", "retrieval_query", "retrieval_docs"),
)
"""Columns that nothing here counts. A copy of them would take a fifth of the time of a landing."""
MOST_SERIES = 200
Key = tuple[str, ...]


class Usage:
    """Totals that only grow. What was never reported has no counter."""

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        """Go on from ``facts``, as `facts` returned them before a restart; without them from nothing."""
        self._calls: dict[Key, dict[str, Decimal]] = {}
        self._alerts: dict[Key, int] = {}
        self._observed = Observed(facts)
        self._facts: dict[str, Any] | None = None
        for app, model, *values in (facts or {}).get("calls", ()):
            found = {name: _decimal(value) for name, value in zip(MEASURES, values, strict=False) if value is not None}
            self._calls[str(app), str(model)] = found
        for detector, severity, state, count in (facts or {}).get("alerts", ()):
            self._alerts[str(detector), str(severity), str(state)] = int(count)

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Count what one commit landed; duplicates do not count."""
        self._facts = None
        if calls := tables.get("raw_calls"):
            counted_calls = only(
                calls.drop_columns([name for name in CONTENT if name in calls.column_names]),
                pc.invert(pc.fill_null(calls.column("_dup"), False)),
            )
            self._add_calls(counted_calls)
            self._observed.add_calls(counted_calls)
        if dead := tables.get("dead"):
            self._observed.add_dead(dead)
        if alerts := tables.get("alerts"):
            counted = _grouped(alerts, ["detector", "severity", "state"], [("detector", "count")])
            for *labels, count in counted:
                key = tuple(_label(text) for text in labels)
                if key in self._alerts or len(self._alerts) < MOST_SERIES:
                    self._alerts[key] = self._alerts.get(key, 0) + int(count)

    def facts(self) -> dict[str, Any]:
        """Return all totals as JSON: rows of labels and values, None where nothing was reported."""
        if self._facts is None:
            calls = [[*key, *(_plain(values.get(name)) for name in MEASURES)] for key, values in self._calls.items()]
            alerts = [[*key, count] for key, count in self._alerts.items()]
            self._facts = {"calls": calls, "alerts": alerts, **self._observed.facts()}
        return self._facts

    def _add_calls(self, calls: pa.Table) -> None:
        columns = calls.select(["app", "model", "cost_usd", "input_tokens", "output_tokens"])
        for name, marks in _marks(calls).items():
            columns = columns.append_column(name, pc.cast(marks, pa.int64()))
        sums = [(name, "sum") for name in ("cost_usd", "input_tokens", "output_tokens", *MEASURES[5:])]
        known = [(name, "count") for name in ("cost_usd", "input_tokens", "output_tokens")]
        everything = pc.CountOptions(mode="all")
        for row in _grouped(columns, ["app", "model"], [("app", "count", everything), *sums, *known]):
            app, model, count, cost, read, written, partly, differs, stated, both, shadow, *known_counts = row
            priced, have_input, have_output = known_counts
            key = _label(app), _label(model)
            if key not in self._calls and len(self._calls) >= MOST_SERIES:
                key = OTHER, OTHER
            values = self._calls.setdefault(key, {})
            found = {
                "calls": (count, 1),
                "unpriced": (count - priced, count - priced),
                "cost_usd": (cost, priced),
                "input_tokens": (read, have_input),
                "output_tokens": (written, have_output),
                "partly_priced": (partly, partly),
                "cost_differs": (differs, differs),
                "cost_reported": (stated, stated),
                "cost_compared": (both, both),
                "shadow": (shadow, shadow),
            }
            for name, (value, reported) in found.items():
                if reported:
                    values[name] = values.get(name, Decimal(0)) + Decimal(value)


def _marks(calls: pa.Table) -> dict[str, pa.Array]:
    """Return the measures that are marks of a row: (rows,) booleans."""
    flags = calls.column("_flags").to_pylist() if calls.column("_flags").null_count < calls.num_rows else ()
    differs = pa.array([COST_DIFFERS in (f or ()) for f in flags] or [False] * calls.num_rows, pa.bool_())
    return {
        "partly_priced": pc.fill_null(pc.equal(calls.column("cost_status"), "partly_priced"), False),
        "cost_differs": differs,
        "cost_reported": pc.fill_null(pc.greater(calls.column("cost_reported_usd"), pa.scalar(0, MONEY)), False),
        "cost_compared": pa.array(comparable(calls)),
        "shadow": pc.invert(user_facing(calls)),
    }


def _grouped(table: pa.Table, keys: list[str], aggregations: list[Any]) -> list[tuple[Any, ...]]:
    plain = {name: table.column(name).cast(pa.string()) for name in keys}
    rest = {name: table.column(name) for name in dict.fromkeys(a[0] for a in aggregations) if name not in keys}
    grouped = pa.table({**plain, **rest}).group_by(keys).aggregate(aggregations)
    names = [*keys, *(f"{name}_{how}" for name, how, *_ in aggregations)]
    return list(zip(*(grouped.column(name).to_pylist() for name in names), strict=True))


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
