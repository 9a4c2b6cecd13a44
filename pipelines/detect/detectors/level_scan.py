"""What ``Level`` learns in a stretch of buckets, bucket by bucket, without moving it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.base import fit
from pipelines.detect.detectors.baseline import BINS, DAY, SLOTS_AN_HOUR, Level
from pipelines.detect.windows import SLOT, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class _At:
    """The numbers of ``Level`` that belong to the app as a whole, after one bucket. Plain floats: they are few."""

    den: float
    silent: int
    active: tuple[float, ...]
    active_den: float
    bin: int
    bin_sum: tuple[float, ...]
    bin_slots: int
    season: Floats
    season_days: Floats
    fades: int
    """Times all series were faded since the beginning."""


class LevelScan:
    """Level after each of ``count`` buckets; ``rows`` are the series that are looked at, the app's own first."""

    def __init__(
        self, level: Level, values: Floats, rows: NDArray[np.int64], slots: Sequence[int | None], half_life_s: float
    ) -> None:
        """Go through the buckets.

        Args:
            level: where they begin; it is not changed.
            values: (count, rows, 3) USD, tokens and calls of the buckets that leave the ring.
            rows: places of the series.
            slots: start of each of these buckets, None where it is not learned.
            half_life_s: as in ``Level.learn``.
        """
        self.level, self.rows = level, rows
        self.one = 0.5 ** (SLOT / 1e6 / half_life_s)
        self.most = round(2 * half_life_s * 1e6 / SLOT)
        self.size = int(rows.max()) + 1
        now = _At(
            level.den,
            level.silent,
            tuple(level.active.tolist()),
            level.active_den,
            level.bin,
            tuple(level.bin_sum.tolist()),
            level.bin_slots,
            level.season,
            level.season_days,
            0,
        )
        self.num = np.empty(values.shape)
        self.states: list[_At] = []
        num, own = fit(level.num, self.size)[rows], values[:, 0].tolist()
        for i, slot in enumerate(slots):
            faded = now.fades
            if slot is not None:
                now = self._learn(now, own[i], slot)
            if now.fades > faded:
                np.multiply(num, self.one, out=self.num[i])
                if own[i][2] > 0:
                    self.num[i] += values[i]
            else:
                self.num[i] = num
            num = self.num[i]
            self.states.append(now)
        self.den = np.array([state.den for state in self.states])

    def expected(self, slots: Sequence[int]) -> Floats:
        """(count, rows, 3), as ``Level.expected`` at ``slots``."""
        level: Floats = self.num / np.maximum(self.den, 1.0)[:, None, None]
        active = np.array([state.active for state in self.states])
        active_den = np.array([state.active_den for state in self.states])
        own = np.maximum(level[:, 0], 0.5 * active / np.maximum(active_den, 1.0)[:, None])
        own = np.maximum(own, self._season(slots))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(level[:, 0] > 0, own / level[:, 0], 1.0)
        out: Floats = level * np.clip(factor, 1.0, 10.0)[:, None, :]
        out[:, 0] = own
        return out

    def learn(self, count: int) -> Level:
        """Level after the first ``count`` buckets."""
        level, state = self.level, self.states[count - 1]
        level.num = fit(level.num, self.size)
        for _ in range(state.fades):
            level.num *= self.one
        level.num[self.rows] = self.num[count - 1]
        level.den, level.silent = state.den, state.silent
        level.active, level.active_den = np.array(state.active), state.active_den
        level.bin, level.bin_sum, level.bin_slots = state.bin, np.array(state.bin_sum), state.bin_slots
        level.season, level.season_days = state.season, state.season_days
        return level

    def _learn(self, now: _At, own: list[float], slot: int) -> _At:
        """As ``Level.learn``."""
        den, silent, active, active_den, fades = now.den, now.silent, now.active, now.active_den, now.fades
        if own[2] > 0:
            silent, den, fades = 0, den * self.one + 1.0, fades + 1
            slow = 0.5 ** (SLOT / DAY)
            active = tuple(a * slow + v for a, v in zip(active, own, strict=True))
            active_den = active_den * slow + 1.0
        elif silent < self.most:
            silent, den, fades = silent + 1, den * self.one + 1.0, fades + 1
        at = slot % DAY // (DAY // BINS)
        season, days, sums, slots = now.season, now.season_days, now.bin_sum, now.bin_slots
        if at != now.bin:
            season, days = _end_bin(now)
            sums, slots = (0.0, 0.0, 0.0), 0
        sums = tuple(s + v for s, v in zip(sums, own, strict=True))
        return _At(den, silent, active, active_den, at, sums, slots + 1, season, days, fades)

    def _season(self, slots: Sequence[int]) -> Floats:
        """(count, 3): the highest of this half hour and its neighbours on earlier days."""
        out = np.empty((len(slots), 3))
        known: dict[tuple[int, int], Floats] = {}
        for i, slot in enumerate(slots):
            season, now = self.states[i].season, slot % DAY // (DAY // BINS)
            if (id(season), now) not in known:
                near = [season[at % BINS] for at in (now - 1, now, now + 1)]
                known[id(season), now] = np.maximum(np.maximum(near[0], near[1]), near[2])
            out[i] = known[id(season), now]
        return out


def _end_bin(now: _At) -> tuple[Floats, Floats]:
    """As ``Level._end_bin``, in copies."""
    if now.bin < 0 or now.bin_slots < SLOTS_AN_HOUR // 4:
        return now.season, now.season_days
    season, days, mean = now.season.copy(), now.season_days.copy(), np.array(now.bin_sum) / now.bin_slots
    season[now.bin] = 0.5 * (season[now.bin] + mean) if days[now.bin] > 0 else mean
    days[now.bin] += 1
    return season, days
