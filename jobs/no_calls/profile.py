"""When an app calls: calls a minute by hour of the day, on weekdays and at weekends. Pure.

Time is measured in expected calls. By the time-rescaling theorem (Brown and others 2002, Neural Computation 14) the
gaps of a Poisson process are then exponential with mean 1, at any hour. Real apps call in bursts; their gaps are
longer, so the longest gap of the app's own history is kept in the same measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MINUTE = 60
DAY_MINUTES = 1440
_WEEK_MINUTES = 7 * DAY_MINUTES
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday."""
_CELLS = 48
"""Hours of the day, on weekdays and at weekends."""
_SHRINK_HOURS = 2.0
"""Hours at the app's mean rate that every cell counts in addition, as far as an hour like it was seen."""

Minutes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """Calls a minute that are expected of one app, and the longest gap it had."""

    rates: npt.NDArray[np.float64]
    """Calls a minute by cell: 24 hours of weekdays, 24 of weekends."""
    days: float
    """Between the first and the last minute it was learned from."""
    longest_gap: float
    """The longest gap between two minutes with calls, in expected calls."""

    def expected(self, start: int, end: int) -> float:
        """Return how many calls are expected in [start, end), minutes since 1970."""
        if end <= start:
            return 0.0
        return float(self._integral(np.asarray([start, end])) @ [-1.0, 1.0])

    def _integral(self, at: Minutes) -> npt.NDArray[np.float64]:
        """Calls expected from some Monday until each of ``at``."""
        week = np.repeat(self.rates[_cells_of_week()], MINUTE)
        sums = np.concatenate([[0.0], np.cumsum(week)])
        weeks, within = np.divmod(_since_monday(at), _WEEK_MINUTES)
        return np.asarray(weeks * sums[-1] + sums[within])


def learn(minutes: Minutes, calls: npt.NDArray[np.float64], start: int, end: int) -> Profile:
    """Learn the profile of an app.

    Args:
        minutes: minutes since 1970 in which it called, ascending, each once.
        calls: how many calls each had.
        start: first minute of the history; the time before the first call does not count: the app did not exist yet.
        end: the minute after the last one.
    """
    if not len(minutes):
        return Profile(np.zeros(_CELLS), 0.0, 0.0)
    start = max(start, int(minutes[0]))
    hours = np.arange(start // MINUTE, max(start // MINUTE + 1, -(-end // MINUTE)))
    seen = np.bincount(_cells(hours * MINUTE), minlength=_CELLS).astype(float)
    sums = np.bincount(_cells(minutes), calls, minlength=_CELLS)
    mean = float(calls.sum()) / max(1, len(hours))
    rates = (
        np.where(seen > 0, (sums + _SHRINK_HOURS * mean * _share(sums, seen)) / (seen + _SHRINK_HOURS), 0.0) / MINUTE
    )
    profile = Profile(rates, (end - start) / DAY_MINUTES, 0.0)
    at = profile._integral(minutes)
    within = profile._integral(minutes + 1)
    longest = float(np.max(at[1:] - within[:-1], initial=0.0))
    return Profile(rates, profile.days, longest)


def _share(sums: npt.NDArray[Any], seen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the mean that is added to a cell: 0 for an hour that was seen twice and never had a call."""
    return np.where((sums == 0) & (seen >= 2), 0.0, 1.0)


def _since_monday(at: Minutes) -> Minutes:
    return at + _EPOCH_WEEKDAY * DAY_MINUTES


def _cells(at: Minutes) -> Minutes:
    monday = _since_monday(at)
    return (monday // MINUTE) % 24 + 24 * (monday // DAY_MINUTES % 7 >= 5)


def _cells_of_week() -> Minutes:
    hours = np.arange(7 * 24)
    return hours % 24 + 24 * (hours // 24 >= 5)
