"""State of ``surge`` for one app: learned shares, what is held back from them, and the evidence against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.base import fit
from pipelines.detect.windows import Floats, Matrix

KINDS = (
    "errors",
    "blocked",
    "refused",
    "truncated",
    "fallbacks",
    "usage_missing",
    "unpriced",
    "empty_retrievals",
    "cost_differs",
)
"""Order in which the first of several surges of one cause is reported; guardrails come before them."""
BASES = {"empty_retrievals": "retrievals", "cost_differs": "costs_compared"}
"""Kind -> the count that it is a share of; of the others it is a share of the calls."""
MOST_LEARNED = {"cost_differs": 0.01}
"""Kind -> share that is never learned to be normal, however long it lasts: a wrong price list stays wrong."""
LIFTS = (2.0, 4.0, 10.0, 30.0)
HELD = 5
"""Hits, calls, sum of the squared distances, buckets in that sum, buckets: what is held back of a series and kind."""
ARRAYS = (
    *("hits", "calls", "spread", "spread_slots", "decade_spread", "decades"),
    *("log", "onset", "run_hits", "run_calls", "held", "above"),
)


@dataclass
class SurgeState:
    """Baselines and evidence; arrays are (tested series, kinds[, lifts]), kinds = KINDS, then the others as met."""

    version: int = 1
    places: list[int] = field(default_factory=list)
    """Which series are tested: the app's own, and those below it without a dimension of high cardinality."""
    hits: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    calls: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    spread: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    spread_slots: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    log: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    onset: Matrix = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS)), np.int64))
    run_hits: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    run_calls: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), len(LIFTS))))
    muted: list[tuple[str, int, int]] = field(default_factory=list)
    held: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS), HELD)))
    """(tested series, kinds, HELD): buckets that left the ring and are not in the baseline yet."""
    above: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, len(KINDS)), bool))
    """Whether there was evidence enough for an alert when the baseline was last updated."""
    decade_spread: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))
    """Sum of the squared distances, in variances, of what was learned at once: ten minutes, or more where it was held
    back; and how many of these are in it."""
    decades: Floats = field(default_factory=lambda: np.zeros((0, len(KINDS))))

    def fit(self, width: int, learned_from: Sequence[tuple[int, int]] = ()) -> None:
        """Grow every array to the tested series and to ``width`` kinds.

        Args:
            width: number of kinds.
            learned_from: (index, index of the kind whose learned calls it begins with, -1 = none) of some kinds;
                the others are shares of the calls.
        """
        before = self.calls.shape[1]
        for name in ARRAYS:
            setattr(self, name, fit(getattr(self, name), len(self.places), width))
        # a new guardrail had no hit in all the calls that were learned, or are held back
        self.calls[:, before:] = self.calls[:, :1]
        self.held[:, before:, 1], self.held[:, before:, 4] = self.held[:, :1, 1], self.held[:, :1, 4]
        for kind, base in learned_from:
            if kind >= before:
                self.calls[:, kind] = self.calls[:, base] if base >= 0 else 0.0
                self.held[:, kind] = self.held[:, base] if base >= 0 else 0.0

    def limit(self) -> None:
        """Keep the learned shares under MOST_LEARNED."""
        for kind, most in MOST_LEARNED.items():
            column = KINDS.index(kind)
            self.hits[:, column] = np.minimum(self.hits[:, column], most * self.calls[:, column])

    def clear(self, places: list[int]) -> None:
        """Clear what was learned under places that were assigned to other series."""
        for place in places:
            if place in self.places:
                row = self.places.index(place)
                for name in ARRAYS:
                    if name != "onset":
                        getattr(self, name)[row] = 0
