"""What a detector compares for one series, as people read it: observed, expected, and the least that is reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.ceiling import SingleCallLimit, SingleCallState
from pipelines.detect.detectors.cold_start import ColdStart
from pipelines.detect.detectors.cold_start_state import ColdStartState
from pipelines.detect.detectors.spike import Spike
from pipelines.detect.detectors.spike_scan import COLUMNS, DIVISOR, WINDOWS
from pipelines.detect.detectors.spike_state import MEASURES, UNITS, SpikeState
from pipelines.detect.detectors.surge import Surge
from pipelines.detect.detectors.surge_bases import base_of, has_hits
from pipelines.detect.detectors.surge_limits import least_reported, limits_of, overdispersion, shares_of
from pipelines.detect.detectors.surge_state import KINDS, SurgeState
from pipelines.detect.items import COLUMN
from pipelines.detect.kinds import column
from pipelines.detect.windows import RING, SLOT, Floats


@dataclass(frozen=True)
class Band:
    """One comparison. ``limit``: the least value that is reported; None = it is not judged, for the reason in
    ``note``.
    """

    detector: str
    measure: str
    window_s: int
    unit: str
    observed: float
    expected: float | None
    limit: float | None
    calls: int
    """In the window."""
    min_calls: int
    """Least number of calls, or of hits of a share, before it is judged."""
    note: str = ""

    @property
    def breaches(self) -> bool:
        """Whether it would be reported."""
        return self.limit is not None and self.observed >= self.limit and self.calls >= self.min_calls


def of_spike(spike: Spike, state: SpikeState, view: View, place: int) -> list[Band]:
    """Cost, tokens and calls in both windows, and cost and tokens per call."""
    if not state.level.den:
        return []
    windows, floor = view.windows, spike.floor
    expected = state.level.expected(len(windows.series), view.app, view.until - SLOT)
    ratios, shares = spike.limits_of(state, view, place)
    note = "" if place == view.app or windows.named[place] else "values that are not tracked are not judged"
    found = []
    for i, slots in enumerate(WINDOWS):
        seen = view.total(slots, state.cut)[place, COLUMNS] / DIVISOR
        around, normal = slots * (expected[view.app] + floor), slots * expected[place]
        least = np.maximum(slots * floor, spike.least)
        big = normal + (least if place == view.app else np.maximum(least, spike.part[i] * around))
        limit = np.maximum(big, ratios[:3, i] * (normal + slots * floor))
        if shares is not None:
            limit = np.maximum(big, np.maximum(spike.ratio * normal + slots * floor, shares[:, i] * around))
        minimum = spike.min_calls if shares is None else spike.min_calls_wide
        for m in range(3):
            numbers = float(seen[m]), float(normal[m]), None if note else float(limit[m])
            found.append(_band(spike, m, slots, numbers, seen, minimum, note))
        found += _per_call(spike, state, view, place, i, (seen, expected, ratios, shares is not None))
    return found


def _per_call(
    spike: Spike, state: SpikeState, view: View, place: int, i: int, known: tuple[Floats, Floats, Floats, bool]
) -> list[Band]:
    seen, expected, ratios, pooled = known
    learned = float(state.level.num[place, 2])
    note = "judged with the other users" if pooled else "" if learned >= 100 else f"learned {learned:.0f} of 100 calls"
    found = []
    for m in (0, 1):
        normal = float(expected[place, m] / max(expected[place, 2], 1e-12))
        numbers = float(seen[m] / max(seen[2], 1.0)), normal, None if note else normal * float(ratios[3 + m, i])
        found.append(_band(spike, 3 + m, WINDOWS[i], numbers, seen, spike.min_calls_per_call, note))
    return found


def _band(
    spike: Spike,
    measure: int,
    slots: int,
    numbers: tuple[float, float, float | None],
    seen: Floats,
    minimum: int,
    note: str,
) -> Band:
    window = slots * SLOT // 1_000_000
    return Band(spike.name, MEASURES[measure], window, UNITS[measure], *numbers, int(seen[2]), minimum, note)


def of_surge(surge: Surge, state: SurgeState, view: View, place: int) -> list[Band]:
    """Shares of calls in the last five minutes; the test itself looks at all calls since the onset."""
    if place not in state.places:
        return []
    kinds, judged = [*KINDS, *view.windows.kinds], has_hits(view.windows.kinds)
    known = [a[state.places.index(place)] for a in (state.hits, state.calls, overdispersion(surge, state))]
    share = shares_of(*known[:2])
    limits = least_reported(surge, share, limits_of(surge, *known))
    row, found = view.windows.row(place, view.until - RING * SLOT, view.until), []
    for i, kind in enumerate(kinds):
        calls = int(row[column(view.windows.kinds, base_of(kind, view.windows.kinds))])
        if i >= share.shape[0] or not calls or not judged[i]:
            continue
        hits = min(int(row[column(view.windows.kinds, kind)]), calls)
        log = float(state.log[state.places.index(place), i].max())
        note = f"{hits} hits, evidence {log:.1f} of {surge.evidence:g}" if hits else ""
        if kind in view.open:
            note = f"{hits} hits; an incident of it is open"
        window = RING * SLOT // 1_000_000
        found.append(
            Band(
                surge.name,
                kind,
                window,
                "share",
                hits / calls,
                float(share[i]),
                float(limits[i]),
                hits,
                surge.min_hits,
                note,
            )
        )
    return found


def of_single_call(detector: SingleCallLimit, state: SingleCallState, view: View, place: int) -> list[Band]:
    """The most expensive call of the last five minutes of which there is an example."""
    if place != view.app:
        return []
    held = view.windows.held(max(view.until - RING * SLOT, state.cut), view.until)
    top = max((view.windows.slots[start].most_expensive(place) for start in held), default=0) / 1e9
    window, calls = RING * SLOT // 1_000_000, int(view.total(RING)[place, COLUMN["calls"]])
    return [Band(detector.name, "single call", window, "USD", top, None, detector.limit_usd, calls, 1)]


def of_cold_start(detector: ColdStart, state: ColdStartState, view: View, place: int) -> list[Band]:
    """Spend and errors of an app that is new."""
    if place != view.app:
        return []
    found = []
    if detector.is_new(view.windows, view.until):
        for i, slots in enumerate(WINDOWS):
            row = view.total(slots)[place]
            own, lake = state.highest[i], view.windows.lake_usd
            limit = detector.bar(state, view.windows, i) if own or lake else None
            note = "" if limit else "nothing to compare with before five minutes have passed"
            window, usd = slots * SLOT // 1_000_000, float(row[COLUMN["cost_nanousd"]]) / 1e9
            calls = int(row[COLUMN["calls"]])
            expected = own * slots if own else None
            found.append(
                Band(detector.name, "cost", window, "USD", usd, expected, limit, calls, detector.min_calls, note)
            )
    if detector.learns_errors(state, view.windows, view.until):
        row = view.total(RING)[place]
        calls, errors = int(row[COLUMN["calls"]]), int(row[COLUMN["errors"]])
        window, least = RING * SLOT // 1_000_000, detector.min_calls_errors
        seen = errors / max(calls, 1)
        found.append(Band(detector.name, "errors", window, "share", seen, None, detector.share, calls, least))
    return found
