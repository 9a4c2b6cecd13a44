"""Mark a release: read its manifest, name its files by hash, write one record on llm.log that lands once.

The record's id follows from the app, the manifest and the release before it. So a mark that is repeated after a crash
is the same mark, and marking the manifest that is current already changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pipelines.kafka import KafkaConfig, Producer
from schemas import faults
from schemas.alerts import LogRecord
from schemas.errors import SettingsError
from schemas.releases import (
    MOST_CHARS,
    MOST_ENTRIES,
    PARTS,
    Release,
    by_time,
    manifest_sha256,
    of_row,
    release_id,
)
from schemas.topics import LOG
from tailrace.files import refused
from warehouse.query.readonly import ReadOnlyLake

OPTION = "--manifest"
_FLUSH_S = 15.0
_MARKS = "SELECT epoch_us(logged_at) AS at, entry FROM releases WHERE app = $1 AND release_id IS NOT NULL"
_EXAMPLE = 'write for example `prompts: {answer: "18"}`'


@dataclass(frozen=True)
class Manifest:
    """The content of a file: the name of the release, its parts, the reason."""

    release: str
    parts: Mapping[str, str]
    note: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the parts."""
        return manifest_sha256(self.parts)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. An entry ``{file: PATH}`` becomes the hash of that file, relative to the manifest.

    Raises:
        FileRefusedError: the manifest or a file that it names cannot be read.
        SettingsError: it is not a manifest.
    """
    with refused("read", path):
        content = path.read_bytes()
    try:
        read = yaml.safe_load(content.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(OPTION, f"{path} is not YAML: {str(error).splitlines()[0]}", _EXAMPLE) from error
    if not isinstance(read, dict) or not read:
        raise SettingsError(OPTION, f"{path} holds no mapping", _EXAMPLE)
    return manifest_of(read, path)


def manifest_of(read: Mapping[Any, Any], path: Path) -> Manifest:
    """Return the manifest that ``read`` is, with its files, which are relative to the folder of ``path``, as hashes.

    Raises:
        FileRefusedError: a file cannot be read.
        SettingsError: it is not a manifest.
    """
    if unknown := [str(key) for key in read if key not in (*PARTS, "release", "note")]:
        known = ", ".join(("release", "note", *PARTS))
        raise SettingsError(OPTION, f"{path}: unknown part {unknown[0][:60]!r}", f"known are {known}")
    named = {key: _text(path, key, read[key]) for key in ("release", "note") if read.get(key) is not None}
    parts = dict(_parts({name: read[name] for name in PARTS if read.get(name) is not None}, path))
    if not parts:
        raise SettingsError(OPTION, f"{path}: it names nothing that runs", _EXAMPLE)
    if len(parts) > MOST_ENTRIES:
        raise SettingsError(OPTION, f"{path}: {len(parts)} entries", f"name at most {MOST_ENTRIES}")
    return Manifest(named.get("release") or manifest_sha256(parts)[:12], parts, named.get("note", ""))


def _parts(read: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    for part, value in read.items():
        if isinstance(value, dict) and set(value) != {"file"}:
            for name, each in value.items():
                key = f"{part}.{_text(path, part, name)}"
                yield key, _entry(path, key, each)
        else:
            yield part, _entry(path, part, value)


def _entry(path: Path, key: str, value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"file"}:
        file = path.parent / _text(path, key, value["file"])
        with refused("read", file):
            return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    return _text(path, key, value)


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        kind = "a number with a point: YAML makes 1.10 to 1.1" if isinstance(value, float) else f"{value!r:.60}"
        raise SettingsError(OPTION, f"{path}: {key} is {kind}", f'put it in quotes: {key.split(".")[-1]}: "1.10"')
    if len(value) > MOST_CHARS:
        remedy = "a manifest holds versions and hashes; name a file as {file: PATH}"
        raise SettingsError(OPTION, f"{path}: {key} has {len(value)} characters", remedy)
    return value.strip()


def marks(lake: ReadOnlyLake, app: str) -> list[Release]:
    """Return the releases of an app, from the earliest to the newest."""
    rows = lake.query(_MARKS, [app]).to_pylist()
    return by_time(of_row(msgspec.json.decode(row["entry"]), row["at"]) for row in rows)


def mark_of(app: str, manifest: Manifest, known: list[Release], *, actor: str, at: int) -> Release:
    """Return the mark of ``manifest``: the newest of ``known`` itself where it has this manifest already."""
    current = known[-1] if known else None
    if current is not None and (current.manifest_sha256, current.release) == (manifest.sha256, manifest.release):
        return current
    identity = release_id(app, f"{manifest.release} {manifest.sha256}", current.id if current else "")
    return Release(
        id=identity,
        app=app,
        release=manifest.release,
        manifest=dict(manifest.parts),
        manifest_sha256=manifest.sha256,
        note=manifest.note,
        actor=actor,
        at=at,
    )


def send(kafka: KafkaConfig, release: Release) -> None:
    """Write the mark on llm.log.

    Raises:
        KafkaUnavailableError: it is not written; mark it again.
    """
    row = msgspec.to_builtins(release)
    del row["at"]
    with closing(Producer(kafka)) as producer:
        producer.send(LOG, msgspec.json.encode(LogRecord(table="releases", at=release.at, row=row)))
        producer.flush(_FLUSH_S)
    faults.point("release.after_publish")
