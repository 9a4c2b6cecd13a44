"""State as bytes: msgpack, versioned, compressed; equal after a round trip."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any, get_origin

import msgspec
import numpy as np

from pipelines.detect.partition_state import PartitionState
from pipelines.detect.snapshot_v1 import PartitionStateV1
from pipelines.detect.snapshot_v3 import widened
from schemas.errors import UNREADABLE


class Snapshot(msgspec.Struct, array_like=True):
    """Envelope: which version of the state, and how it is written."""

    version: int
    state: bytes


VERSION, READ = 5, (2, 3, 4, 5)
"""Since 5 buckets that are not learned yet may have closed while incidents were open."""
_SUMS_WIDENED = 4


def dump(state: PartitionState) -> bytes:
    """Encode ``state``."""
    for app in state.apps.values():
        app.windows.side.merge()
        for slot in app.windows.slots.values():
            slot.merge()
    body = msgspec.msgpack.encode(state, enc_hook=_encode)
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
            return widened(_decoder_v1().decode(zlib.decompress(snapshot.state)).now())
        if snapshot.version not in READ:
            raise ValueError(f"state of version {snapshot.version}, this is version {VERSION}")
        state = _decoder().decode(zlib.decompress(snapshot.state))
        return state if snapshot.version >= _SUMS_WIDENED else widened(state)
    except (*UNREADABLE, zlib.error) as error:
        raise ValueError(f"damaged state: {error}") from error


@cache
def _decoder() -> msgspec.msgpack.Decoder[PartitionState]:
    return msgspec.msgpack.Decoder(PartitionState, dec_hook=_decode)


@cache
def _decoder_v1() -> msgspec.msgpack.Decoder[PartitionStateV1]:
    return msgspec.msgpack.Decoder(PartitionStateV1, dec_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    raise NotImplementedError(type(value))


def _decode(kind: type, value: Any) -> Any:
    if kind is np.ndarray or get_origin(kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype).reshape(shape).copy()
    raise NotImplementedError(kind)
