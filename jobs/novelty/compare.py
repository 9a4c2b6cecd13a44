"""What was different before and after a value was first seen: cost, latency, length, refusals, errors, thumbs.

After are the calls with the new value. Before are the calls of the app in the seven days before, in the features that
the new value is used in, and with the same model or prompt where the value belongs to one. Both are read as they were
known at one moment, so that the SQL of an alert goes on returning its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.novelty.decide import NewValue
from jobs.novelty.values import KINDS
from pipelines.alerts.evidence import literal
from pipelines.meter.measures import REFUSED
from schemas.alerts import Change
from warehouse.query.readonly import ReadOnlyLake

BEFORE = timedelta(days=7)
AFTER = timedelta(days=1)
_HAS_TOOL = "coalesce(list_contains(list_transform(tools, lambda t: t.name), {value}), false)"
_REFUSED = f"refused OR lower(finish_reason) IN ({', '.join(repr(reason) for reason in REFUSED)})"
_COMPARED = """
WITH mine AS (
    SELECT *, {has} AS has FROM calls_as_known_at($1::TIMESTAMPTZ)
    WHERE app = $2 AND day >= $3 AND ts >= $4 AND ts < $6 AND user_facing AND {within}
),
used_in AS (SELECT DISTINCT coalesce(feature, '') AS feature FROM mine WHERE has AND ts >= $5),
sided AS (
    SELECT *, ts >= $5 AS is_after FROM mine
    WHERE CASE WHEN ts >= $5 THEN has ELSE {alike} END
),
thumbs AS (
    SELECT call_id, count(*) AS thumbs, count(*) FILTER (score < 0) AS down
    FROM feedback WHERE kind = 'thumbs' AND score IS NOT NULL AND call_id IN (SELECT id FROM sided) GROUP BY call_id
)
SELECT is_after, count(*) AS calls, avg(cost_usd)::DOUBLE AS cost_usd, count(cost_usd) AS priced,
    quantile_cont(latency_ms, 0.5) AS p50_ms, quantile_cont(latency_ms, 0.95) AS p95_ms,
    avg(output_tokens)::DOUBLE AS output_tokens,
    CASE WHEN count(refused) + count(finish_reason) > 0 THEN count(*) FILTER ({refused}) END AS refused,
    count(*) FILTER (status = 'error') AS errors,
    coalesce(sum(thumbs), 0)::BIGINT AS thumbs, coalesce(sum(down), 0)::BIGINT AS thumbs_down,
    mode({value}) AS mostly
FROM sided LEFT JOIN thumbs ON thumbs.call_id = sided.id
GROUP BY is_after
"""


@dataclass(frozen=True)
class Side:
    """Numbers of the calls of one side; None = not reported by any of them."""

    calls: int = 0
    cost_usd: float | None = None
    """Mean of the calls with a known cost."""
    priced: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    output_tokens: float | None = None
    """Mean a call."""
    refused: int | None = None
    errors: int = 0
    thumbs: int = 0
    thumbs_down: int = 0
    mostly: str | None = None
    """The most frequent value of the same kind."""


@dataclass(frozen=True)
class Comparison:
    """Before and after."""

    before: Side
    after: Side


def compare(lake: ReadOnlyLake, new: NewValue, known_at: datetime) -> Comparison:
    """Read both sides; ``after`` ends at ``known_at``, at most a day after the value was first seen."""
    until = min(known_at, new.first + AFTER)
    values: list[Any] = [known_at, new.app, (new.first - BEFORE - timedelta(days=1)).date()]
    values += [new.first - BEFORE, new.first, until]

    def bind(value: str | None) -> str:
        values.append(value)
        return f"${len(values)}::VARCHAR"

    alike = "true" if new.kind == "feature" else "coalesce(feature, '') IN (FROM used_in)"
    sql = _COMPARED.format(
        has=_has(new, bind),
        within=_within(new, bind),
        alike=alike,
        refused=_REFUSED,
        value="NULL::VARCHAR" if new.kind == "tool" else KINDS[new.kind].value,
    )
    sides = {row.pop("is_after"): Side(**row) for row in lake.query(sql, values).to_pylist()}
    return Comparison(sides.get(False, Side()), sides.get(True, Side()))


def evidence(new: NewValue, known_at: datetime) -> str:
    """Return SQL for the number of calls with the value, as known at ``known_at``: later calls do not change it."""
    until = min(known_at, new.first + AFTER)
    return (
        f"SELECT count(*)::DOUBLE AS observed FROM calls_as_known_at({_time(known_at)}) WHERE app = {literal(new.app)} "
        f"AND {_within(new, _literal)} AND {_has(new, _literal)} AND ts >= {_time(new.first)} AND ts < {_time(until)} "
        f"AND day >= DATE '{new.first - timedelta(days=1):%Y-%m-%d}' AND user_facing"
    )


def differences(compared: Comparison) -> tuple[Change, ...]:
    """Return what was different, in words, one a line; what neither side reports is left out."""
    before, after = compared.before, compared.after
    if not before.calls:
        return (_line("compared", f"nothing to compare with: no such calls in the {BEFORE.days} days before"),)
    lines = [
        _line("cost", _cost(before, after)),
        _line("latency", _latency(before, after)),
        _line("output", _pair("output", before.output_tokens, after.output_tokens, "{:,.0f}", "tokens a call")),
        _line("failures", _failures(before, after)),
        _line("feedback", _thumbs(before, after)),
        _line("compared", f"compared: {before.calls:,} calls of the {BEFORE.days} days before, {after.calls:,} since"),
    ]
    return tuple(line for line in lines if line.text)


def _line(kind: str, text: str) -> Change:
    return Change("", kind, text)


def _cost(before: Side, after: Side) -> str:
    text = _pair("cost per call", before.cost_usd, after.cost_usd, "${:.3g}", "")
    unpriced = after.calls - after.priced
    return f"{text}; {unpriced:,} of {after.calls:,} calls have no price" if text and unpriced else text


def _latency(before: Side, after: Side) -> str:
    half = _pair("p50", _seconds(before.p50_ms), _seconds(after.p50_ms), "{:.2f}", "s")
    tail = _pair("p95", _seconds(before.p95_ms), _seconds(after.p95_ms), "{:.2f}", "s")
    return f"latency {half}, {tail}" if half and tail else ""


def _failures(before: Side, after: Side) -> str:
    errors = _shares("errors", before.errors, before.calls, after.errors, after.calls)
    if before.refused is None or after.refused is None:
        return errors
    return f"{_shares('refusals', before.refused, before.calls, after.refused, after.calls)}, {errors}"


def _thumbs(before: Side, after: Side) -> str:
    if not before.thumbs and not after.thumbs:
        return ""
    return f"thumbs down {before.thumbs_down:,} of {before.thumbs:,} → {after.thumbs_down:,} of {after.thumbs:,}"


def _pair(name: str, before: float | None, after: float | None, form: str, unit: str) -> str:
    if before is None or after is None:
        return ""
    ratio = f" (×{after / before:.2f})" if before > 0 and after > 0 else ""
    return f"{name} {form.format(before)} → {form.format(after)} {unit}".rstrip() + ratio


def _shares(name: str, before: int, of_before: int, after: int, of_after: int) -> str:
    return f"{name} {before / max(of_before, 1):.1%} → {after / max(of_after, 1):.1%}"


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def _has(new: NewValue, put: Callable[[str | None], str]) -> str:
    """Return the test whether a call has the value; the value passes through ``put``."""
    if new.kind == "tool":
        return _HAS_TOOL.format(value=put(new.value))
    return f"coalesce({KINDS[new.kind].value} = {put(new.value)}, false)"


def _within(new: NewValue, put: Callable[[str | None], str]) -> str:
    column = KINDS[new.kind].within
    return f"{column} IS NOT DISTINCT FROM {put(new.within)}" if column else "true"


def _literal(value: str | None) -> str:
    return "NULL" if value is None else literal(value)


def _time(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
