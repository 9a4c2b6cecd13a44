"""Fields that were given under another name: accepted where that is certain, else flagged. Pure; on the slow way only.

The accepted names are in ``tailrace_emitter.field_names``. The field itself wins over an alias of it. A value that does
not fit makes the event dead only under the field's own name; under an alias it stays in ``extra``, as it did before the
alias was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.decode.reasons import UNKNOWN_FIELD
from tailrace_emitter.field_names import ACCEPTED, cleaned, is_declared, meant, unknown_fields
from tailrace_emitter.fields import conversation

Event = dict[str, Any]
TRIES = 4
"""Aliases whose value does not fit are withdrawn one by one, the rest of them at once with the last try."""


def move_aliases(event: Event, kind: str) -> dict[str, Any]:
    """Move each value with an accepted name to its field, in place; return alias -> value of what was moved."""
    moved: dict[str, Any] = {}
    for alias in [key for key in event if key in ACCEPTED[kind]]:
        if event[alias] is None:
            del event[alias]  # not reported
        elif _put(event, ACCEPTED[kind][alias], event[alias]):
            moved[alias] = event.pop(alias)
    content = event.get("content")
    if kind == "call" and type(content) is dict:
        if "messages" in content and _put(event, "content.input", content["messages"]):
            moved["content.messages"] = content.pop("messages")
        elif _is_spelled_otherwise(content.get("input")):
            _put_conversation(content, content["input"])
    return moved


def undo_alias(event: Event, kind: str, moved: dict[str, Any], field: str | None) -> bool:
    """Undo ``move_aliases`` for the aliases of ``field``, for all where it is None; return whether there was one."""
    targets = {alias: ACCEPTED[kind][alias] for alias in moved}
    wrong = [a for a, path in targets.items() if field is None or field == path or field.startswith(path + ".")]
    for alias in wrong:
        holder, _, name = targets[alias].rpartition(".")
        (event[holder] if holder else event).pop(name, None)
        event[alias] = moved.pop(alias)
    return bool(wrong)


def flags_of(kind: str, unknown: Iterable[str]) -> tuple[str, ...]:
    """Return a flag for each of the first few ``unknown`` paths that look like a field."""
    return tuple(f"{UNKNOWN_FIELD}:{cleaned(path)}" for path in unknown_fields(kind, unknown))


def emitter_flags(kind: str, names: Any) -> tuple[str, ...]:
    """Return the flags of the unknown fields that an emitter has named; any producer can, so they are checked again."""
    return flags_of(kind, [name for name in names if type(name) is str]) if type(names) is list else ()


def suggestion(flag: str, kind: str) -> str:
    """Return the name in a flag of ``flags_of``, and the field that was most likely meant, for a person to read."""
    name = flag.removeprefix(f"{UNKNOWN_FIELD}:")
    field = meant(kind, name)
    if field is None:
        return name
    if name in ACCEPTED[kind]:
        return f"{name} (its value does not fit {field}, or {field} is given as well)"
    if is_declared(kind, name):
        return f"{name} (its value does not fit the field)"
    return f"{name} (did you mean {field}?)"


def _put(event: Event, path: str, value: Any) -> bool:
    """Set ``path``, made of at most two names, unless it is set already or ``value`` cannot be what it holds."""
    struct, _, name = path.rpartition(".")
    holder = event if not struct else {} if event.get(struct) is None else event[struct]
    if type(holder) is not dict or holder.get(name) is not None:
        return False
    if path != "content.input":
        holder[name] = value
    elif _is_conversation(value):
        _put_conversation(holder, value)
    else:
        return False
    if struct:
        event[struct] = holder
    return True


def _put_conversation(content: Event, value: Any) -> None:
    turns, system = conversation(value)
    content["input"] = turns
    if system is not None and content.get("system") is None:
        content["system"] = system
    elif system is not None:
        turns.insert(0, {"role": "system", "text": system})


def _is_conversation(value: Any) -> bool:
    """Whether ``value`` is a text or turns of which the text is found; anything else would lose what it holds."""
    turns = value if type(value) is list else [value]
    return all(
        type(turn) is str or (type(turn) is dict and ("content" in turn or type(turn.get("text")) is str))
        for turn in turns
    )


def _is_spelled_otherwise(turns: Any) -> bool:
    """Whether a conversation has turns in the form of chat APIs: ``content`` instead of ``text``."""
    return (
        type(turns) is list
        and _is_conversation(turns)
        and any(type(turn) is dict and "content" in turn and turn.get("text") is None for turn in turns)
    )
