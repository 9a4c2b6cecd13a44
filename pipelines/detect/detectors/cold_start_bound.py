"""What spares ``ColdStart`` a look: little spend and few errors in the last minutes, whatever their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.detect.bounds import Ahead
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch
from pipelines.detect.windows import RING, SLOT, Floats, Matrix

if TYPE_CHECKING:
    from pipelines.detect.detectors.cold_start import ColdStart, ColdStartState

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
        self.state, self.stretch = state, stretch
        rows = stretch.sums[stretch.places == stretch.app]
        cost, errors = _least(detector)
        mature = not detector.learns_errors(state, stretch.windows, stretch.first + SLOT)
        few = int(rows[:, _COST].sum()) < cost and int(rows[:, _ERRORS].sum()) < errors
        self.quiet = stretch.count if mature or few else 0

    def learn(self, count: int) -> ColdStartState:
        """State after the first ``count`` buckets."""
        dense = self.stretch.dense(self.stretch.active()[:1], [_COST, _CALLS])[:count, 0]
        for slot, (cost, calls) in zip(self.stretch.starts, dense.tolist(), strict=False):
            slot -= RING * SLOT
            if slot >= self.stretch.windows.first and not self.state.is_muted(slot):
                self.state.learn(cost, calls)
        return self.state


class ColdStartBound:
    """Spend and errors of the app since the ring began, at most: what leaves the ring is not taken out."""

    def __init__(self, detector: ColdStart, ahead: Ahead) -> None:
        self.app, (self.cost, self.errors) = ahead.app, _least(detector)
        row = ahead.windows.row(ahead.app, ahead.until - RING * SLOT, ahead.last)
        self.held = int(row[_COST]), int(row[_ERRORS])

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Add rows of the app."""
        own = sums[places == self.app]
        self.held = self.held[0] + int(own[:, _COST].sum()), self.held[1] + int(own[:, _ERRORS].sum())

    def close(self, start: int) -> None:
        """Nothing changes."""

    def may_find(self, until: int) -> bool:
        """Whether there is enough of either."""
        return self.held[0] >= self.cost or self.held[1] >= self.errors

    def spare(self, slack: Floats) -> bool:
        """What is missing of either."""
        slack[_COST] = min(slack[_COST], self.cost - self.held[0])
        slack[_ERRORS] = min(slack[_ERRORS], self.errors - self.held[1])
        return True
