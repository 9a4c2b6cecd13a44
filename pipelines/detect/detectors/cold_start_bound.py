"""When ``ColdStart`` cannot find anything: little spend and few errors in the last minutes, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.detect.bounds import Ahead, Rows, grown
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch, window_sums
from pipelines.detect.windows import RING, SLOT, Matrix, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.detect.bounds import BoundTable
    from pipelines.detect.detectors.cold_start import ColdStart
    from pipelines.detect.detectors.cold_start_state import ColdStartState
    from pipelines.detect.guards import Guard

_COST, _CALLS, _ERRORS = COLUMN["cost_nanousd"], COLUMN["calls"], COLUMN["errors"]
_LESS = 1 - 1e-9
"""Sums are compared with products that are rounded."""


def _least(detector: ColdStart) -> tuple[float, float]:
    """nano-USD and errors below which nothing is found."""
    from pipelines.detect.detectors.spike_scan import WINDOWS

    usd = min(detector.least(slots) for slots in WINDOWS)
    return usd * 1e9 * _LESS, detector.share * detector.min_calls_errors * _LESS


class ColdStartScan:
    """One stretch: quiet as a whole, or judged bucket by bucket."""

    def __init__(self, detector: ColdStart, state: ColdStartState, stretch: Stretch) -> None:
        self.detector, self.state, self.stretch = detector, state, stretch
        rows, end = stretch.sums[stretch.places == stretch.app], stretch.first + SLOT
        cost, errors = _least(detector)
        spends = detector.is_new(stretch.windows, end) and "spend" not in stretch.open
        fails = detector.learns_errors(state, stretch.windows, end) and "errors" not in stretch.open
        fails &= int(rows[:, _ERRORS].sum()) >= errors
        self.quiet = self._until_errors() if fails else stretch.count
        if spends and int(rows[:, _COST].sum()) >= cost:
            self.quiet = 0

    def _until_errors(self) -> int:
        """Buckets until the share of errors in the last minutes is above the limit."""
        stretch, detector = self.stretch, self.detector
        dense = stretch.dense(stretch.active()[:1], [_ERRORS, _CALLS])[:, 0]
        starts = stretch.first + SLOT * np.arange(-RING, stretch.count)
        dense[starts < self.state.cuts.get("errors", 0)] = 0
        errors, calls = window_sums(dense, RING).T
        found = (calls >= detector.min_calls_errors) & (errors > detector.share * calls)
        return int(found.argmax()) if found.any() else stretch.count

    def learn(self, count: int) -> ColdStartState:
        """State after the first ``count`` buckets."""
        dense = self.stretch.dense(self.stretch.active()[:1], [_COST, _CALLS])[:count, 0]
        for slot, (cost, calls) in zip(self.stretch.starts, dense.tolist(), strict=False):
            slot -= RING * SLOT
            if self.detector.learns(self.state, self.stretch.windows, self.stretch.open, slot):
                self.state.learn(cost, calls)
        return self.state


class ColdStartBoundTable:
    """Spend and errors of each app since the ring began, at most: what leaves the ring is not taken out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: Matrix = np.zeros(0, np.int64)
        """(series,) number of the app of which it is the own series; else -1."""
        self.bounds: dict[int, ColdStartBound] = {}
        self.held: dict[int, tuple[int, int]] = {}
        """App -> nano-USD, errors."""

    def resize(self, apps: int, rows: int) -> None:
        """See ``BoundTable``."""
        self.owner = grown(self.owner, rows, -1)

    def put(self, guard: Guard, bound: ColdStartBound) -> None:
        """See ``BoundTable``."""
        self.bounds[guard.number], self.held[guard.number] = bound, bound.held
        self.owner[guard.base + bound.app] = guard.number

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        if bound := self.bounds.pop(guard.number, None):
            self.owner[guard.base + bound.app] = -1

    def grow(self, guard: Guard, before: int) -> None:
        """Only the app's own series is looked at."""

    def add(self, rows: Rows) -> None:
        """See ``BoundTable``."""
        if self.bounds:
            owner = self.owner[rows.rows]
            own = owner >= 0
            for number, row in zip(owner[own].tolist(), rows.sums[own].tolist(), strict=True):
                cost, errors = self.held[number]
                self.held[number] = cost + row[_COST], errors + row[_ERRORS]

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """See ``BoundTable``."""
        bounded = [guard for guard in guards if guard.number in self.bounds] if self.bounds else []
        return {guard.number for guard in bounded if self._is_enough(guard)}

    def _is_enough(self, guard: Guard) -> bool:
        (cost, errors), bound = self.held[guard.number], self.bounds[guard.number]
        return cost >= bound.cost or (errors >= bound.errors and bound.has_errors(guard.windows, errors))


class ColdStartBound:
    """Of one app."""

    table: ClassVar[type[BoundTable] | None] = ColdStartBoundTable
    always: ClassVar[bool] = False

    def __init__(self, detector: ColdStart, ahead: Ahead, *, spend: bool, errors: bool, cut: int) -> None:
        """``spend``, ``errors``: whether the app is judged by it; ``cut``: no window of errors begins before it."""
        self.share, self.cut = detector.share, cut
        self.checked, self.enough = 0, 0.0
        cost, hits = _least(detector)
        self.app, self.cost, self.errors = ahead.app, cost if spend else np.inf, hits if errors else np.inf
        row = ahead.windows.row(ahead.app, ahead.until - RING * SLOT, ahead.last)
        self.held = int(row[_COST]), int(row[_ERRORS])

    def has_errors(self, windows: Windows, held: int) -> bool:
        """Whether the share of errors in the last minutes is above the limit.

        Args:
            windows: of the app.
            held: errors so far. An error is a call too, so it is known how many are missing until a bucket begins.
        """
        until = windows.latest()
        if self.checked == until and held < self.enough:
            return False
        row = windows.row(self.app, max(until - RING * SLOT, self.cut), until)
        errors, calls = int(row[_ERRORS]), int(row[_CALLS])
        self.checked, self.enough = until, held + (self.share * calls - errors) / max(1 - self.share, 1e-9) * _LESS
        return errors > self.share * calls
