"""States that are equal where the judges are."""

from __future__ import annotations

from pipelines.detect.detectors.base import fit
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump


def normal(judge: Judge, state: PartitionState) -> bytes:
    """A state with every bucket learned, and with zeros for series that are new."""
    judge.learn(state)
    for app in state.apps.values():
        state.highest_usd = max(state.highest_usd, app.cold_start.highest[-1])
        rows, groups = len(app.windows.series), len(app.windows.groups)
        app.spike.level.num = fit(app.spike.level.num, rows)
        for records, size in ((app.spike.records, rows), (app.spike.pool, groups)):
            records.old, records.previous, records.new = (
                fit(array, size) for array in (records.old, records.previous, records.new)
            )
    return dump(state)
