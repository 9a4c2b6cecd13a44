"""What ``cold_start`` reports: the spend or the errors of a new app, and the values that explain them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from pipelines.alerts.cause import Explained, explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.baseline import SLOTS_AN_HOUR
from pipelines.detect.detectors.cold_start_state import ERRORS, SPEND, ColdStartState
from pipelines.detect.detectors.spike_cause import Change, causes
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR
from pipelines.detect.items import COLUMN
from pipelines.detect.windows import RING, SLOT, Floats
from schemas.alerts import Cause
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.cold_start import ColdStart

_COST, _CALLS, _ERRORS = COLUMN["cost_nanousd"], COLUMN["calls"], COLUMN["errors"]
_EXEMPLARS = {SPEND: "cost", ERRORS: "error"}
"""Family -> measure of its example calls."""
_MIN_SLOTS = 6
"""Slots from which a rate is known: fewer are a few calls."""


def finding_of(
    detector: ColdStart, state: ColdStartState, view: View, family: str, start: int, score: float
) -> Finding:
    """The finding of a family that breaches since ``start`` (µs UTC)."""
    windows, sums = view.windows, view.windows.total(start, view.until)
    usual = _usual(view, start)
    explained, named, sql = _explained(detector, view, family, start, usual)
    place = explained.place
    hits, calls = int(sums[place, _ERRORS]), int(sums[place, _CALLS])
    target = windows.series[place]
    finding = Finding(
        detector=detector.name,
        rule=f"cold_start_{'cost' if family == SPEND else family}",
        family=family,
        severity="critical",
        measure="cost" if family == SPEND else family,
        target=target,
        series=series_pairs(target),
        start=start,
        end=view.until,
        observed=hits / max(calls, 1),
        expected=detector.share,
        score=round(score, 3),
        unit="share",
        excess=hits - detector.share * calls,
        calls=hits,
        causes=named,
        cause_sql=sql,
        call_ids=windows.calls_of(place, _EXEMPLARS[family], start, view.until),
        learning=True,
    )
    if family == ERRORS:
        return finding
    rate = float(usual[place, 0]) if place != view.app else max(state.highest[0], float(usual[place, 0]))
    return _of_spend(finding, rate, float(sums[place, _COST]) / 1e9, calls)


def _of_spend(finding: Finding, rate: float, usd: float, calls: int) -> Finding:
    """``finding`` with the numbers of a spend of ``usd``, where ``rate`` USD per slot were usual."""
    slots = (finding.end - finding.start) // SLOT
    return replace(
        finding,
        observed=usd,
        expected=rate * slots,
        unit="USD",
        excess=usd - rate * slots,
        expected_rate=rate,
        usd_rate=rate,
        calls=calls,
        usd_per_hour=round((usd - rate * slots) / slots * SLOTS_AN_HOUR, 6),
    )


def _usual(view: View, start: int) -> Floats:
    """(series, 3) USD, tokens and calls per slot in the minutes before ``start``; zeros where they are too few."""
    oldest = max(view.until - RING * SLOT, view.windows.first)
    slots = (start - oldest) // SLOT
    rates: Floats = view.windows.total(oldest, start)[:, COLUMNS] / DIVISOR / max(slots, 1)
    return rates if slots >= _MIN_SLOTS else np.zeros_like(rates)


def _explained(
    detector: ColdStart, view: View, family: str, start: int, usual: Floats
) -> tuple[Explained, tuple[Cause, ...], str]:
    windows, sums = view.windows, view.windows.total(start, view.until)
    names, app = windows.series, view.app
    if family == ERRORS:
        hits, calls = sums[:, _ERRORS].astype(float), sums[:, _CALLS].astype(float)
        enough = calls >= detector.min_calls_errors
        normal = calls / max(calls[app], 1.0)
        explained = explain(names, hits, normal, app=app, trigger=app, enough=enough)
        return explained, explained.causes, ""
    change = Change(windows, usual, start, view.until, "cost")
    excess = sums[:, _COST] / 1e9 - change.slots * usual[:, 0]
    normal = usual[:, 0] / max(usual[app, 0], 1e-12)
    explained = explain(names, excess, normal, app=app, trigger=app, enough=sums[:, _CALLS] >= detector.min_calls)
    return explained, *causes(change, explained)
