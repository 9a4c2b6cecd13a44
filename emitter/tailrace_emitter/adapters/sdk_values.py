"""Objects of SDKs as dicts and lists, without the SDKs' serialisation, which fails or is slow for types of the app."""

from typing import Any, Dict, List, Mapping

Json = Dict[str, Any]
_APP_TYPES = frozenset(("parsed", "parsed_arguments", "parsed_output"))
"""Attributes that hold an object of the app's own type; the text it was parsed from is another attribute."""
_DEPTH = 32


def plain(value: Any) -> Json:
    """A model of an SDK (or a mapping) as a dict; empty for anything else."""
    found = _walk(value, 0)
    return found if isinstance(found, dict) else {}


def as_dict(value: Any) -> Json:
    """``value`` where it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> List[Json]:
    """The items of a list, each as a dict; empty for anything else."""
    return [as_dict(v) for v in value] if isinstance(value, (list, tuple)) else []


def part(value: Any, name: str) -> Any:
    """An item of a mapping or an attribute of an object; None where there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def reported(fields: Json) -> Json:
    """The fields without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def _walk(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (str, bytes, int, float)) or depth > _DEPTH:
        return value
    if isinstance(value, Mapping):
        return {k: _walk(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walk(v, depth + 1) for v in value]
    if hasattr(value, "__pydantic_fields_set__"):
        found = {k: _walk(v, depth + 1) for k, v in value.__dict__.items() if k not in _APP_TYPES}
        found.update((k, _walk(v, depth + 1)) for k, v in (value.__pydantic_extra__ or {}).items())
        return found
    return value
