"""SQL that returns exactly the number in the message, also years later: it reads an append-only table with the cost as
landed, up to the offsets that detect had read.

The text holds values of the events (users, features); every one of them passes through ``literal``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pipelines.alerts.finding import Finding
from pipelines.meter.measures import REFUSED, TRUNCATED
from pipelines.pricing.flags import COST_DIFFERS
from schemas.arrow import event_columns
from schemas.rollups import INPUT_LARGEST, INPUT_SIZES, SCORED, SIGNAL, series_pairs
from tailrace_emitter.event import Call

_SIZES = " ".join(f"WHEN input_tokens <= {most} THEN {name!r}" for most, name in INPUT_SIZES)
COLUMNS = {
    "app": "app",
    "feature": "feature",
    "team": "team",
    "tenant": "tenant_id",
    "provider": "provider",
    "model": "model",
    "response_model": "response_model",
    "prompt_version": "prompt_version",
    "release": "release",
    "variant": "variant",
    "user": "user_id",
    "input_size": f"(CASE WHEN input_tokens IS NULL THEN NULL {_SIZES} ELSE {INPUT_LARGEST!r} END)",
}
"""Dimension -> column of raw_calls, or an expression over them."""
_TOKENS = "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"
_MEASURES = {
    "cost": "sum(cost_usd)",
    "tokens": f"sum({_TOKENS})",
    "calls": "count(*)",
    "cost_per_call": "sum(cost_usd)::DOUBLE / count(*)",
    "tokens_per_call": f"sum({_TOKENS})::DOUBLE / count(*)",
}
_USAGE = {
    "calls": "count(*)",
    "tokens": f"coalesce(sum({_TOKENS}), 0)",
    "cost_usd": "coalesce(sum(cost_usd), 0)",
}
_RETRIEVED = " OR ".join(f"{c.name} IS NOT NULL" for c in event_columns(Call) if c.path[0] == "retrieval")
_SHARES = {
    "errors": "status = 'error'",
    "blocked": "status = 'blocked' OR coalesce(len(list_filter(guardrails, lambda g: g.action = 'block')), 0) > 0",
    "refused": f"refused OR lower(finish_reason) IN ({', '.join(repr(r) for r in REFUSED)})",
    "truncated": f"lower(finish_reason) IN ({', '.join(repr(r) for r in TRUNCATED)})",
    "fallbacks": "fallback_from IS NOT NULL",
    "usage_missing": "input_tokens IS NULL",
    "unpriced": "cost_usd IS NULL OR cost_status = 'partly_priced'",
    "empty_retrievals": "len(retrieval_docs) = 0",
    "cost_differs": f"list_contains(_flags, '{COST_DIFFERS}')",
}
"""The same tests as ``pipelines.meter.measures.counts``, on the landed columns."""
_COMPARED = (
    "cost_reported_usd > 0 AND input_cost_usd IS NOT NULL AND cost_status <> 'partly_priced' "
    "AND coalesce(len(list_filter(units, lambda u: u.cost IS NULL)), 0) = 0 "
    "AND coalesce(answer_cache NOT IN ('exact', 'semantic'), true)"
)
_SHARE_OF = {
    "empty_retrievals": f"count(*) FILTER ({_RETRIEVED})",
    "cost_differs": f"count(*) FILTER ({_COMPARED})",
}
"""What a share is a share of, where that is not all calls."""


def literal(text: str) -> str:
    """A string literal of DuckDB; quotes are doubled, no other character is special, and NUL is removed."""
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def sql(finding: Finding, positions: Mapping[int, int], epoch: int, *, table: str = "raw_calls") -> str:
    """SQL for ``finding.observed``; empty where it cannot be computed from the landed columns.

    Args:
        finding: window, series, measure.
        positions: partition of llm.events -> next offset that detect had not read.
        epoch: of llm.events.
        table: name of the append-only table.
    """
    if "signal" in finding.series:
        return _signal_sql(finding, positions, epoch)
    if (value := _value(finding)) is None:
        return ""
    where = [*_of(finding.series), *_bounds((finding.start, finding.end), positions, epoch)]
    return f"SELECT {value} AS observed FROM {table} WHERE " + " AND ".join(where)


def cause_sql(
    series: Sequence[Mapping[str, str]],
    window: tuple[int, int],
    positions: Mapping[int, int],
    epoch: int,
    *,
    table: str = "raw_calls",
) -> str:
    """SQL that returns calls, tokens and cost of each of ``series`` in ``window``, a row each.

    Args:
        series: of one app, each with a dimension that has a column.
        window: start and end, µs UTC.
        positions: partition of llm.events -> next offset that detect had not read.
        epoch: of llm.events.
        table: name of the append-only table.
    """
    app, numbers = {"app": series[0]["app"]}, ", ".join(f"{sql} AS {name}" for name, sql in _USAGE.items())
    within = " AND ".join([*_of(app), *_bounds(window, positions, epoch)])
    rows = []
    for pairs in series:
        below = {name: text for name, text in pairs.items() if name != "app"}
        name, value = literal(",".join(below)), literal(",".join(below.values()))
        where = " AND ".join(_of(below)) or "true"
        rows.append(f"SELECT {name} AS dimension, {value} AS value, {numbers} FROM incident WHERE {where}")
    return f"WITH incident AS (FROM {table} WHERE {within}) " + " UNION ALL ".join(rows)


def _of(series: Mapping[str, str]) -> list[str]:
    return [f"{COLUMNS[name]} = {literal(text)}" for name, text in series.items() if name in COLUMNS]


def _bounds(window: tuple[int, int], positions: Mapping[int, int], epoch: int) -> list[str]:
    """Conditions that select the rows of the window that detect had read at that time."""
    seen = " OR ".join(f"(_partition = {p} AND _offset < {o})" for p, o in sorted(positions.items())) or "false"
    start, end = window
    return [f"ts >= {_time(start)} AND ts < {_time(end)}", "NOT _dup", f"_epoch = {epoch} AND ({seen})"]


def _signal_sql(finding: Finding, positions: Mapping[int, int], epoch: int) -> str:
    """SQL over the landed rollups: hits and scored texts were counted when the texts were sampled, and not kept."""
    side, _, name = finding.measure.removeprefix(SIGNAL).partition(":")

    def total(of: str) -> str:
        matching = f"list_filter(signals, lambda s: s.name = {literal(of)} AND s.action = {literal(side)})"
        return f"sum(coalesce(list_sum(list_transform({matching}, lambda s: s.calls)), 0))"

    seen = " OR ".join(f"(source_partition = {p} AND source_to <= {o})" for p, o in sorted(positions.items()))
    where = [
        f"dims = {literal(','.join(series_pairs(finding.target)))} AND series = {literal(finding.target)}",
        f"second >= {finding.start // 1_000_000} AND second < {finding.end // 1_000_000}",
        f"source_epoch = {epoch} AND ({seen or 'false'})",
    ]
    return f"SELECT {total(name)}::DOUBLE / {total(SCORED)} AS observed FROM rollups WHERE " + " AND ".join(where)


def _value(finding: Finding) -> str | None:
    if finding.value_sql:
        return finding.value_sql
    if finding.rule == "single_call_cost":
        return "max(cost_usd)"
    if finding.measure in _MEASURES:
        return _MEASURES[finding.measure]
    if guardrail := finding.series.get("guardrail"):
        mine = f"list_filter(guardrails, lambda g: g.name = {literal(guardrail)} AND g.action <> 'pass')"
        hits = f"coalesce(len(list_distinct(list_transform({mine}, lambda g: g.action))), 0)"
        return f"sum({hits})::DOUBLE / count(*)"
    if test := _SHARES.get(finding.measure):
        return f"count(*) FILTER ({test})::DOUBLE / {_SHARE_OF.get(finding.measure, 'count(*)')}"
    return None


def _time(microseconds: int) -> str:
    return f"TIMESTAMPTZ '{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%d %H:%M:%S+00}'"
