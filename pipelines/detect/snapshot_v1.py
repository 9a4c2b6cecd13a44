"""State as version 1 wrote it: one array per row of a slot, lists where there are arrays now."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from pipelines.alerts.incident import Lifecycle
from pipelines.detect.clock import Clock
from pipelines.detect.detectors.ceiling import SingleCallState
from pipelines.detect.detectors.spike_state import SpikeState
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.partition_state import AppState, PartitionState, Pending, with_apps
from pipelines.detect.slots import Matrix, Slot
from pipelines.detect.windows import Windows


@dataclass
class SlotV1:
    """Series index -> sums over the columns."""

    rows: dict[int, Matrix] = field(default_factory=dict)
    exemplars: dict[tuple[int, str], list[tuple[int, str]]] = field(default_factory=dict)
    actions: dict[tuple[str, str], int] = field(default_factory=dict)

    def now(self) -> Slot:
        """The same as this version keeps it."""
        slot = Slot(exemplars=self.exemplars, actions=self.actions)
        for place, sums in self.rows.items():
            slot.add(np.array([place]), sums[None, :])
        return slot


@dataclass
class WindowsV1:
    """Fields as in ``Windows``."""

    app: str
    series: list[str]
    index: dict[str, int]
    groups: list[str]
    group: list[int]
    named: list[bool]
    last: list[int]
    kinds: list[str]
    slots: dict[int, SlotV1]
    closed: int
    first: int
    late: int
    refused: int
    positions: dict[int, int]
    epoch: int
    free: list[int]
    reused: list[int]

    def now(self) -> Windows:
        """The same as this version keeps it."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        known |= {"group": np.array(self.group, np.int64), "named": np.array(self.named, bool)}
        known |= {"last": np.array(self.last, np.int64)}
        return Windows(**known | {"slots": {start: slot.now() for start, slot in self.slots.items()}})


@dataclass
class AppStateV1:
    """Fields as in ``AppState``."""

    windows: WindowsV1
    spike: SpikeState
    surge: SurgeState
    ceiling: SingleCallState
    life: Lifecycle

    def now(self) -> AppState:
        """The same as this version keeps it: the sums of incidents do not include open slots."""
        windows = self.windows.now()
        for incident in self.life.counted():
            if (place := windows.index.get(incident.finding.target)) is not None:
                since = max(windows.closed, incident.finding.start)
                incident.take_back(windows.row(place, since, windows.latest()), ())
        states = {"spike": self.spike, "surge": self.surge, "ceiling": self.ceiling}
        return AppState(windows, states, self.life)


@dataclass
class PartitionStateV1:
    """Fields as in ``PartitionState``."""

    position: int
    topic: str
    at: int
    clock: Clock
    apps: dict[str, AppStateV1]
    judged: int
    poison: int
    crowded_out: int
    pending: Pending | None = None

    def now(self) -> PartitionState:
        """The same as this version keeps it."""
        return with_apps(PartitionState, self, {name: app.now() for name, app in self.apps.items()})
