"""State of versions 2 to 5: the states of all detectors were fields of that of an app."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.alerts.incident import Lifecycle
from pipelines.detect.detectors.cache_state import CacheState
from pipelines.detect.detectors.ceiling import SingleCallState
from pipelines.detect.detectors.cold_start_state import ColdStartState
from pipelines.detect.detectors.latency_state import LatencyState
from pipelines.detect.detectors.per_call_state import PerCallState
from pipelines.detect.detectors.spike_state import SpikeState
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.partition_state import AppState, PartitionState, with_apps
from pipelines.detect.windows import Windows

DETECTORS = ("spike", "surge", "ceiling", "cold_start", "cache", "latency", "per_call")


@dataclass
class AppStateV5:
    """Fields as in ``AppState``."""

    windows: Windows
    spike: SpikeState
    surge: SurgeState
    ceiling: SingleCallState
    life: Lifecycle = field(default_factory=Lifecycle)
    deferred: int = 0
    cold_start: ColdStartState = field(default_factory=ColdStartState)
    cache: CacheState = field(default_factory=CacheState)
    latency: LatencyState = field(default_factory=LatencyState)
    per_call: PerCallState = field(default_factory=PerCallState)

    def now(self) -> AppState:
        """The same as this version keeps it."""
        return AppState(self.windows, {name: getattr(self, name) for name in DETECTORS}, self.life, self.deferred)


@dataclass
class PartitionStateV5(PartitionState):
    """Fields as in ``PartitionState``."""

    apps: dict[str, AppStateV5] = field(default_factory=dict)  # type: ignore[assignment]  # an earlier form of it

    def now(self) -> PartitionState:
        """The same as this version keeps it."""
        return with_apps(PartitionState, self, {name: app.now() for name, app in self.apps.items()})
