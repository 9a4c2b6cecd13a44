"""What ``per_call`` reports: which series, how much more a call holds or costs, and what that adds up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from pipelines.alerts.cause import explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors import minute_evidence
from pipelines.detect.detectors.per_call_rules import usual_of, value_of
from pipelines.detect.detectors.per_call_state import CALLS, CODES, COST, FAMILY, MEASURES, NEW, TOKENS, PerCallState
from pipelines.detect.side import is_minute_only
from pipelines.detect.windows import SLOT, Floats
from schemas.alerts import BROAD, Cause
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.per_call import PerCall

NEW_MODEL = "new_model_cost"
UNITS = ("tokens/call", "USD/call")
SQL = (
    "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::DOUBLE / count(*)",
    "sum(cost_usd)::DOUBLE / count(*)",
)
GROWN = (
    "Open a call (`tailrace call CALL_ID`): a prompt template that is doubled, history or documents that are no longer "
    "cut, retries that append to the prompt, a longer answer?",
    "Compare prompt versions and releases since then (`tailrace release list`); roll back what began it.",
    "It is meant: acknowledge it (`tailrace alerts ack ALERT_ID`); if it stays, it closes as the new normal.",
)
ROUTED = (
    "Open a call (`tailrace call CALL_ID`): which route, fallback or default chose this model?",
    "Compare releases since then (`tailrace release list`); send the calls back to the usual model.",
    "It is meant: acknowledge it (`tailrace alerts ack ALERT_ID`); after some hours the model is no longer new.",
)


def finding_of(test: PerCall, state: PerCallState, view: View) -> Finding:
    """The finding of the last minute; there is one."""
    windows = view.windows
    if state.found[:, NEW].any():
        cost = np.where(state.found[:, NEW], state.since_first[:, COST], -1.0)
        row = int(cost.argmax())
        score = float(state.since_first[row, COST] / max(state.since_first[row, CALLS], 1.0) / 1e9)
        score /= max(float(usual_of(state)[state.names.index(windows.own), 1]), 1e-12)
        return _finding(test, state, view, (row, NEW), (state.models[state.names[row]], score))
    mean, onset, _ = minute_evidence.best(state.log, state.onset, state.run)
    mean = np.where(state.found[:, :NEW], mean, 0.0)
    row, k = divmod(int(mean.argmax()), mean.shape[1])
    return _finding(test, state, view, (row, k), (int(onset[row, k]), float(mean[row, k])))


def _finding(test: PerCall, state: PerCallState, view: View, at: tuple[int, int], run: tuple[int, float]) -> Finding:
    (row, k), windows, end = at, view.windows, view.windows.closed
    start = max(run[0], end - test.reach)
    measure = min(k, 1)
    sums = value_of(windows.side.longer(CODES, start, end))[: len(state.names)]
    usual, app = usual_of(state), state.names.index(windows.own)
    expected = float(usual[app if k == NEW else row, measure])
    excess = sums[:, 1 + measure] / (1.0, 1e9)[measure] - sums[:, CALLS] * usual[:, measure]
    if k == NEW:
        excess[row] = sums[row, COST] / 1e9 - sums[row, CALLS] * expected
    target, mine = state.names[row], sums[row]
    lost = float(mine[COST] / 1e9 - mine[CALLS] * usual[app if k == NEW else row, 1])
    slots = max((end - start) // SLOT, 1)
    hourly = lost / slots * (3_600_000_000 // SLOT)
    priced = mine[COST] > 0 and usual[app if k == NEW else row, 1] > 0
    value = float(mine[TOKENS]) if measure == 0 else float(mine[COST]) / 1e9
    return Finding(
        detector=test.name,
        rule=NEW_MODEL if k == NEW else MEASURES[measure],
        family=FAMILY,
        rank=1,
        measure=MEASURES[measure],
        target=target,
        series=series_pairs(target),
        start=start,
        end=end,
        observed=value / max(float(mine[CALLS]), 1.0),
        expected=expected,
        score=round(run[1], 3),
        unit=UNITS[measure],
        excess=float(excess[row]),
        usd_lost=round(lost, 9) if priced else None,
        usd_per_hour=round(hourly, 6) if priced else None,
        calls=int(mine[CALLS]),
        causes=_causes(test, state, view, sums, (row, k), excess, hourly if priced else None),
        call_ids=windows.calls_of(windows.index.get(target, 0), "cost", start, end),
        value_sql=SQL[measure],
        steps=ROUTED if k == NEW else GROWN,
    )


def _causes(
    test: PerCall,
    state: PerCallState,
    view: View,
    sums: Floats,
    at: tuple[int, int],
    excess: Floats,
    hourly: float | None,
) -> tuple[Cause, ...]:
    """The series itself with its numbers first, then what else explains the rise."""
    row, k = at
    app = state.names.index(view.windows.own)
    normal = state.usual[:, CALLS] / max(float(state.usual[app, CALLS]), 1e-9)
    enough = (sums[:, CALLS] >= test.new_calls) & np.array([not is_minute_only(name) for name in state.names])
    explained = explain(state.names, excess, normal, app=app, trigger=row, enough=enough)
    text = _numbers(usual_of(state)[row], sums[row], k, hourly)
    others = tuple(c for c, place in zip(explained.causes, explained.places, strict=True) if place != row)
    if row == app:
        first = Cause("", BROAD, 1.0, text, normal=1.0)
    else:
        (dimension, value), *_ = list(series_pairs(state.names[row]).items())[1:]
        share = min(max(float(excess[row]) / max(float(excess[app]), float(excess[row]), 1e-12), 0.0), 1.0)
        first = Cause(dimension, value, round(share, 4), text, named=True, normal=round(float(normal[row]), 4))
    return (first, *(replace(c, named=False) for c in others))[:5]


def _numbers(usual: Floats, now: Floats, k: int, hourly: float | None) -> str:
    calls = max(float(now[CALLS]), 1.0)
    tokens, usd = float(now[TOKENS]) / calls, float(now[COST]) / 1e9 / calls
    money = "what it costs is not known" if hourly is None else f"{hourly:,.2f} USD an hour more"
    if k == NEW:
        return f"calls of a model that is new, {usd:,.4g} USD each; {money}"
    held = f"tokens per call went from {float(usual[0]):,.0f} to {tokens:,.0f}"
    return f"{held}, cost per call from {float(usual[1]):,.4g} to {usd:,.4g} USD; {money}"
