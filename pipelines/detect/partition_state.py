"""The state of detect: of each app, and of a partition of llm.rollups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from pipelines.alerts.incident import Lifecycle
from pipelines.detect import totals
from pipelines.detect.clock import Clock
from pipelines.detect.detectors import Detector
from pipelines.detect.detectors.base import Opening
from pipelines.detect.detectors.cold_start_state import ColdStartState
from pipelines.detect.detectors.spike_state import SpikeState
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.guards import Guard, Guards
from pipelines.detect.stored_state import StoredState, read
from pipelines.detect.stretch import ALIGNED
from pipelines.detect.windows import Windows

S = TypeVar("S")
P = TypeVar("P", bound="PartitionState")


@dataclass
class AppState:
    """State of one app."""

    windows: Windows
    states: dict[str, Any] = field(default_factory=dict)
    """Detector -> its state; a ``StoredState`` from a checkpoint until it is asked for."""
    life: Lifecycle = field(default_factory=Lifecycle)
    deferred: int = 0
    """Buckets that have closed last and are not learned yet: they are learned many at once."""

    def __post_init__(self) -> None:
        self.most = ALIGNED
        """Buckets to judge together next: fewer where something was found. It changes the speed, not the alerts."""
        self.guard: Guard | None = None
        """Shows when a look at open buckets cannot find anything. It changes the speed, not the alerts."""
        self.without: frozenset[str] = frozenset()
        """Detectors that are left out at the record that is judged; see ``pipelines.detect.isolation``."""

    def get(self, detector: Detector) -> Any:
        """Return the state of ``detector``."""
        return self._ready(detector.name, detector.initial_state)

    def put(self, detector: Detector, state: object) -> None:
        """Set the state of ``detector``."""
        self.states[detector.name] = state

    def _ready(self, name: str, initial_state: Callable[[], S]) -> S:
        found = self.states.get(name)
        if found is None:
            found = self.states[name] = initial_state()
        elif isinstance(found, StoredState):
            found = self.states[name] = read(found, initial_state(), name)
        return cast(S, found)

    # what other parts of the stage read of a detector's state
    @property
    def spike(self) -> SpikeState:
        """What is learned of cost, tokens and calls."""
        return self._ready("spike", SpikeState)

    @property
    def surge(self) -> SurgeState:
        """What is learned of shares."""
        return self._ready("surge", SurgeState)

    @property
    def cold_start(self) -> ColdStartState:
        """The highest spend so far."""
        return self._ready("cold_start", ColdStartState)

    def judged_by(self, detectors: tuple[Detector, ...]) -> tuple[Detector, ...]:
        """Return those of ``detectors`` that judge the app at this record."""
        return tuple(d for d in detectors if d.name not in self.without) if self.without else detectors

    def families(self) -> dict[str, int]:
        """Family of every open incident, those that follow included -> its start, an ``Opening``."""
        open_ = {family: Opening.of(i.finding) for family, i in self.life.open.items()}
        return {f: open_[family] for family, i in self.life.open.items() for f in (family, *i.followers)}


@dataclass
class Pending:
    """Progress of a tick that is partly judged."""

    offset: int
    """Of the tick."""
    look: bool
    """Whether open slots are judged too."""
    done: str | None = None
    """Last app, in the order of names, that is judged up to this tick."""


@dataclass
class PartitionState:
    """State of one partition of llm.rollups; it covers the records before ``position``."""

    position: int = 0
    """Next offset of llm.rollups."""
    topic: str = ""
    """The broker's id of that topic; empty where it is not known."""
    at: int = 0
    """Kafka's time of the record before ``position``, µs UTC: a truncated log has another record there, or none."""
    clock: Clock = field(default_factory=Clock)
    apps: dict[str, AppState] = field(default_factory=dict)
    judged: int = 0
    """Wall time of the last look at open slots, µs UTC."""
    poison: int = 0
    """Records that were neither rollup nor tick."""
    crowded_out: int = 0
    """Rollups of apps beyond MAX_APPS."""
    pending: Pending | None = None
    """The record at ``position``, where a part of it is in this state."""
    highest_usd: float = 0.0
    """Highest spend of any app so far, USD per slot in five minutes."""

    def __post_init__(self) -> None:
        self.guards = Guards()
        """Bounds of all apps. They change the speed, not the alerts."""

    def event_time(self) -> int | None:
        """Event time up to which every app is judged, µs UTC; None before anything was closed."""
        done = self.pending.done if self.pending else None
        behind = [a.windows.closed for name, a in self.apps.items() if done is None or name > done]
        return min([t for t in behind if t] if self.pending else [], default=self.clock.watermark) or None

    def mark_judged(self, offset: int, kafka_time: int) -> None:
        """Move ``position`` behind the record at ``offset``, which is judged completely."""
        self.position, self.at, self.pending = offset + 1, kafka_time, None

    def restart_at(self, position: int) -> None:
        """Continue at ``position`` of a topic that was recreated or truncated.

        Slots that have closed stay closed; the sums of the last minutes, to which rows would be added twice, are
        computed again from the records of the topic.
        """
        self.position, self.at, self.pending = position, 0, None
        for app in self.apps.values():
            windows = app.windows
            totals.take_back(windows, app.life)
            windows.clear()
            app.deferred, app.guard = 0, None


def with_apps(kind: type[P], state: Any, apps: Mapping[str, Any]) -> P:
    """Return ``state``, of this or an earlier form, as a ``kind`` with ``apps``."""
    return kind(**{f.name: getattr(state, f.name) for f in fields(state)} | {"apps": apps})
