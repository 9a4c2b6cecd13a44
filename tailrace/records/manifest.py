"""Read what a release runs: names and versions, and files by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import SettingsError
from schemas.releases import MOST_CHARS, MOST_ENTRIES, PARTS, manifest_sha256
from tailrace.files import refused

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


@dataclass(frozen=True)
class Origin:
    """Where a manifest comes from."""

    name: str
    """What errors name: an option, or the body of a request."""
    where: str
    """What errors begin with: a path, or nothing."""
    folder: Path | None
    """Files are relative to it; None: no file is read."""

    def error(self, problem: str, remedy: str) -> SettingsError:
        """Return the error that names this manifest."""
        return SettingsError(self.name, f"{self.where}: {problem}" if self.where else problem, remedy)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. An entry ``{file: PATH}`` becomes the hash of that file, relative to the manifest.

    Raises:
        FileRefusedError: the manifest or a file that it names cannot be read.
        SettingsError: it is not a manifest.
    """
    with refused("read", path):
        content = path.read_bytes()
    origin = Origin("--manifest", f"{path}", path.parent)
    try:
        read = yaml.safe_load(content.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(origin.name, f"{path} is not YAML: {str(error).splitlines()[0]}", _EXAMPLE) from error
    if not isinstance(read, dict) or not read:
        raise SettingsError(origin.name, f"{path} holds no mapping", _EXAMPLE)
    return manifest_of(read, origin)


def manifest_of(read: Mapping[Any, Any], origin: Origin) -> Manifest:
    """Return the manifest that ``read`` is, with its files as hashes.

    Raises:
        FileRefusedError: a file cannot be read.
        SettingsError: it is not a manifest.
    """
    if unknown := [str(key) for key in read if key not in (*PARTS, "release", "note")]:
        known = ", ".join(("release", "note", *PARTS))
        raise origin.error(f"unknown part {unknown[0][:60]!r}", f"known are {known}")
    named = {key: _text(origin, key, read[key]) for key in ("release", "note") if read.get(key) is not None}
    parts = dict(_parts({name: read[name] for name in PARTS if read.get(name) is not None}, origin))
    if not parts:
        raise origin.error("it names nothing that runs", _EXAMPLE)
    if len(parts) > MOST_ENTRIES:
        raise origin.error(f"{len(parts)} entries", f"name at most {MOST_ENTRIES}")
    return Manifest(named.get("release") or manifest_sha256(parts)[:12], parts, named.get("note", ""))


def _parts(read: Mapping[str, Any], origin: Origin) -> Iterator[tuple[str, str]]:
    for part, value in read.items():
        if isinstance(value, dict) and set(value) != {"file"}:
            for name, each in value.items():
                key = f"{part}.{_text(origin, part, name)}"
                yield key, _entry(origin, key, each)
        else:
            yield part, _entry(origin, part, value)


def _entry(origin: Origin, key: str, value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"file"}:
        if origin.folder is None:
            raise origin.error(f"{key} names a file", "files of this machine are not read for others: send its sha256")
        file = origin.folder / _text(origin, key, value["file"])
        with refused("read", file):
            return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    return _text(origin, key, value)


def _text(origin: Origin, key: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        kind = "a number with a point: YAML makes 1.10 to 1.1" if isinstance(value, float) else f"{value!r:.60}"
        raise origin.error(f"{key} is {kind}", f'put it in quotes: {key.split(".")[-1]}: "1.10"')
    if len(value) > MOST_CHARS:
        remedy = "a manifest holds versions and hashes; name a file as {file: PATH}"
        raise origin.error(f"{key} has {len(value)} characters", remedy)
    return value.strip()
