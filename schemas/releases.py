"""A release of an app as it was marked: a manifest of what runs, by name and hash. Pure.

A manifest holds names, versions and hashes, and no content: a file that it names is recorded by its SHA-256.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

PARTS = ("code", "prompts", "models", "tools", "retrieval", "guards", "golden", "gate_report")
"""Fields of a manifest, beside ``release`` and ``note``; each a text, or a mapping of names to texts."""
MOST_ENTRIES, MOST_CHARS = 500, 256
_NAMESPACE = uuid.UUID("0b8f4a52-6f0c-5d1e-9a55-2f6b6f6e1c77")
_SHOWN_CHARS = 12
"""Of a hash, in words."""
_SHOWN_PARTS = 4


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One mark, as it is on llm.log: the row of the view ``releases``."""

    id: str
    """``release_id``: the same mark, sent twice, is one."""
    app: str
    release: str
    """Name of the release: of the manifest, else the beginning of its hash."""
    manifest: dict[str, str]
    """Part -> version or hash; entries of a mapping as ``prompts.answer``."""
    manifest_sha256: str
    note: str = ""
    actor: str = ""
    at: int = 0
    """When it was released, µs UTC."""


def manifest_sha256(manifest: Mapping[str, str]) -> str:
    """Return the hash of a manifest, independent of the order of its entries."""
    return hashlib.sha256(msgspec.json.encode(dict(sorted(manifest.items())))).hexdigest()


def release_id(app: str, manifest_hash: str, before: str) -> str:
    """Return the id of the mark that follows the mark ``before`` (its id; empty: the first).

    Marking twice gives one release; going back to an earlier manifest is a release of its own.
    """
    return str(uuid.uuid5(_NAMESPACE, msgspec.json.encode([app, manifest_hash, before]).decode()))


def differences(before: Mapping[str, str] | None, after: Mapping[str, str]) -> list[str]:
    """Return what a manifest changes, in words: ``prompts.answer 17 → 18``; nothing is known without ``before``."""
    if before is None:
        return []
    names = sorted(before.keys() | after.keys(), key=lambda name: (_rank(name), name))
    return [
        f"{name} {shown(before.get(name))} → {shown(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def shown(value: str | None) -> str:
    """Return a version or a hash in words; a hash is cut."""
    if value is None:
        return "none"
    algorithm, colon, digits = value.partition(":")
    if colon and algorithm == "sha256":
        return digits[:_SHOWN_CHARS]
    return value[:_SHOWN_CHARS] if len(value) in (40, 64) and set(value) <= set("0123456789abcdef") else value


def in_words(release: Release, before: Release | None) -> str:
    """Return ``release 2.4.1: prompts.answer 17 → 18``."""
    changed = differences(None if before is None else before.manifest, release.manifest)
    more = f" and {len(changed) - _SHOWN_PARTS} more" if len(changed) > _SHOWN_PARTS else ""
    what = f": {', '.join(changed[:_SHOWN_PARTS])}{more}" if changed else ""
    note = f" ({release.note})" if release.note else ""
    return f"release {release.release}{what}{note}"


def contents(manifest: Mapping[str, str], most: int = _SHOWN_PARTS) -> str:
    """Return the first entries of a manifest in words: ``code 3f2c9d1, prompts.answer 18``."""
    names = sorted(manifest, key=lambda name: (_rank(name), name))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"{name} {shown(manifest[name])}" for name in names[:most]) + more


def by_time(marks: Iterable[Release]) -> list[Release]:
    """Return marks from the earliest to the newest, each id once."""
    known = {mark.id: mark for mark in sorted(marks, key=lambda mark: -mark.at)}
    return sorted(known.values(), key=lambda mark: (mark.at, mark.id))


def of_row(row: Mapping[str, Any], at: int) -> Release:
    """Read the row of a log record.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.convert({"at": at, **row}, Release, strict=False)


def _rank(name: str) -> int:
    part = name.partition(".")[0]
    return PARTS.index(part) if part in PARTS else len(PARTS)
