"""The slow path: reads one message exactly, repairs what may be repaired, and names the reason of what may not.

Repaired: a field under an accepted other name is moved (``aliases``), unknown keys go to ``extra``, control characters
and lone surrogates become U+FFFD. Everything else is a ``Reject`` whose reason comes from the closed list. It takes 20
to 60 µs an event.
"""

from __future__ import annotations

import json
import math
import re
import types
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from pipelines.decode.aliases import TRIES, flags_of, move_aliases, undo_alias
from pipelines.decode.reasons import (
    BAD_UTF8,
    DUPLICATE_KEY,
    EXTRA_CUT,
    MAX_DEPTH,
    MAX_EXTRA_BYTES,
    MAX_EXTRA_KEYS,
    NOT_JSON,
    NOT_OBJECT,
    REPLACED_UTF8,
    RESERVED_KEY,
    TOO_DEEP,
    UNKNOWN_TYPE,
    UNSUPPORTED_VERSION,
    Reject,
)
from pipelines.decode.rules import (
    Admitted,
    add,
    clean,
    cut_extra,
    decode_event,
    encode,
    finish,
    free_key,
    too_deep,
)
from schemas.errors import UNREADABLE
from tailrace_emitter.event import EVENT_TYPES, SCHEMA_VERSION

_TYPES = {str(t.__struct_config__.tag): t for t in EVENT_TYPES}
_MAX_DIGITS = 400
"""A longer integer is beyond every float; Python itself refuses to read more than 4,300."""
_OPENING = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_PATH = re.compile(r"at `\$\.?([^`]*)`")
_FIELD = re.compile(r"field `([^`]*)`")


class _RepeatedError(ValueError):
    """A key occurs twice in one object."""


class _FloatText(float):
    """NaN or Infinity as text: not valid JSON, but it identifies the invalid field."""


def explain(value: bytes | None) -> Admitted | Reject:
    """Return the repaired event, or the exact reason. Never raises."""
    if not value:
        return Reject(NOT_JSON, "an empty value" if value is not None else "no value (a tombstone)")
    if (plain := _plain(value)) is not None:
        return _judged(plain)
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Reject(BAD_UTF8, f"byte {error.start}: {error.reason}")
    if _depth(text) > MAX_DEPTH:
        return Reject(TOO_DEEP, f"more than {MAX_DEPTH} levels")
    try:
        read = _READER.decode(text)
    except _RepeatedError as error:
        return Reject(DUPLICATE_KEY, str(error))
    except (ValueError, RecursionError) as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        return Reject(NOT_JSON, f"not JSON{place}")
    if type(read) is not dict:
        return Reject(NOT_OBJECT, f"expected an object, got {_kind(read)}")
    cleaned = clean(read)
    return _judged(cleaned, (REPLACED_UTF8,) if cleaned != read else (), finite=False)


def _plain(value: bytes) -> dict[str, Any] | None:
    """Read an object in which only keys can be unknown or types wrong, 5 times faster; None = read it exactly.

    msgspec refuses NaN, infinities and lone surrogates; a repeated key is missing when the object is encoded again.
    """
    try:
        read = msgspec.json.decode(value)
    except UNREADABLE:
        return None
    if type(read) is not dict or too_deep(read, 1):
        return None
    if value.count(b":") != encode(read).count(b":") or b"\\u003a" in value or b"\\u003A" in value:
        return None
    return read


def _judged(read: dict[str, Any], flags: tuple[str, ...] = (), *, finite: bool = True) -> Admitted | Reject:
    struct = _TYPES.get(read["type"]) if type(read.get("type")) is str else None
    reserved = next((key for key in read if key.startswith("_")), None)
    if reserved is not None:
        return Reject(RESERVED_KEY, "a key that begins with _ belongs to the server")
    if "type" not in read:
        return Reject("missing:type", "call, feedback or eval")
    if struct is None:
        return Reject(UNKNOWN_TYPE, "type is none of call, feedback, eval")
    version = read.get("v")
    if type(version) is int and version != SCHEMA_VERSION:
        return Reject(UNSUPPORTED_VERSION, f"this consumer reads version {SCHEMA_VERSION}")
    if not finite and (path := _not_finite(read, struct)) is not None:
        return Reject(f"not_finite:{path}", "expected a finite number")
    return _typed(read, struct, flags)


def _typed(read: dict[str, Any], struct: type[msgspec.Struct], flags: tuple[str, ...]) -> Admitted | Reject:
    """Decode ``read`` as ``struct``; aliases whose value does not fit are withdrawn, so that they refuse no event."""
    kind = read["type"]
    names: list[str] = []
    moved = move_aliases(read, kind)
    for left in range(TRIES, -1, -1):
        unknown: dict[str, Any] = {}
        if _sort_out(read, struct, "", unknown):
            break
        names += unknown
        if unknown and type(read.get("extra", {})) in (dict, type(None)) and _put_aside(read, unknown):
            flags = add(flags, EXTRA_CUT)
        try:
            event = decode_event(encode(read))
        except UNREADABLE as error:
            reject = _reason(str(error))
            if not undo_alias(read, kind, moved, reject.reason.partition(":")[2] if left > 1 else None):
                return reject
            continue
        for flag in flags_of(kind, names):
            flags = add(flags, flag)
        return finish(event, encode(event), flags)
    return Reject(RESERVED_KEY, "a key that begins with _ belongs to the server")


def _put_aside(event: dict[str, Any], unknown: dict[str, Any]) -> bool:
    """Move ``unknown`` into the event's ``extra``; return whether something had to be cut."""
    extra = dict(event.get("extra") or {})
    for key, value in unknown.items():
        extra[free_key(extra, key)] = value
    event["extra"] = extra
    if len(extra) > MAX_EXTRA_KEYS or len(encode(extra)) > MAX_EXTRA_BYTES:
        event["extra"] = cut_extra(extra)
        return True
    return False


def _depth(text: str) -> int:
    """Return how deep objects and lists go, stopping just past MAX_DEPTH: no recursion, strings skipped."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    depth = most = 0
    for match in _OPENING.finditer(text):
        first = match.group()[0]
        if first in "{[":
            depth += 1
            most = max(most, depth)
            if depth > MAX_DEPTH:
                break
        elif first != '"':
            depth -= 1
    return most


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise _RepeatedError(f"a key stands twice in an object of {len(pairs)} keys")
    return out


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else _FloatText("inf")


_READER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_FloatText, parse_int=_integer)


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    """Declared fields of ``struct``, with the struct inside (also inside a list) where there is one."""
    hints = get_type_hints(struct, include_extras=True)
    fields = {f.name: _inner(hints[f.name]) for f in msgspec.structs.fields(struct)}
    return {**fields, "type": None} if struct in EVENT_TYPES else fields


def _inner(hint: Any) -> type[msgspec.Struct] | None:
    if get_origin(hint) is Annotated:
        return _inner(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType, list):
        return next((found for arm in get_args(hint) if (found := _inner(arm))), None)
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None


def _sort_out(value: dict[str, Any], struct: type[msgspec.Struct], path: str, unknown: dict[str, Any]) -> bool:
    """Move keys that ``struct`` does not declare from ``value`` to ``unknown``; return whether one was reserved."""
    fields = _fields(struct)
    reserved = False
    for key in [k for k in value if k not in fields]:
        reserved = reserved or key.startswith("_")
        unknown[free_key(unknown, path + key)] = value.pop(key)
    for key, inner in fields.items():
        if inner is None or not (item := value.get(key)):
            continue
        if type(item) is dict:
            reserved = _sort_out(item, inner, f"{path}{key}.", unknown) or reserved
        elif type(item) is list:
            for i, one in enumerate(item):
                if type(one) is dict:
                    reserved = _sort_out(one, inner, f"{path}{key}.{i}.", unknown) or reserved
    return reserved


def _not_finite(value: Any, struct: type[msgspec.Struct] | None, path: str = "") -> str | None:
    """Return the declared field that holds NaN, an infinity or a number beyond float; None where all are finite."""
    if isinstance(value, float):
        return (path or "extra") if not math.isfinite(value) else None
    if type(value) is list:
        return next((p for item in value if (p := _not_finite(item, struct, path)) is not None), None)
    if type(value) is not dict:
        return None
    fields = _fields(struct) if struct else {}
    for key, item in value.items():
        if type(item) in (str, int, bool, type(None)):
            continue
        here = path if struct is None else ".".join(filter(None, (path, key))) if key in fields else "extra"
        if (found := _not_finite(item, fields.get(key), here)) is not None:
            return found
    return None


def _reason(message: str) -> Reject:
    """Turn msgspec's message (0.22; pinned by the corpus) into a reason of the closed list."""
    found = _PATH.search(message)
    indexed = found.group(1) if found else ""
    path = re.sub(r"\[[^\]]*\]", "", indexed)
    if "missing required field" in message:
        field = _FIELD.search(message)
        name = field.group(1) if field else ""
        return Reject(f"missing:{path}.{name}" if path else f"missing:{name}", "required")
    if "Invalid enum value" in message:
        return Reject(f"range:{path}", f"{indexed}: not one of the values that the schema lists")
    detail = message.split(" - at ")[0].replace("`", "")
    bound = " >= " in message or " <= " in message or "out of range" in message
    return Reject(f"{'range' if bound else 'type'}:{path or 'type'}", f"{indexed}: {detail}")


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
