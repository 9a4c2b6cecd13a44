"""Converts the fields that an app gives into the shape that the server accepts.

The cleaners are compiled from the declarations in ``event.py``: a type, a limit or a closed list is stated only there.
A value that does not fit its field is removed (the event is kept) and counted; numbers and short words that are no
content are kept in ``extra``.
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
# The field that a plain value is put into where a struct is declared.
_PLAIN_VALUE_FIELD = {
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
# Their invalid texts may be content, so they never reach `extra`.
_CONTENT = ("content", "tools", "retrieval", "prompt", "error", "comment", "edited", "explanation")


class DoesNotFit(Exception):  # noqa: N818 - only raised and caught inside this module
    """The value does not fit its field."""


Rejected = Dict[str, Any]
_Clean = Callable[[Any, str, Rejected], Any]


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
        removed = value.encode("utf-8").translate(None, _CONTROLS)
    except UnicodeEncodeError:
        removed = b"?"
    if removed:
        value = _BAD.sub("\ufffd", value.replace("\r\n", "\n"))
    return str(value)


def dump_without_warnings(dump: Callable[..., Any]) -> Any:
    """The result of a pydantic-like ``model_dump``, without its warnings about unexpected values."""
    try:
        return dump(warnings=False)
    except TypeError:
        return dump()


def mapping_of(value: Any) -> Optional[Mapping[str, Any]]:
    """``value`` as a mapping, where it can be read as one (dict, struct, pydantic model, dataclass), else None."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        return {f: v for f in value.__struct_fields__ if (v := getattr(value, f)) is not msgspec.UNSET}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dump_without_warnings(dump)
        return dumped if isinstance(dumped, Mapping) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return None


def json_of(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON that the server accepts: finite numbers, text keys, bounded depth."""
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
    """A plain number from one of numpy, Decimal and so on; a boolean or a text is not a number."""
    if type(value) in (int, float):
        return value
    if isinstance(value, (bool, str, bytes)) or type(value).__name__ in ("bool_", "bool"):
        raise DoesNotFit
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise DoesNotFit from None


def _int(low: Optional[int], high: Optional[int]) -> _Clean:
    def clean(value: Any, path: str, rejected: Rejected) -> int:
        value = _number(value)
        if isinstance(value, float):
            if not value.is_integer():
                raise DoesNotFit
            value = int(value)
        if (low is not None and value < low) or (high is not None and value > high):
            raise DoesNotFit
        return int(value)

    return clean


def _float(low: Optional[float], high: Optional[float]) -> _Clean:
    def clean(value: Any, path: str, rejected: Rejected) -> float:
        try:
            number = float(_number(value))
        except OverflowError:
            raise DoesNotFit from None
        if not math.isfinite(number) or (low is not None and number < low) or (high is not None and number > high):
            raise DoesNotFit
        return number

    return clean


def _str(least: int, most: Optional[int]) -> _Clean:
    def clean(value: Any, path: str, rejected: Rejected) -> str:
        text = text_of(value)
        if most is not None and len(text) > most:
            text = text[:most]
        if len(text) < least:
            raise DoesNotFit
        return text

    return clean


def _bool(value: Any, path: str, rejected: Rejected) -> bool:
    if type(value).__name__ == "bool_":
        value = bool(value)
    if not isinstance(value, bool):
        raise DoesNotFit
    return value


def _literal(values: Tuple[Any, ...]) -> _Clean:
    def clean(value: Any, path: str, rejected: Rejected) -> Any:
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str) and value not in values:
            value = value.strip().lower()
        if isinstance(value, bool) or value not in values:
            raise DoesNotFit
        return value

    return clean


def _time(value: Any, path: str, rejected: Rejected) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        except ValueError:
            raise DoesNotFit from None
    if isinstance(value, datetime):
        try:
            return value.astimezone(timezone.utc)
        except (OverflowError, OSError, ValueError):
            raise DoesNotFit from None
    number = _number(value)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise DoesNotFit
        number = round(number * 1000) if abs(number) < 1e11 else round(number)
    if not -62_135_596_800_000 <= number <= 253_402_300_799_999:
        raise DoesNotFit
    return number


def _uuid(value: Any, path: str, rejected: Rejected) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else _refuse()
    except ValueError:
        raise DoesNotFit from None


def _refuse() -> Any:
    raise DoesNotFit


def _json(value: Any, path: str, rejected: Rejected) -> Dict[str, Any]:
    if mapping_of(value) is None:
        raise DoesNotFit
    cleaned: Dict[str, Any] = json_of(value)
    return cleaned


def _list(item: _Clean, most: Optional[int]) -> _Clean:
    limit = most or MAX_ITEMS

    def clean(value: Any, path: str, rejected: Rejected) -> List[Any]:
        if isinstance(value, (str, bytes)) or mapping_of(value) is not None or not hasattr(value, "__iter__"):
            value = [value]
        out: List[Any] = []
        for i, one in enumerate(value):
            if len(out) >= limit:
                break
            if one is None:
                continue
            try:
                out.append(item(one, f"{path}.{i}", rejected))
            except DoesNotFit:
                rejected[f"{path}.{i}"] = one
        return out

    return clean


def _struct(info: mi.StructType) -> _Clean:
    fields = {f.encode_name: _cleaner(f.type) for f in info.fields}
    field = _PLAIN_VALUE_FIELD.get(info.cls)

    def clean(value: Any, path: str, rejected: Rejected) -> Dict[str, Any]:
        found = mapping_of(value)
        if found is None:
            if field is None:
                raise DoesNotFit
            found = {field: value}
        out: Dict[str, Any] = {}
        prefix = path + "." if path else ""
        for name, one in found.items():
            if one is None or one is msgspec.UNSET:
                continue
            cleaner = fields.get(name)
            if cleaner is None:
                if not (path == "" and name == "type"):
                    rejected[f"{prefix}{name}"] = one
                continue
            try:
                cleaned = cleaner(one, f"{prefix}{name}", rejected)
            except Exception:  # noqa: BLE001 - DoesNotFit, or an object of the app that raises when it is read
                rejected[f"{prefix}{name}"] = one
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


def clean(kind: str, raw: Mapping[str, Any]) -> Tuple[Dict[str, Any], Rejected]:
    """``raw`` in the shape of the wire format, and the values that did not fit.

    Args:
        kind: call, feedback or eval.
        raw: fields by their wire names, nested as on the wire.

    Returns:
        The event as builtins, without ``type``; and ``{path: value}`` of every value that was removed.
    """
    rejected: Rejected = {}
    event: Dict[str, Any] = CLEANERS[kind](raw, "", rejected)
    return event, rejected


def may_keep(path: str, value: Any, *, texts_too: bool) -> bool:
    """Whether a removed value may be kept in ``extra``: numbers always, texts only where they cannot be content."""
    if isinstance(value, (bool, int, float)):
        return True
    return texts_too and path.split(".", 1)[0] not in _CONTENT
