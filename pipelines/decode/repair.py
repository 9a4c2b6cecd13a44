"""Repair a dead message: what can be repaired without guessing, and the edits of a person. Pure.

A mechanical repair never invents a value: it undoes an encoding (a BOM, an object inside a string), writes the same
value as the expected type, or leaves out what JSON cannot express (NaN). Each is tried, and kept only where the
verdict moves on. The event keeps its id: landed twice, one of the two is marked a duplicate.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from pipelines.decode.check import Accepted, verdict
from pipelines.decode.locate import FREE, Path, blamed, dotted, parts
from pipelines.decode.reasons import RESERVED_KEY, UNKNOWN_TYPE, Reject
from pipelines.decode.rules import free_key, too_deep
from schemas.errors import UNREADABLE
from tailrace_emitter.event import SCHEMA_VERSION

MOST_STEPS = 32
"""Most fields of one event that are repaired; more are not a mistake of one type."""
_NOTHING = object()
_BOM = b"\xef\xbb\xbf"


class Edit(NamedTuple):
    """The edits that a person orders for an event. Paths are dotted, such as ``tokens.input`` or ``tools[0].name``."""

    kind: Literal["set", "rename", "drop"]
    path: str
    to: Any = None
    """The value to set, or the path to rename to."""


class Repaired(NamedTuple):
    """The result for a message."""

    value: bytes
    steps: tuple[str, ...]
    """What was done, in words; holds paths and types, never a value."""
    verdict: Accepted | Reject


class _AmbiguousError(ValueError):
    """A key occurs twice with different values, and it is not known which one is right."""


def repair(value: bytes | None, edits: Sequence[Edit] = ()) -> Repaired:
    """Apply ``edits``, then what is safe, until the message is accepted or nothing helps. Never raises.

    A valid message without edits is returned byte for byte.
    """
    found = verdict(value)
    if value is None or (isinstance(found, Accepted) and not edits):
        return Repaired(value or b"", (), found)
    steps: list[str] = []
    read = _read(value, steps)
    if read is None:
        return Repaired(value, (), found)
    for edit in edits:
        steps += [f"{edit.kind} {edit.path}"] if _apply(read, edit) else [f"{edit.path} is not there: left as it is"]
    found = verdict(_written(read))
    while isinstance(found, Reject) and len(steps) < MOST_STEPS:
        for changed, step in _tries(read, found):
            then = verdict(_written(changed))
            if isinstance(then, Accepted) or then != found:
                read, found = changed, then
                steps.append(step)
                break
        else:
            break
    return Repaired(_written(read), tuple(steps), found) if steps else Repaired(value, (), verdict(value))


def _read(value: bytes, steps: list[str]) -> dict[str, Any] | None:
    """Return the object inside, with every encoding slip on the way noted in ``steps``; None where there is none."""
    bare = value.removeprefix(_BOM).strip(b" \t\r\n\0")
    if bare != value.strip(b" \t\r\n"):
        steps.append("a byte order mark or NUL around the object taken away")
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        text = bare.decode("utf-8", "replace")
        steps.append("bytes that are not UTF-8 became U+FFFD")
    read = _loads(text, steps)
    if isinstance(read, str):
        read = _loads(read, steps)
        steps.append("the object was inside a JSON string: taken out")
    return read if isinstance(read, dict) and not too_deep(read, 1) else None


def _loads(text: str, steps: list[str]) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(found)
        if len(out) != len(found):
            if any(out[key] != item for key, item in found):
                raise _AmbiguousError
            steps.append("a key that stood twice with the same value stands once")
        return out

    try:
        return json.loads(text, object_pairs_hook=pairs, strict=True)
    except (ValueError, RecursionError):
        return None


def _written(read: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(_literal_text(read))
    except UNREADABLE:  # a lone surrogate; json escapes it
        return json.dumps(read).encode()


def _literal_text(read: dict[str, Any]) -> dict[str, Any]:
    # msgspec writes NaN as null, which would hide what is wrong
    if any(True for _ in _infinite(read, ())):
        raise ValueError("not JSON")
    return read


def _tries(read: dict[str, Any], reject: Reject) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield copies of the event with one repair each, and a description of the repair."""
    kind = reject.reason.partition(":")[0]
    if kind == "not_finite":
        changed = deepcopy(read)
        gone = [path for path in _infinite(read, ()) if _pop(changed, path) is not _NOTHING]
        if gone:
            yield changed, f"{', '.join(map(dotted, gone))}: not a finite number, left out"
    elif reject.reason == RESERVED_KEY:
        changed = deepcopy(read)
        names = list(_unreserve(changed, ""))
        yield changed, f"{len(names)} keys that begin with _ now begin with x_"
    elif reject.reason == "missing:v":
        yield {**read, "v": SCHEMA_VERSION}, f"v: {SCHEMA_VERSION}, the only version there is"
    else:
        path: Path = ("type",) if reject.reason == UNKNOWN_TYPE else blamed(reject)
        holder = _holder(read, path)
        if holder is None:
            return
        for value, words in _same_value(holder[path[-1]], reject.detail):
            changed = deepcopy(read)
            _holder(changed, path)[path[-1]] = value
            yield changed, f"{dotted(path)}: {words}"


def _same_value(value: Any, detail: str) -> Iterator[tuple[Any, str]]:
    """Yield ``value`` as other types would write it, where nothing is lost."""
    if isinstance(value, str):
        bare = value.strip()
        if bare.removeprefix("-").isascii() and bare.removeprefix("-").isdigit() and len(bare) < 20:
            yield int(bare), "text of digits to a number"
        with suppress(ValueError):
            if math.isfinite(float(bare)):
                yield float(bare), "text of a number to a number"
        if bare.lower() in ("true", "false"):
            yield bare.lower() == "true", "text to true or false"
        if "UUID" in detail:
            with suppress(ValueError):
                yield str(uuid.UUID(bare)), "the same UUID in its usual form"
        with suppress(ValueError):
            moment = datetime.fromisoformat(bare)
            if moment.tzinfo is not None:  # without a zone it could be any of 26 hours
                yield moment.isoformat(), "the same moment as RFC 3339"
        if bare.lower() != value:
            yield bare.lower(), "lower case, no blanks around"
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        yield int(value), "a whole number without its decimal point"
    elif type(value) is int and "Expected str" in detail:
        yield str(value), "a number to text"


def _apply(read: dict[str, Any], edit: Edit) -> bool:
    """Do ``edit`` in place; return whether there was anything to do it to."""
    path = parts(edit.path)
    if not path:
        return False
    if edit.kind == "set":
        holder = _holder(read, path, make=True)
        if holder is None:
            return False
        holder[path[-1]] = edit.to
        return True
    value = _pop(read, path)
    if value is _NOTHING:
        return False
    return edit.kind == "drop" or _apply(read, Edit("set", str(edit.to), value))


def _pop(read: dict[str, Any], path: Path) -> Any:
    """Remove the value at ``path`` from its object; an entry of a list stays, because the others would move."""
    holder = _holder(read, path)
    return holder.pop(path[-1]) if isinstance(holder, dict) else _NOTHING


def _holder(read: Any, path: Path, *, make: bool = False) -> Any:
    """Return the object or list that has the last step of ``path``; None where there is none."""
    at = read
    for step in path[:-1]:
        if make and isinstance(at, dict) and isinstance(step, str) and at.get(step) is None:
            at[step] = {}
        if not _has(at, step):
            return None
        at = at[step]
    last = path[-1] if path else None
    fits = make and isinstance(at, dict) and isinstance(last, str)
    return at if fits or (last is not None and _has(at, last)) else None


def _has(at: Any, step: str | int) -> bool:
    if isinstance(at, dict):
        return step in at
    return isinstance(at, list) and isinstance(step, int) and step < len(at)


def _infinite(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _infinite(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _infinite(item, (*path, i))


def _unreserve(value: Any, path: str) -> Iterator[str]:
    """Rename reserved keys in place and in order; keys of the app stay."""
    if isinstance(value, list):
        for item in value:
            yield from _unreserve(item, path)
    elif isinstance(value, dict) and path not in FREE:
        for key in list(value):
            item = value.pop(key)
            name = free_key(value, f"x{key}") if key.startswith("_") else key
            value[name] = item
            if name != key:
                yield key
            yield from _unreserve(item, f"{path}.{key}".removeprefix("."))
