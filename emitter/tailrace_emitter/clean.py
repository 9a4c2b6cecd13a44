"""Brings whatever an app says into the shape the server accepts.

The cleaners are compiled from the declarations in ``event.py``: a type, a limit or a closed list is stated
there and nowhere else. What does not fit its field is taken out of it (never the event with it) and counted;
numbers and short words that are no content are kept in ``extra``.
"""

import dataclasses
import json
import math
import operator
import re
import uuid
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import msgspec
from msgspec import inspect as mi

from tailrace_emitter import event as ev

MAX_ITEMS = 1000
MAX_DEPTH = 6
_CONTROLS = bytes(b for b in range(256) if (b >= 0x20 and b != 0x7F) or b in b"\t\n")
_BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# What a bare value means where a struct is declared.
_BARE = {
    ev.Tool: "name",
    ev.Doc: "text",
    ev.Guardrail: "name",
    ev.Message: "text",
    ev.Error: "message",
    ev.Evaluator: "name",
    ev.Cache: "kind",
    ev.Latency: "total_ms",
    ev.Content: "output",
}
# Their stray words may be content, so they never reach `extra`.
_CONTENT = ("content", "tools", "retrieval", "prompt", "error", "comment", "edited", "explanation")


class Unfit(Exception):  # noqa: N818 - a signal between cleaners, never seen outside
    """The value does not fit its field."""


Strays = Dict[str, Any]
_Clean = Callable[[Any, str, Strays], Any]


def text_of(value: Any) -> str:
    """``value`` as text that UTF-8 and JSON can carry: no lone surrogates, no control characters."""
    if not isinstance(value, str):
        if isinstance(value, Enum):
            return text_of(value.value)
        if isinstance(value, (bytes, bytearray)):
            value = bytes(value[:1_000_000]).decode("utf-8", "replace")
        elif isinstance(value, (dict, list, tuple)):
            value = json.dumps(value, default=str, ensure_ascii=False)
        else:
            value = str(value)
    try:
        dirty = value.encode("utf-8").translate(None, _CONTROLS)
    except UnicodeEncodeError:
        dirty = b"?"
    if dirty:
        value = _BAD.sub("\ufffd", value.replace("\r\n", "\n"))
    return str(value)


def dumped_quietly(dump: Callable[..., Any]) -> Any:
    """What a pydantic-like ``model_dump`` gives, without its warnings about odd answers."""
    try:
        return dump(warnings=False)
    except TypeError:
        return dump()


def mapping_of(value: Any) -> Optional[Mapping[str, Any]]:
    """``value`` as a mapping, where it is one at heart (dict, struct, pydantic model, dataclass), else None."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        return {f: v for f in value.__struct_fields__ if (v := getattr(value, f)) is not msgspec.UNSET}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dumped_quietly(dump)
        return dumped if isinstance(dumped, Mapping) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return None


def json_of(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON the server accepts: finite numbers, text keys, bounded depth."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= ev.MAX_SAFE_INT else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if depth < MAX_DEPTH:
        found = mapping_of(value)
        if found is not None:
            pairs = list(found.items())[:MAX_ITEMS]
            return {(text_of(k).lstrip("_") or "unnamed")[: ev.NAME_CHARS]: json_of(v, depth + 1) for k, v in pairs}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [json_of(v, depth + 1) for v in list(value)[:MAX_ITEMS]]
    if hasattr(value, "item") and callable(value.item):
        return json_of(value.item(), MAX_DEPTH)
    return text_of(value)


def _number(value: Any) -> Any:
    """A number out of numpy, Decimal and the like; booleans and texts are none."""
    if type(value) in (int, float):
        return value
    if isinstance(value, (bool, str, bytes)) or type(value).__name__ in ("bool_", "bool"):
        raise Unfit
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unfit from None


def _int(low: Optional[int], high: Optional[int]) -> _Clean:
    def clean(value: Any, path: str, strays: Strays) -> int:
        value = _number(value)
        if isinstance(value, float):
            if not value.is_integer():
                raise Unfit
            value = int(value)
        if (low is not None and value < low) or (high is not None and value > high):
            raise Unfit
        return int(value)

    return clean


def _float(low: Optional[float], high: Optional[float]) -> _Clean:
    def clean(value: Any, path: str, strays: Strays) -> float:
        try:
            number = float(_number(value))
        except OverflowError:
            raise Unfit from None
        if not math.isfinite(number) or (low is not None and number < low) or (high is not None and number > high):
            raise Unfit
        return number

    return clean


def _str(least: int, most: Optional[int]) -> _Clean:
    def clean(value: Any, path: str, strays: Strays) -> str:
        text = text_of(value)
        if most is not None and len(text) > most:
            text = text[:most]
        if len(text) < least:
            raise Unfit
        return text

    return clean


def _bool(value: Any, path: str, strays: Strays) -> bool:
    if type(value).__name__ == "bool_":
        value = bool(value)
    if not isinstance(value, bool):
        raise Unfit
    return value


def _literal(values: Tuple[Any, ...]) -> _Clean:
    def clean(value: Any, path: str, strays: Strays) -> Any:
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str) and value not in values:
            value = value.strip().lower()
        if isinstance(value, bool) or value not in values:
            raise Unfit
        return value

    return clean


def _time(value: Any, path: str, strays: Strays) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        except ValueError:
            raise Unfit from None
    if isinstance(value, datetime):
        try:
            return value.astimezone(timezone.utc)
        except (OverflowError, OSError, ValueError):
            raise Unfit from None
    number = _number(value)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise Unfit
        number = round(number * 1000) if abs(number) < 1e11 else round(number)
    if not -62_135_596_800_000 <= number <= 253_402_300_799_999:
        raise Unfit
    return number


def _uuid(value: Any, path: str, strays: Strays) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else _refuse()
    except ValueError:
        raise Unfit from None


def _refuse() -> Any:
    raise Unfit


def _json(value: Any, path: str, strays: Strays) -> Dict[str, Any]:
    if mapping_of(value) is None:
        raise Unfit
    cleaned: Dict[str, Any] = json_of(value)
    return cleaned


def _list(item: _Clean, most: Optional[int]) -> _Clean:
    limit = most or MAX_ITEMS

    def clean(value: Any, path: str, strays: Strays) -> List[Any]:
        if isinstance(value, (str, bytes)) or mapping_of(value) is not None or not hasattr(value, "__iter__"):
            value = [value]
        out: List[Any] = []
        for i, one in enumerate(value):
            if len(out) >= limit:
                break
            if one is None:
                continue
            try:
                out.append(item(one, f"{path}.{i}", strays))
            except Unfit:
                strays[f"{path}.{i}"] = one
        return out

    return clean


def _struct(info: mi.StructType) -> _Clean:
    fields = {f.encode_name: _cleaner(f.type) for f in info.fields}
    bare = _BARE.get(info.cls)

    def clean(value: Any, path: str, strays: Strays) -> Dict[str, Any]:
        found = mapping_of(value)
        if found is None:
            if bare is None:
                raise Unfit
            found = {bare: value}
        out: Dict[str, Any] = {}
        prefix = path + "." if path else ""
        for name, one in found.items():
            if one is None or one is msgspec.UNSET:
                continue
            cleaner = fields.get(name)
            if cleaner is None:
                if not (path == "" and name == "type"):
                    strays[f"{prefix}{name}"] = one
                continue
            try:
                cleaned = cleaner(one, f"{prefix}{name}", strays)
            except Exception:  # noqa: BLE001 - Unfit, or an object of the app's that raises when looked at
                strays[f"{prefix}{name}"] = one
                continue
            if cleaned != {}:
                out[name] = cleaned
        return out

    return clean


def _cleaner(info: mi.Type) -> _Clean:
    if isinstance(info, mi.Metadata):
        return _cleaner(info.type)
    if isinstance(info, mi.UnionType):
        types = [t for t in info.types if not isinstance(t, mi.NoneType)]
        plain = [t.type if isinstance(t, mi.Metadata) else t for t in types]
        if any(isinstance(t, mi.DateTimeType) for t in plain):
            return _time
        return _cleaner(types[0])
    if isinstance(info, mi.StrType):
        return _str(info.min_length or 0, info.max_length)
    if isinstance(info, mi.IntType):
        return _int(info.ge, info.le)
    if isinstance(info, mi.FloatType):
        return _float(info.ge, info.le)
    if isinstance(info, mi.BoolType):
        return _bool
    if isinstance(info, mi.LiteralType):
        return _literal(tuple(info.values))
    if isinstance(info, mi.UUIDType):
        return _uuid
    if isinstance(info, mi.DictType):
        return _json
    if isinstance(info, mi.ListType):
        return _list(_cleaner(info.item_type), info.max_length)
    if isinstance(info, mi.StructType):
        return _struct(info)
    raise TypeError(f"event.py declares {info!r}, which clean.py cannot clean")


CLEANERS: Dict[str, _Clean] = {
    str(info.tag): _struct(info)
    for info in (mi.type_info(t) for t in ev.EVENT_TYPES)
    if isinstance(info, mi.StructType)
}


def clean(kind: str, raw: Mapping[str, Any]) -> Tuple[Dict[str, Any], Strays]:
    """``raw`` in the wire's shape, and what did not fit.

    Args:
        kind: call, feedback or eval.
        raw: fields by their wire names, nested as on the wire.

    Returns:
        The event as builtins, without ``type``; and ``{path: value}`` of everything left out.
    """
    strays: Strays = {}
    event: Dict[str, Any] = CLEANERS[kind](raw, "", strays)
    return event, strays


def keepable(path: str, value: Any, *, words: bool) -> bool:
    """Whether a stray may stand in ``extra``: numbers always, words only where they cannot be content."""
    if isinstance(value, (bool, int, float)):
        return True
    return words and path.split(".", 1)[0] not in _CONTENT
