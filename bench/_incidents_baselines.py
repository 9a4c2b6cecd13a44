"""Rules that everybody has, over five-minute windows of the same rollups: three standard deviations, twice the mean.

N1: the value is more than 3 standard deviations above the mean of the last 12 windows. N2: it is more than twice the
mean of all windows before. ``overall`` watches the app's own series, ``each`` every series but those of users. ADWIN
and Page-Hinkley are river's, over the app's own series.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _incidents_calls import MINUTE, Array

from pipelines.detect.items import COLUMN, COLUMNS, Batch

WINDOW = 5 * MINUTE
MEASURES = {
    "calls": ("calls", None),
    "tokens_per_call": ("tokens", "calls"),
    "cost_per_call": ("cost_nanousd", "calls"),
    "errors": ("errors", "calls"),
    "truncated": ("truncated", "calls"),
    "usage_missing": ("usage_missing", "calls"),
    "guardrail": ("guardrail", "calls"),
}
"""Measure -> (sum, sum it is divided by)."""
RULES = {
    "spike_calls": "calls",
    "spike_tokens": "tokens_per_call",
    "spike_tokens_per_call": "tokens_per_call",
    "spike_cost": "cost_per_call",
    "spike_cost_per_call": "cost_per_call",
    "surge_errors": "errors",
    "surge_truncated": "truncated",
    "surge_usage_missing": "usage_missing",
    "surge_guardrail": "guardrail",
}
"""Rule of Tailrace -> measure of the baselines."""
_HISTORY = 12
_COLUMNS = [*COLUMNS, "guardrail"]
NAMES = ("N1 overall", "N1 each", "N2 overall", "N2 each", "ADWIN", "Page-Hinkley")


@dataclass
class Windows:
    """Sums of every series in five-minute windows."""

    start: int
    """Start of the first window, µs UTC."""
    count: int
    index: dict[str, int] = field(default_factory=dict)
    sums: Array = field(default_factory=lambda: np.zeros((0, 0, len(_COLUMNS)), np.int64))
    """(series, windows, columns)."""

    def add(self, batch: Batch) -> None:
        """Add what detect reads."""
        names = [json.loads(name) for name in batch.series]
        kept = [i for i, name in enumerate(names) if "user" not in name]
        rows = np.array([self._place(batch.series[i]) for i in kept], np.int64)
        windows = (batch.starts[kept] - self.start) // WINDOW
        inside = (windows >= 0) & (windows < self.count)
        places: Any = (rows[inside], windows[inside], slice(0, -1))  # the stub of numpy knows no tuple with a slice
        np.add.at(self.sums, places, batch.sums[kept][inside])
        for row, _, _, calls in batch.triggers:
            place, window = self.index.get(batch.series[row]), (batch.starts[row] - self.start) // WINDOW
            if place is not None and 0 <= window < self.count:
                self.sums[place, window, -1] += calls

    def copy(self) -> Windows:
        """Return a copy that goes on by itself."""
        return Windows(self.start, self.count, dict(self.index), self.sums.copy())

    def until(self, time: int) -> Windows:
        """Return a copy without the windows that end after ``time``."""
        return Windows(self.start, self.count, self.index, self.sums[:, : (time - self.start) // WINDOW])

    def _place(self, series: str) -> int:
        place = self.index.setdefault(series, len(self.index))
        if place >= len(self.sums):
            more = np.zeros((max(64, place), self.count, len(_COLUMNS)), np.int64)
            self.sums = np.concatenate([self.sums.reshape(-1, self.count, len(_COLUMNS)), more])
        return place


@dataclass(frozen=True)
class Alarm:
    """One series and measure above its line for the first time in a row of windows."""

    series: dict[str, str]
    measure: str
    time: int
    """End of the window, µs UTC."""


def alarms(name: str, windows: Windows) -> list[Alarm]:
    """Return the alarms of one baseline, in the order of time."""
    if name in ("ADWIN", "Page-Hinkley"):
        return sorted(_river(name, windows), key=lambda a: a.time)
    rule, scope = name.split()
    series = [json.loads(key) for key in windows.index]
    chosen = [i for i, pairs in enumerate(series) if scope == "each" or set(pairs) == {"app"}]
    found = []
    for measure, values, known in _values(windows, chosen):
        above = (_n1 if rule == "N1" else _n2)(values, known)
        begins = above & ~np.pad(above, ((0, 0), (1, 0)))[:, :-1]
        for row, window in zip(*np.nonzero(begins), strict=True):
            end = windows.start + (int(window) + 1) * WINDOW
            found.append(Alarm(series[chosen[row]], measure, end))
    return sorted(found, key=lambda a: a.time)


def _values(windows: Windows, chosen: list[int]) -> Any:
    """Yield (measure, (series, windows) values, where they are known)."""
    sums = windows.sums[chosen].astype(float)
    for measure, (top, base) in MEASURES.items():
        over = sums[..., _COLUMNS.index(top)]
        below = sums[..., COLUMN["calls"]] if base else np.ones_like(over)
        yield measure, over / np.maximum(below, 1.0), below > 0


def _n1(values: Array, known: Array) -> Array:
    above = np.zeros(values.shape, bool)
    for window in range(_HISTORY, values.shape[1]):
        before = values[:, window - _HISTORY : window]
        mean, sd = before.mean(axis=1), before.std(axis=1, ddof=1)
        above[:, window] = known[:, window] & (values[:, window] > mean + 3 * np.maximum(sd, 1e-12))
    return above


def _n2(values: Array, known: Array) -> Array:
    counted = np.cumsum(known, axis=1)
    mean = np.cumsum(np.where(known, values, 0.0), axis=1) / np.maximum(counted, 1)
    before = np.pad(mean, ((0, 0), (1, 0)))[:, :-1]
    enough = np.pad(counted, ((0, 0), (1, 0)))[:, :-1] >= _HISTORY
    return np.asarray(known & enough & (values > 2 * before), bool)


def _river(name: str, windows: Windows) -> list[Alarm]:
    from river import drift as river_drift  # of the other libraries, which the benchmark makes importable first

    chosen = [i for key, i in windows.index.items() if set(json.loads(key)) == {"app"}]
    keys = list(windows.index)
    found = []
    for measure, values, known in _values(windows, chosen):
        for row, place in enumerate(chosen):
            test = river_drift.ADWIN() if name == "ADWIN" else river_drift.PageHinkley(mode="up")
            scale = max(float(np.std(values[row])), 1e-12)
            for window in np.flatnonzero(known[row]).tolist():
                test.update(float(values[row, window]) / scale)
                if test.drift_detected:
                    found.append(Alarm(json.loads(keys[place]), measure, windows.start + (window + 1) * WINDOW))
    return found
