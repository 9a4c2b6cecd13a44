"""State of versions 1 to 3: rollups did not count reported costs, so sums had two columns and surge one kind fewer."""

from __future__ import annotations

import numpy as np

from pipelines.alerts.incident import Incident
from pipelines.detect.detectors.surge_state import ARRAYS, SurgeState
from pipelines.detect.partition_state import PartitionState
from pipelines.detect.slots import Slot

AT, MORE = 12, 2
"""Column of the sums before which there are ``costs_compared`` and ``cost_differs`` now."""
KIND = 8
"""Kind of surge before which there is ``cost_differs`` now; guardrails follow."""


def widened(state: PartitionState) -> PartitionState:
    """Put zeros where this version has more columns, in place."""
    for app in state.apps.values():
        for slot in app.windows.slots.values():
            _widen_slot(slot)
        for incident in (*app.life.open.values(), *(closed.incident for closed in app.life.closed.values())):
            _widen_incident(incident)
        _widen_surge(app.surge)
    return state


def _widen_slot(slot: Slot) -> None:
    slot.merge()
    if slot.sums.shape[1] > AT:
        slot.sums = np.insert(slot.sums, [AT] * MORE, 0, axis=1)


def _widen_incident(incident: Incident) -> None:
    for name in ("total", "after"):
        found = {column + MORE * (column >= AT): value for column, value in getattr(incident, name).items()}
        setattr(incident, name, found and dict.fromkeys(range(AT, AT + MORE), 0) | found)


def _widen_surge(surge: SurgeState) -> None:
    width = surge.calls.shape[1]
    for name in ARRAYS:
        array = getattr(surge, name)
        if array.shape[1] == width:  # else it is not of that version: it was made as wide as this one has them
            setattr(surge, name, np.insert(array, min(KIND, width), 0, axis=1))
