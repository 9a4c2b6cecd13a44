"""The windows of ``Spike`` at the latest bucket, kept up to date row by row, and whether any of them may breach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.bounds import Ahead
from pipelines.detect.detectors.spike_limits import Limits, limits
from pipelines.detect.detectors.spike_scan import COLUMNS, WINDOWS
from pipelines.detect.windows import SLOT, Floats, Matrix

if TYPE_CHECKING:
    from pipelines.detect.detectors.spike import Spike, SpikeState


class SpikeBound:
    """Sums of the two windows of every series: (series, measures, windows), the cost in nano-USD."""

    def __init__(self, spike: Spike, state: SpikeState, ahead: Ahead) -> None:
        self.spike, self.windows, self.cut = spike, ahead.windows, state.cut
        self.limits: Limits = limits(spike, state, ahead)
        self.until, self.open, self.stale = ahead.until, ahead.first, True
        self.sums: Matrix = np.zeros((len(ahead.windows.series), len(COLUMNS), len(WINDOWS)), np.int64)
        self.moved: list[Matrix] = []
        self.everything = True
        """Whether all series are to be compared, not only those that moved."""

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Add rows of an open bucket to the windows it is in."""
        if start >= self.until:
            self._move(start + SLOT)
        if self.stale:
            return
        if len(places) and int(places.max()) >= len(self.sums):
            self._grow()
        added = sums[:, COLUMNS]
        for i, slots in enumerate(WINDOWS):
            if start >= max(self.until - slots * SLOT, self.cut):
                self.sums[places, :, i] += added
        self.moved.append(places)

    def close(self, start: int) -> None:
        """Note it; what is learned from it is in the limits."""
        self.open = start + SLOT

    def may_find(self, until: int) -> bool:
        """Whether a window of a series that moved may breach."""
        if until > self.until:
            self._move(until)
        if self.stale:
            self._sum_up(until)
        if not (self.everything or self.moved):
            return False
        one = len(self.moved) == 1
        rows = slice(None) if self.everything else self.moved[0] if one else np.concatenate(self.moved)
        self.everything, self.moved = self._may_breach(rows), []
        return self.everything

    def _may_breach(self, rows: Matrix | slice) -> bool:
        limits, sums = self.limits, self.sums[rows]
        calls, costs = sums[:, 2], sums[:, :2]
        over = sums >= limits.sums[rows]
        if over.any() and (over.any(axis=1) & (calls >= limits.calls[rows])).any():
            return True
        dear = costs >= limits.dear_sums[rows]
        if not dear.any():
            return False
        dear &= costs > limits.per_call[rows] * calls[:, None]
        return bool((dear.any(axis=1) & (calls >= self.spike.min_calls_per_call)).any())

    def spare(self, slack: Floats) -> bool:
        """Look for the series that is nearest to a limit, in each measure. Windows that move on lose what they held.

        A cost per call needs calls enough, too. Of a series that has half of them it is compared once a bucket: where
        calls that cost little leave the window, it rises by itself.
        """
        limits, sums = self.limits, self.sums
        calls, costs = sums[:, 2], sums[:, :2]
        left = limits.sums - sums
        over: NDArray[np.bool_] = np.logical_or.reduce(left <= 0, axis=1)  # then calls are missing
        least = np.where(over[:, None], np.inf, left).min(axis=(0, 2))
        least = np.minimum(least, limits.new.min(axis=(0, 2)))
        least[2] = min(least[2], np.where(over, limits.calls - calls, np.inf).min())
        half = 0.5 * self.spike.min_calls_per_call
        many = calls >= half
        if is_steady := not many.any():
            least[2] = min(least[2], half)
        else:
            dear = np.maximum(limits.dear_sums, limits.per_call * calls[:, None]) - costs
            least[:2] = np.minimum(least[:2], np.where(many[:, None], dear, np.inf).min(axis=(0, 2)))
            least[2] = min(least[2], half)
        slack[COLUMNS] = np.minimum(slack[COLUMNS], least)
        return is_steady

    def _move(self, until: int) -> None:
        """Let the windows end at ``until``. Rows that are not added yet are in buckets from ``open`` on."""
        self.stale = self.stale or until - min(WINDOWS) * SLOT > self.open
        for end in range(self.until, until, SLOT) if not self.stale else ():
            for i, slots in enumerate(WINDOWS):
                start = end - slots * SLOT
                if start >= self.cut and (slot := self.windows.slots.get(start)):
                    places, sums = slot.dense()
                    self.sums[places, :, i] -= sums[:, COLUMNS]
        self.until, self.everything = until, True

    def _sum_up(self, until: int) -> None:
        """Make the sums anew."""
        if len(self.windows.series) > len(self.sums):
            self._grow()
        for i, slots in enumerate(WINDOWS):
            self.sums[:, :, i] = self.windows.total(max(until - slots * SLOT, self.cut), until)[:, COLUMNS]
        self.everything, self.moved, self.stale = True, [], False

    def _grow(self) -> None:
        """Take in series that are new: users, of which nothing is learned."""
        windows, before = self.windows, len(self.sums)
        named, group = windows.named[before:, None, None], windows.group[before:]
        self.limits.grow(np.where(named, self.limits.new[group], np.inf), self.spike.min_calls_wide)
        self.sums = np.concatenate([self.sums, np.zeros((len(group), *self.sums.shape[1:]), np.int64)])
