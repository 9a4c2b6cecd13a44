"""State as bytes: msgpack, versioned, compressed; equal after a round trip."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import msgspec

from pipelines.alerts.incident import Lifecycle
from pipelines.detect import arrays
from pipelines.detect.partition_state import AppState, PartitionState, with_apps
from pipelines.detect.snapshot_v1 import PartitionStateV1
from pipelines.detect.snapshot_v3 import widened
from pipelines.detect.snapshot_v5 import PartitionStateV5
from pipelines.detect.stored_state import StoredState, store
from pipelines.detect.windows import Windows
from schemas.errors import UNREADABLE


class Snapshot(msgspec.Struct, array_like=True):
    """Envelope: which version of the state, and how it is written."""

    version: int
    state: bytes


VERSION, READ = 6, (2, 3, 4, 5, 6)
"""Since 5 buckets that are not learned yet may have closed while incidents were open; since 6 the state of each
detector is stored by itself."""
_SUMS_WIDENED = 4
_BY_DETECTOR = 6


@dataclass
class AppAtRest:
    """``AppState`` with the states of detectors as they are stored."""

    windows: Windows
    states: dict[str, StoredState]
    life: Lifecycle
    deferred: int = 0

    @classmethod
    def of(cls, app: AppState) -> AppAtRest:
        """Encode the states of ``app``."""
        return cls(app.windows, {name: store(app.states[name]) for name in sorted(app.states)}, app.life, app.deferred)

    def now(self) -> AppState:
        """Return the state of the app; each detector reads its own when it is asked for."""
        return AppState(self.windows, dict(self.states), self.life, self.deferred)


@dataclass
class PartitionAtRest(PartitionState):
    """``PartitionState`` with apps as they are stored."""

    apps: dict[str, AppAtRest] = field(default_factory=dict)  # type: ignore[assignment]  # the same fields, at rest

    def now(self) -> PartitionState:
        """Return the state of the partition."""
        return with_apps(PartitionState, self, {name: app.now() for name, app in self.apps.items()})


def dump(state: PartitionState) -> bytes:
    """Encode ``state``."""
    for app in state.apps.values():
        app.windows.side.merge()
        for slot in app.windows.slots.values():
            slot.merge()
    rest = with_apps(PartitionAtRest, state, {name: AppAtRest.of(app) for name, app in state.apps.items()})
    body = msgspec.msgpack.encode(rest, enc_hook=arrays.encode)
    return msgspec.msgpack.encode(Snapshot(VERSION, zlib.compress(body, 1)))


def version(data: bytes) -> int:
    """Return the version of a state at rest.

    Raises:
        ValueError: damaged.
    """
    try:
        return msgspec.msgpack.decode(data, type=Snapshot).version
    except UNREADABLE as error:
        raise ValueError(f"damaged state: {error}") from error


def load(data: bytes) -> PartitionState:
    """Inverse of ``dump``.

    Raises:
        ValueError: written by another version, or damaged; rebuild from the landed rollups.
    """
    try:
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
        if snapshot.version == 1:
            return widened(arrays.decoder(PartitionStateV1).decode(zlib.decompress(snapshot.state)).now())
        if snapshot.version not in READ:
            raise ValueError(f"state of version {snapshot.version}, this is version {VERSION}")
        body = zlib.decompress(snapshot.state)
        if snapshot.version >= _BY_DETECTOR:
            rest: PartitionAtRest = arrays.decoder(PartitionAtRest).decode(body)
            return rest.now()
        before: PartitionStateV5 = arrays.decoder(PartitionStateV5).decode(body)
        state = before.now()
        return state if snapshot.version >= _SUMS_WIDENED else widened(state)
    except (*UNREADABLE, zlib.error) as error:
        raise ValueError(f"damaged state: {error}") from error
