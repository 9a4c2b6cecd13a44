"""Arrays and numbers of numpy in msgpack: type, shape and bytes of an array."""

from __future__ import annotations

from functools import cache
from typing import Any, get_origin

import msgspec
import numpy as np


def encode(value: Any) -> Any:
    """Return what msgpack writes for ``value``; msgspec's ``enc_hook``."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    raise NotImplementedError(type(value))


def decode(kind: type, value: Any) -> Any:
    """Inverse of ``encode`` for a field of ``kind``; msgspec's ``dec_hook``."""
    if kind is np.ndarray or get_origin(kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype).reshape(shape).copy()
    raise NotImplementedError(kind)


@cache
def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what reads a ``kind``, a dataclass with arrays, from msgpack."""
    return msgspec.msgpack.Decoder(kind, dec_hook=decode)
