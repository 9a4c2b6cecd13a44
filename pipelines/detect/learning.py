"""How many series are too new to be compared with what is usual for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipelines.detect.partition_state import AppState, PartitionState


def counts(states: Iterable[PartitionState], warm_up_s: float) -> dict[str, int]:
    """Return ``series`` and how many of them are ``learning``: their app is new, or nothing of them is learned.

    Series of dimensions with many values (users) are judged by each other and not counted.

    Args:
        states: of all partitions.
        warm_up_s: event time of an app before its spend is compared.
    """
    found = [_of_app(app, warm_up_s) for state in states for app in state.apps.values()]
    return {"series": sum(series for series, _ in found), "learning": sum(learning for _, learning in found)}


def _of_app(app: AppState, warm_up_s: float) -> tuple[int, int]:
    windows = app.windows
    counted = windows.named & ~windows.high_cardinality()
    counted[windows.index[windows.own]] = True
    series = int(counted.sum())
    if windows.closed - windows.first < warm_up_s * 1e6:
        return series, series
    calls = np.zeros(len(counted))
    known = app.spike.level.num[: len(counted), 2]
    calls[: len(known)] = known
    return series, int((counted & (calls <= 0)).sum())
