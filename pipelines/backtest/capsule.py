"""One alert in a file: the state of the detectors just before it, and the rollups and ticks from then on.

What is judged is what detect read, so the capsule gives the same alert on any machine: nothing is priced, counted or
sampled again. It holds one app, and no prompt and no answer: series, sums, and ids of calls. The state is the versioned
one of the live stage (``pipelines.detect.snapshot``). A capsule comes from outside: its sizes are bounded before it is
unpacked, its parts are checked by hash, and nothing in it is code.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from pipelines.detect.backtest import assembled
from pipelines.detect.judge import Judge
from pipelines.detect.snapshot import Snapshot, load
from schemas.alerts import Alert
from schemas.errors import UNREADABLE, FatalError

VERSION = 1
MOST_BYTES = 20_000_000
"""Of a capsule."""
_MOST_UNPACKED = 400_000_000
"""Of all its parts, and of the state: a small file may unpack into any amount."""
_MANIFEST, _ALERT, _STATE, _ROLLUPS, _TICKS, _CALLS = (
    *("manifest.json", "alert.jsonl", "state.bin", "rollups.arrow", "ticks.arrow", "calls.jsonl"),
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every part: the same capsule has the same bytes."""


class CapsuleError(FatalError):
    """A file that is no capsule, is damaged, or was written by a version that this one does not read."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"capsule {name}: {problem}; {remedy}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a capsule holds, and how it was made. No secret, no address."""

    format: str = "tailrace-capsule"
    version: int = VERSION
    tailrace: str
    """Version that wrote it."""
    alert_id: str
    fingerprint: str
    app: str
    states: int
    """State changes of the alert that it gives, from the first on."""
    landed_states: int
    """Those that there were: more, where the whole did not fit."""
    partition: int
    epoch: int
    first: int
    """Offset of llm.rollups of the first tick or rollup in it."""
    upto: int
    """And the one behind the last."""
    rules: dict[str, dict[str, float | int | str | bool]] = {}
    """Rules of the settings in force: detector -> field -> value."""
    calls: int = 0
    """Calls of the window that are listed, without texts, for people to read; they are not judged."""
    calls_of: int = 0
    """Calls that there are."""
    sha256: dict[str, str] = {}
    """Part -> hash."""


@dataclass(frozen=True)
class Capsule:
    """What is judged again, and what it should give."""

    manifest: Manifest
    alerts: tuple[Alert, ...]
    """The states as they landed, from the first on."""
    state: bytes
    """Of the detectors, before ``manifest.first``."""
    ticks: pa.Table
    rollups: pa.Table
    calls: bytes = b""
    """A JSON object a line."""

    def judged(self, judge: Judge) -> list[Alert]:
        """Return every alert that the rollups give, in the order in which they are raised.

        Raises:
            CapsuleError: the rollups are not those of a rollup.
        """
        state, found = load(self.state), list[Alert]()
        try:
            for offset, item in assembled(self.ticks, self.rollups):
                found += [alert for alerts in judge.apply(state, offset, item) for alert in alerts]
        except (pa.ArrowException, *UNREADABLE) as error:
            name = f"of alert {self.manifest.alert_id}"
            raise CapsuleError(name, f"its rollups cannot be judged: {error}", "export the alert again") from error
        return found


def same(alert: Alert, other: Alert) -> bool:
    """Whether two states are one in all that is judged; words and links may differ between versions."""
    return _judged(alert) == _judged(other)


def _judged(alert: Alert) -> tuple[Any, ...]:
    identity = alert.id, alert.seq, alert.state, alert.fingerprint, alert.severity
    return *identity, alert.window, alert.observed, alert.expected, alert.score, alert.unit, alert.detected_at


def packed(capsule: Capsule) -> bytes:
    """Return the bytes of a capsule; the same capsule gives the same bytes."""
    parts = {
        _ALERT: b"\n".join(alert.to_json() for alert in capsule.alerts),
        _STATE: capsule.state,
        _ROLLUPS: _written(capsule.rollups),
        _TICKS: _written(capsule.ticks),
        _CALLS: capsule.calls,
    }
    hashes = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    manifest = msgspec.structs.replace(capsule.manifest, sha256=hashes)
    parts = {_MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=2), **parts}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), part, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def unpacked(data: bytes, name: str) -> Capsule:
    """Read a capsule.

    Args:
        data: of the file.
        name: of the file, for errors.

    Raises:
        CapsuleError: it is none, it is damaged, or another version wrote it.
    """
    try:
        parts = _parts(data, name)
        manifest = msgspec.json.decode(parts[_MANIFEST], type=Manifest)
        if manifest.version != VERSION:
            remedy = "judge it with the version of Tailrace that wrote it"
            raise CapsuleError(name, f"it has version {manifest.version}, and {VERSION} can be read", remedy)
        if wrong := [part for part, hash_ in manifest.sha256.items() if _hash(parts, part) != hash_]:
            raise CapsuleError(name, f"{wrong[0]} is damaged", "copy it again")
        _check_state(parts[_STATE], name)
        alerts = tuple(Alert.from_json(line) for line in parts[_ALERT].splitlines())
        tables = [_read(parts[part]) for part in (_TICKS, _ROLLUPS)]
        return Capsule(manifest, alerts, parts[_STATE], tables[0], tables[1], parts.get(_CALLS, b""))
    except (zipfile.BadZipFile, zlib.error, pa.ArrowException, NotImplementedError, EOFError, *UNREADABLE) as error:
        raise CapsuleError(name, f"it cannot be read: {error}", "export the alert again") from error


def _parts(data: bytes, name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if missing := {_MANIFEST, _ALERT, _STATE, _ROLLUPS, _TICKS} - sizes.keys():
            raise CapsuleError(name, f"it has no {min(missing)}", "name a file of `tailrace alerts export`")
        if sum(sizes.values()) > _MOST_UNPACKED:
            raise CapsuleError(name, f"it unpacks into more than {_MOST_UNPACKED:,} bytes", "export the alert again")
        wanted = (_MANIFEST, _ALERT, _STATE, _ROLLUPS, _TICKS, _CALLS)
        return {part: archive.read(part) for part in wanted if part in sizes}


def _hash(parts: Mapping[str, bytes], part: str) -> str:
    return hashlib.sha256(parts.get(part, b"")).hexdigest()


def _check_state(state: bytes, name: str) -> None:
    """Refuse a state that unpacks into more than any of ours does, and one of a version that cannot be read."""
    unpacking = zlib.decompressobj()
    unpacking.decompress(msgspec.msgpack.decode(state, type=Snapshot).state, _MOST_UNPACKED)
    if unpacking.unconsumed_tail:
        raise CapsuleError(name, f"its state unpacks into more than {_MOST_UNPACKED:,} bytes", "export the alert again")
    load(state)


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table
