"""The fields of an event that hold free text, found in its declaration (``text=True`` in ``tailrace_emitter.event``).

Redaction in the app, the size limits and redaction at ingest all work on these fields, so none of them can miss a field
that is declared as text.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Tuple, Type, Union, get_args

import msgspec

from tailrace_emitter.event import EVENT_TYPES


class TextField(NamedTuple):
    """One declared field that holds text.

    ``path`` is its names from the event down; a list in the path means each of its items. ``json`` fields hold a
    JSON object, each string of which is text.
    """

    path: Tuple[str, ...]
    json: bool


class Text(NamedTuple):
    """One text of an event: ``holder[name]`` of a dict or a list, or the attribute ``name`` of a struct."""

    holder: Any
    name: Union[str, int]
    field: TextField


# name -> the field itself, or the plan of what is inside it
_Plan = Dict[str, Union[TextField, "_Plan"]]


def _structs(hint: Any) -> Iterator[Type[msgspec.Struct]]:
    if isinstance(hint, type):
        if issubclass(hint, msgspec.Struct):
            yield hint
        return
    for inner in get_args(hint):
        yield from _structs(inner)


def _holds_json(hint: Any) -> bool:
    return any(getattr(inner, "__origin__", inner) is dict or _holds_json(inner) for inner in get_args(hint))


def _plan(struct: Type[msgspec.Struct], path: Tuple[str, ...] = ()) -> _Plan:
    plan: _Plan = {}
    for base in reversed(struct.__mro__):
        for name, hint in getattr(base, "__annotations__", {}).items():
            metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
            if any((m.extra or {}).get("text") for m in metas):
                plan[name] = TextField((*path, name), _holds_json(hint))
            for inner in _structs(hint):
                if inside := _plan(inner, (*path, name)):
                    plan[name] = inside
    return plan


def _fields(plan: _Plan) -> Iterator[TextField]:
    for inside in plan.values():
        if isinstance(inside, TextField):
            yield inside
        else:
            yield from _fields(inside)


_PLANS = {str(struct.__struct_config__.tag): _plan(struct) for struct in EVENT_TYPES}
# an event with a misspelled type must not leave the process unredacted
_ANY_TYPE: _Plan = {name: inside for plan in reversed(list(_PLANS.values())) for name, inside in plan.items()}


def text_fields(kind: str) -> Tuple[TextField, ...]:
    """Return the text fields of an event type, in the order of their declaration.

    Raises:
        KeyError: there is no such event type.
    """
    return tuple(_fields(_PLANS[kind]))


def _find(holder: Any, plan: _Plan, found: List[Text]) -> None:
    mapping = isinstance(holder, dict)
    for name, inside in plan.items():
        value = holder.get(name) if mapping else getattr(holder, name, None)
        if value is None or value is msgspec.UNSET:
            continue
        if isinstance(inside, TextField):
            found.append(Text(holder, name, inside))
        elif isinstance(value, str):
            found.append(Text(holder, name, next(_fields(inside))))
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, str):
                    found.append(Text(value, at, next(_fields(inside))))
                elif item is not None:
                    _find(item, inside, found)
        else:
            _find(value, inside, found)


def texts(event: Any, kind: str) -> List[Text]:
    """Return the texts of ``event``, a struct or a mapping in the wire's shape.

    A string that is found where an object or a list is declared is returned too: it is text of an invalid event.
    Values that are absent or null are left out. An event of an unknown type has the text fields of all types.
    """
    found: List[Text] = []
    _find(event, _PLANS.get(kind, _ANY_TYPE), found)
    return found
