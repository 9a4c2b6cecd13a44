"""What is normal for a series: its recent level, the same time of day, and the records it has set.

Counts of calls are far from Poisson (variance over mean of calls per minute is 160 in Azure's trace), so no limit is
derived from a distribution: a window must exceed by a margin the highest ratio to expectation ever seen in learned
windows. Of a series with tail index a the chance of exceeding its record of N windows by a factor m is about m^-a / N,
so the number of false alarms grows with the log of time only. Records of series with many values (users) are pooled:
the record of the most expensive user ever is learned from every user and every window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.base import fit
from pipelines.detect.windows import SLOT, Floats

SLOTS_AN_HOUR = 3_600_000_000 // SLOT
BINS = 48
"""Half hours of the day."""
DAY = 86_400_000_000
BUCKET = 600_000_000
"""Records are learned in buckets of ten minutes, one bucket late: a ramp does not raise its own limit."""


@dataclass
class Level:
    """Mean per slot of (cost USD, tokens, calls) by series, forgetting by half in ``half_life_s``."""

    num: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    den: float = 0.0
    silent: int = 0
    """Slots without a call, in a row."""
    active: Floats = field(default_factory=lambda: np.zeros(3))
    """Sum over the app's slots that had calls, forgetting by half in a day of them."""
    active_den: float = 0.0
    season: Floats = field(default_factory=lambda: np.zeros((BINS, 3)))
    season_days: Floats = field(default_factory=lambda: np.zeros(BINS))
    bin: int = -1
    bin_sum: Floats = field(default_factory=lambda: np.zeros(3))
    bin_slots: int = 0

    def learn(self, values: Floats, app: int, slot: int, half_life_s: float) -> None:
        """Learn one slot that left the ring."""
        self.num = fit(self.num, len(values))
        if values[app, 2] > 0:
            self.silent = 0
            self._fade(1, half_life_s)
            self.num += values
            slow = 0.5 ** (SLOT / DAY)
            self.active = self.active * slow + values[app]
            self.active_den = self.active_den * slow + 1.0
        else:
            self._silence(1, half_life_s)
        now = slot % DAY // (DAY // BINS)
        if now != self.bin:
            self._end_bin()
            self.bin = now
        self.bin_sum = self.bin_sum + values[app]
        self.bin_slots += 1

    def idle(self, slots: int, half_life_s: float) -> None:
        """Learn several slots without a call in one step."""
        self._silence(slots, half_life_s)
        self.bin, self.bin_sum, self.bin_slots = -1, np.zeros(3), 0

    def _silence(self, slots: int, half_life_s: float) -> None:
        """Decay during a time without calls, for two half-lives in a row at most.

        A time without calls means that the app is off, not that it does less when it is on: after a night, or after a
        suspended laptop resumes, the series below the app must still be in proportion to its traffic.
        """
        most = round(2 * half_life_s * 1e6 / SLOT)
        self._fade(max(0, min(slots, most - self.silent)), half_life_s)
        self.silent = min(most, self.silent + slots)

    def _fade(self, slots: int, half_life_s: float) -> None:
        """Let ``slots`` slots without a call pass."""
        one = 0.5 ** (SLOT / 1e6 / half_life_s)
        decay = one**slots
        self.num *= decay
        self.den = self.den * decay + (1 - decay) / (1 - one)

    def expected(self, rows: int, app: int, slot: int, *, with_active_mean: bool = True) -> Floats:
        """(series, 3): what is normal per slot at this time of day.

        The app's own level is the highest of: the last half hour; this half hour and its neighbours on earlier days (a
        nightly batch is an incident only once); half of its mean while it has calls (the first calls after a pause are
        no spike), unless ``with_active_mean`` is off: of an app that calls once in minutes that is many times its mean.
        Series below follow it in proportion.
        """
        self.num = fit(self.num, rows)
        level = self.num[:rows] / max(self.den, 1.0)
        own = level[app]
        if with_active_mean:
            own = np.maximum(own, 0.5 * self.active / max(self.active_den, 1.0))
        now = slot % DAY // (DAY // BINS)
        for near in (now - 1, now, now + 1):
            own = np.maximum(own, self.season[near % BINS])
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(level[app] > 0, own / level[app], 1.0)
        out: Floats = level * np.clip(factor, 1.0, 10.0)
        out[app] = own
        return out

    def clear(self, places: list[int]) -> None:
        """Clear what was learned under places that were assigned to other series."""
        self.num[[p for p in places if p < len(self.num)]] = 0.0

    def _end_bin(self) -> None:
        if self.bin >= 0 and self.bin_slots >= SLOTS_AN_HOUR // 4:
            mean = self.bin_sum / self.bin_slots
            seen = self.season_days[self.bin] > 0
            self.season[self.bin] = 0.5 * (self.season[self.bin] + mean) if seen else mean
            self.season_days[self.bin] += 1
        self.bin_sum, self.bin_slots = np.zeros(3), 0


@dataclass
class Records:
    """Highest ratio to expectation in learned windows, decaying by half in two days; (series, measures, windows)."""

    old: Floats
    previous: Floats
    new: Floats
    bucket: int = 0

    @classmethod
    def empty(cls, *shape: int) -> Records:
        """No record yet."""
        return cls(np.zeros((0, *shape)), np.zeros((0, *shape)), np.zeros((0, *shape)))

    def learn(self, ratios: Floats, slot: int) -> None:
        """Learn the windows that ended with ``slot``."""
        self.raise_to(slice(None), ratios, slot, len(ratios))

    def raise_to(self, places: NDArray[np.int64] | slice, ratios: Floats, slot: int, rows: int) -> None:
        """The same for the series ``places`` out of ``rows``; no window of the others held anything."""
        self.old, self.previous, self.new = (fit(a, rows) for a in (self.old, self.previous, self.new))
        if slot // BUCKET != self.bucket:
            decay = 0.5 ** (min(slot // BUCKET - self.bucket, 10_000) * BUCKET / (2 * DAY)) if self.bucket else 1.0
            self.old = np.maximum(self.old * decay, self.previous)
            self.previous, self.new = self.new, np.zeros_like(self.new)
            self.bucket = slot // BUCKET
        self.new[places] = np.maximum(self.new[places], ratios)

    def held(self, rows: int) -> Floats:
        """The records that count now."""
        self.old = fit(self.old, rows)
        return self.old[:rows]

    def discard(self) -> None:
        """Discard what is not yet learned: it contains an incident."""
        self.new, self.previous = np.zeros_like(self.new), np.zeros_like(self.previous)

    def clear(self, places: list[int]) -> None:
        """Clear places that were assigned to other series."""
        for array in (self.old, self.previous, self.new):
            array[[p for p in places if p < len(array)]] = 0.0
