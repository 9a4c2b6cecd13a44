"""State in a Faust table: one snapshot per partition, in chunks; the last complete one is read.

Two generations alternate, and the head is written last, so a kill between two writes (Faust sends its changelog without
waiting, docs/engine-notes.md) leaves the previous snapshot. State and position are one value, so they always match.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping

import msgspec

CHANGELOG = "detect-state-changelog"
"""The topic of the table; Faust makes its name of the app's and the table's."""
CHUNK = 256 * 1024


class Head(msgspec.Struct, frozen=True):
    """Which generation is complete, and its checksum."""

    generation: int
    chunks: int
    position: int
    sha256: str


def write(table: MutableMapping[bytes, bytes], partition: int, data: bytes, position: int) -> None:
    """Write the snapshot ``data``, which covers the records before ``position``, to ``table``."""
    head = _head(table, partition)
    generation = head.generation + 1 if head else 0
    chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    for i, chunk in enumerate(chunks):
        table[_key(partition, generation, i)] = chunk
    new = Head(generation, len(chunks), position, hashlib.sha256(data).hexdigest())
    table[b"%d/head" % partition] = msgspec.json.encode(new)


def read(table: MutableMapping[bytes, bytes], partition: int) -> bytes | None:
    """The last whole snapshot of ``partition``; None where there is none, or where its chunks do not match its head."""
    head = _head(table, partition)
    if head is None:
        return None
    data = b"".join(table.get(_key(partition, head.generation, i)) or b"" for i in range(head.chunks))
    return data if hashlib.sha256(data).hexdigest() == head.sha256 else None


def _key(partition: int, generation: int, chunk: int) -> bytes:
    return b"%d/%d/%d" % (partition, generation % 2, chunk)


def _head(table: MutableMapping[bytes, bytes], partition: int) -> Head | None:
    raw = table.get(b"%d/head" % partition)
    return msgspec.json.decode(raw, type=Head) if raw else None
