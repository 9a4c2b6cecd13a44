"""The state of one detector as it is kept in a checkpoint: versioned, and read by that detector alone.

So a new detector, or a field that a detector adds, leaves the rest of an old checkpoint as it is. A field with a
default is read from a state that does not have it. A state class whose meaning changes sets ``VERSION`` and has a class
method ``of_version(version, fields)``; where that is missing, this detector learns its baselines again.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
import structlog

from pipelines.detect import arrays
from schemas.errors import UNREADABLE

log = structlog.get_logger()
S = TypeVar("S")


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """State of one detector for one app."""

    version: int
    data: bytes
    """msgpack."""


def store(state: object) -> StoredState:
    """Encode the state of a detector; one that was not read since it was stored stays as it is."""
    if isinstance(state, StoredState):
        return state
    return StoredState(_version(type(state)), msgspec.msgpack.encode(state, enc_hook=arrays.encode))


def read(stored: StoredState, initial: S, detector: str) -> S:
    """Return the state that is ``stored``, else ``initial``, the state of a new app, where it cannot be read."""
    kind = type(initial)
    try:
        if stored.version == _version(kind):
            known: S = arrays.decoder(cast(Any, kind)).decode(stored.data)
            return known
        found: S = kind.of_version(stored.version, msgspec.msgpack.decode(stored.data))  # type: ignore[attr-defined]
        return found
    except (*UNREADABLE, AttributeError, NotImplementedError) as error:
        log.warning("detector_starts_again", detector=detector, version=stored.version, cause=str(error)[:200])
        return initial


def _version(kind: type) -> int:
    version: int = getattr(kind, "VERSION", 1)
    return version
