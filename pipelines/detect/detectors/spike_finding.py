"""What ``spike`` reports: which measure, since when, in which series, and what causes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipelines.alerts.cause import Explained, explain
from pipelines.alerts.cause.ranking import is_clearer
from pipelines.alerts.cause.split import Measure
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.baseline import SLOTS_AN_HOUR
from pipelines.detect.detectors.spike_cause import Change
from pipelines.detect.detectors.spike_cause import causes as causes_of
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR, WINDOWS
from pipelines.detect.detectors.spike_state import BASE, MEASURES, UNITS, SpikeState
from pipelines.detect.windows import RING, SLOT, Floats
from schemas.alerts import Cause
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.spike import Spike
    from pipelines.detect.detectors.spike_windows import Observed

_SUMS: tuple[Measure, ...] = ("cost", "tokens", "calls")


def finding_of(spike: Spike, state: SpikeState, view: View, now: Observed) -> Finding:
    """The finding of windows of which one breaches."""
    measure, trigger = _trigger(spike, state, view, now)
    base = BASE[measure]
    start = _onset(state, view, now, trigger, base)
    slots = (view.until - start) // SLOT
    seen = view.windows.total(start, view.until)[:, COLUMNS] / DIVISOR
    excess = seen[:, base] - slots * now.expected[:, base]
    normal = now.expected[:, base] / max(now.expected[view.app, base], 1e-12)
    enough = _enough(spike, seen, measure)
    explained = explain(view.windows.series, excess, normal, app=view.app, trigger=trigger, enough=enough)
    causes, cause_sql = _causes(view, now.expected, explained, start, measure)
    place = explained.place
    value, usual = _compared(view, now, seen[place], place, measure, slots)
    hourly = float((seen[place, 0] - slots * now.expected[place, 0]) / slots * SLOTS_AN_HOUR)
    target, by_slot = view.windows.series[place], view.windows.of(place, COLUMNS[base], start, view.until)
    return Finding(
        detector=spike.name,
        rule=f"spike_{MEASURES[measure]}",
        family="spend",
        severity="critical" if hourly >= 10 * spike.floor_usd_per_hour and value >= 5 * usual else "warning",
        measure=MEASURES[measure],
        target=target,
        series=series_pairs(target),
        start=start,
        end=view.until,
        observed=value,
        expected=usual,
        score=round(float(now.breaches.max()), 3),
        unit=UNITS[measure],
        peak=float(by_slot.max(initial=0) / DIVISOR[base]),
        excess=float(excess[place]),
        expected_rate=float(now.expected[place, base]) if measure < 3 else None,
        usd_rate=float(now.expected[place, 0]),
        calls=int(seen[place, 2]),
        usd_per_hour=round(hourly, 6),
        causes=causes,
        cause_sql=cause_sql,
        call_ids=view.windows.calls_of(place, "cost", start, view.until),
    )


def _trigger(spike: Spike, state: SpikeState, view: View, now: Observed) -> tuple[int, int]:
    """The first measure that breaches, and the series: the app where it breaches, else the one that breaches most."""
    breaches = now.breaches.max(axis=2)
    measure = int(np.flatnonzero(breaches.any(axis=0))[0])
    trigger = view.app if breaches[view.app, measure] else int(breaches[:, measure].argmax())
    if measure in (1, 2) and _cost_rises_too(spike, state, view, now, trigger):
        measure = 0
    return measure, trigger


def _compared(view: View, now: Observed, seen: Floats, place: int, measure: int, slots: int) -> tuple[float, float]:
    """Observed and expected value of a measure, out of the (3,) sums of a series."""
    base = BASE[measure]
    if measure < 3:
        return float(seen[base]), float(slots * now.expected[place, base])
    known = place if now.expected[place, 2] > 0 else view.app  # a new series is compared with the app
    per_call = float(now.expected[known, base] / max(now.expected[known, 2], 1e-12))
    return float(seen[base]) / max(float(seen[2]), 1.0), per_call


def clearer(spike: Spike, state: SpikeState, view: View, finding: Finding) -> Finding | None:
    """``finding`` of an open incident with the causes of now, where they name what the emitted ones did not."""
    expected = state.level.expected(len(view.windows.series), view.app, view.until - SLOT)
    start, measure = max(finding.start, view.until - RING * SLOT), MEASURES.index(finding.measure)
    base, slots = BASE[measure], max((view.until - start) // SLOT, 1)
    seen = view.windows.total(start, view.until)[:, COLUMNS] / DIVISOR
    excess = seen[:, base] - slots * expected[:, base]
    trigger = view.windows.index.get(finding.target, view.app)
    if excess[trigger] < max(spike.least[base], expected[trigger, base] * slots):
        return None
    normal = expected[:, base] / max(expected[view.app, base], 1e-12)
    enough = _enough(spike, seen, measure)
    found = explain(view.windows.series, excess, normal, app=view.app, trigger=trigger, enough=enough)
    if not is_clearer(found.causes, finding.causes):
        return None
    causes, cause_sql = _causes(view, expected, found, start, measure)
    return replace(finding, causes=causes, cause_sql=cause_sql)


def _enough(spike: Spike, seen: Floats, measure: int) -> NDArray[np.bool_]:
    """(series,) which have calls enough in ``seen`` (series, 3) to be named."""
    enough: NDArray[np.bool_] = seen[:, 2] >= (spike.min_calls_named if measure >= 3 else spike.min_calls)
    return enough


def _causes(
    view: View, expected: Floats, explained: Explained, start: int, measure: int
) -> tuple[tuple[Cause, ...], str]:
    name: Measure = _SUMS[BASE[measure]]
    return causes_of(Change(view.windows, expected, start, view.until, name, volume=measure < 3), explained)


def _cost_rises_too(spike: Spike, state: SpikeState, view: View, now: Observed, place: int) -> bool:
    """Whether the cost rose as well, even if it does not breach yet: then the alert is about the cost."""
    seen = view.total(WINDOWS[0], state.cut)[place, COLUMNS[0]] / DIVISOR[0]
    normal = WINDOWS[0] * now.expected[place, 0]
    return bool(seen >= 2 * normal and seen - normal >= 0.3 * WINDOWS[0] * spike.floor[0])


def _onset(state: SpikeState, view: View, now: Observed, place: int, base: int) -> int:
    """Start of the run of raised slots around the highest one; one low slot inside does not end it."""
    oldest = max(view.until - RING * SLOT, state.cut)
    above = view.windows.of(place, COLUMNS[base], oldest, view.until) / DIVISOR[base] - now.expected[place, base]
    first = top = int(above.argmax())
    raised = above > 0.25 * above[top]
    for i in range(top, -1, -1):
        if raised[i]:
            first = i
        elif not raised[max(i - 1, 0)]:
            break
    return oldest + first * SLOT
