"""What ``Level`` learns in a stretch of buckets, bucket by bucket, without moving it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.base import fit
from pipelines.detect.detectors.baseline import BINS, DAY, SLOTS_AN_HOUR, Level
from pipelines.detect.windows import SLOT, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence


_SLOW = 0.5 ** (SLOT / DAY)


class _App(NamedTuple):
    """The numbers of ``Level`` that belong to the app as a whole, after one bucket. Plain floats: they are few."""

    den: float
    silent: int
    active: tuple[float, float, float]
    active_den: float
    bin: int
    bin_sum: tuple[float, float, float]
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
        own = values[:, 0].tolist()
        self.states = self._apps(own, slots)
        num = fit(level.num, self.size)[rows]
        self.num = self._own(num, own) if len(rows) == 1 else self._all(num, values, own)
        self.den = np.array([state.den for state in self.states])

    def _all(self, num: Floats, values: Floats, own: list[list[float]]) -> Floats:
        out, fades = np.empty(values.shape), 0
        for state, now, value, mine in zip(self.states, out, values, own, strict=True):
            if state.fades > fades:
                np.multiply(num, self.one, out=now)
                if mine[2] > 0:
                    np.add(now, value, out=now)
            else:
                now[:] = num
            num, fades = now, state.fades
        return out

    def _own(self, num: Floats, own: list[list[float]]) -> Floats:
        """The same of one series, without a call of numpy for each bucket."""
        (now,), fades, out = num.tolist(), 0, []
        for state, mine in zip(self.states, own, strict=True):
            if state.fades > fades:
                now = [n * self.one for n in now]
                if mine[2] > 0:
                    now = [n + value for n, value in zip(now, mine, strict=True)]
            fades = state.fades
            out.append([now])
        return np.array(out).reshape(len(own), 1, num.shape[1])

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

    def _apps(self, own: list[list[float]], slots: Sequence[int | None]) -> list[_App]:
        """As ``Level.learn``, of the app's own series."""
        level, one = self.level, self.one
        den, silent, active_den, fades = level.den, level.silent, level.active_den, 0
        usd, tokens, calls = level.active.tolist()
        sums, bin_slots, at = tuple(level.bin_sum.tolist()), level.bin_slots, level.bin
        season, days, found = level.season, level.season_days, []
        for mine, slot in zip(own, slots, strict=True):
            if slot is not None:
                if mine[2] > 0:
                    silent, den, fades = 0, den * one + 1.0, fades + 1
                    usd, tokens, calls = usd * _SLOW + mine[0], tokens * _SLOW + mine[1], calls * _SLOW + mine[2]
                    active_den = active_den * _SLOW + 1.0
                elif silent < self.most:
                    silent, den, fades = silent + 1, den * one + 1.0, fades + 1
                if slot % DAY // (DAY // BINS) != at:
                    season, days = _end_bin(at, sums, bin_slots, season, days)
                    sums, bin_slots, at = (0.0, 0.0, 0.0), 0, slot % DAY // (DAY // BINS)
                sums = (sums[0] + mine[0], sums[1] + mine[1], sums[2] + mine[2])
                bin_slots += 1
            found.append(_App(den, silent, (usd, tokens, calls), active_den, at, sums, bin_slots, season, days, fades))
        return found

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


def _end_bin(at: int, sums: tuple[float, ...], slots: int, season: Floats, days: Floats) -> tuple[Floats, Floats]:
    """As ``Level._end_bin``, in copies."""
    if at < 0 or slots < SLOTS_AN_HOUR // 4:
        return season, days
    season, days, mean = season.copy(), days.copy(), np.array(sums) / slots
    season[at] = 0.5 * (season[at] + mean) if days[at] > 0 else mean
    days[at] += 1
    return season, days
