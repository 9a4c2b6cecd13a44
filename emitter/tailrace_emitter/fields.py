"""Converts the arguments of a call (``call(model=..., input_tokens=12, output="hi")``) to the nested wire format.

Every column name of the lake works as a flat argument (``input_tokens``, ``latency_ms``, ``temperature``,
``prompt_version``, ``error_type`` ...), see ``field_names``. A few more are accepted:
``input`` or ``messages`` (a text or a conversation), ``output``, ``system``, ``usage`` (a provider's own usage
object), ``error`` (an exception or a text), ``latency`` as a number of milliseconds.
Where a field is given under two names, the declared name wins, then the first; the other value is kept as unknown.
"""

import itertools
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, Optional, Tuple

import msgspec

from tailrace_emitter.adapters.usage import CALL_FIELDS, tokens_of
from tailrace_emitter.clean import mapping_of, text_of
from tailrace_emitter.field_names import ACCEPTED
from tailrace_emitter.span import ARGUMENTS

_PLACEHOLDERS = (
    ("image", "[image]"),
    ("audio", "[audio]"),
    ("file", "[file]"),
    ("video", "[video]"),
    ("document", "[file]"),
)
_SYSTEM = ("system", "developer")
_DEPTH, _ITEMS = 4, 100
_SECRET = re.compile(
    r"passw|secret|credential|authori[sz]ation|cookie|(?:api|private|access)[_-]?key|token$", re.IGNORECASE
)
"""Names of arguments whose values are secrets and no input of a model."""
_HIDDEN = "[secret]"
_INPUT = ("input", "messages", "input_text")


def _flat_names() -> Dict[str, Tuple[str, str]]:
    split = ((name, path.partition(".")) for name, path in ACCEPTED["call"].items())
    return {name: (struct, part) for name, (struct, _, part) in split}


FLAT = _flat_names()


def part_text(part: Any) -> str:
    """One part of a message as text; what is not text becomes ``[image]``, ``[audio]``, ``[file]``."""
    if isinstance(part, str):
        return part
    found = mapping_of(part)
    if found is None:
        return text_of(part)
    kind = str(found.get("type", ""))
    for word, placeholder in _PLACEHOLDERS:
        if word in kind:
            return placeholder
    for name in ("text", "refusal", "output", "thinking"):
        if isinstance(found.get(name), str):
            return str(found[name])
    if "content" in found:
        return parts_text(found["content"])
    if kind in ("tool_use", "function_call"):
        return text_of({k: found[k] for k in ("name", "input", "arguments") if k in found})
    return f"[{kind}]" if kind else text_of(dict(found))


def parts_text(content: Any) -> str:
    """The text of a message's ``content``: a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, (list, tuple)):
        return "\n".join(part_text(p) for p in content)
    return part_text(content)


def conversation(messages: Any) -> Tuple[List[Dict[str, str]], Optional[str]]:
    """A conversation in any provider's format as ``[{role, text}]``, and the system text at its beginning."""
    if isinstance(messages, (str, bytes)) or mapping_of(messages) is not None or not hasattr(messages, "__iter__"):
        messages = [messages]
    turns: List[Dict[str, str]] = []
    system: List[str] = []
    for message in messages:
        if message is None:
            continue
        found = mapping_of(message)
        if found is None:
            turns.append({"role": "user", "text": text_of(message)})
            continue
        role = found.get("role") or ("tool" if "call_id" in found or "tool_call_id" in found else "user")
        body = found.get("text")
        if not isinstance(body, str) and "content" in found:
            body = found["content"]
        elif body is None:
            body = found if "type" in found else ""
        text = parts_text(body)
        calls = found.get("tool_calls")
        if not text and isinstance(calls, (list, tuple)):
            names = [(mapping_of((mapping_of(c) or {}).get("function")) or {}).get("name") for c in calls]
            text = " ".join(f"[tool {n}]" for n in names if n)
        if role in _SYSTEM and not turns:
            system.append(text)
        else:
            turns.append({"role": text_of(role), "text": text})
    return turns, "\n\n".join(system) if system else None


def arguments_input(given: Mapping[str, Any]) -> Any:
    """The input of a function that was called with these arguments: the only one if it is a text or a conversation,
    else all by name, as JSON. An object that is no plain value is shown by the name of its type only.

    A value whose name is that of a secret stays out: it is no input of a model, and no redaction pattern recognises a
    password.
    """
    if len(given) == 1 and not any(map(_names_secret, given)):
        (only,) = given.values()
        if isinstance(only, str):
            return only
        if isinstance(only, (list, tuple)) and only and all(isinstance(m, Mapping) and "content" in m for m in only):
            return list(only)
    return text_of({name: _HIDDEN if _names_secret(name) else _plain(value) for name, value in given.items()})


def _names_secret(name: Any) -> bool:
    return isinstance(name, str) and _SECRET.search(name) is not None


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if depth < _DEPTH and isinstance(value, Mapping):
        shown = itertools.islice(value.items(), _ITEMS)
        return {text_of(name): _HIDDEN if _names_secret(name) else _plain(one, depth + 1) for name, one in shown}
    if depth < _DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one, depth + 1) for one in list(value)[:_ITEMS]]
    return f"<{type(value).__name__}>"


def error_of(error: Any) -> Any:
    """An exception as the wire's error; anything else as it is."""
    if not isinstance(error, BaseException):
        return error
    code = getattr(error, "code", None) or getattr(error, "status_code", None)
    out = {"type": type(error).__name__, "message": text_of(error)}
    if isinstance(code, (str, int)):
        out["code"] = str(code)
    return out


def _put(nested: Dict[str, Any], struct: str, name: str, value: Any, alias: str) -> None:
    holder = nested.get(struct)
    if not isinstance(holder, dict):
        found = None if holder is None else mapping_of(holder)
        holder = nested[struct] = dict(found) if found is not None else ({} if holder is None else {"": holder})
    if holder.setdefault(name, value) is not value and alias:
        nested[alias] = value


def _move_to_call(nested: Dict[str, Any]) -> None:
    """Move the parts of a usage object that belong to the call to the call; values that the app gave win."""
    tokens = nested.get("tokens")
    if isinstance(tokens, dict) and not tokens.keys().isdisjoint(CALL_FIELDS):
        for name in CALL_FIELDS:
            if name == "units" and isinstance(nested.get(name), list) and isinstance(tokens.get(name), list):
                nested[name] = [*nested[name], *tokens[name]]
            elif tokens.get(name) is not None and nested.get(name) is None:
                nested[name] = tokens[name]
        nested["tokens"] = {name: value for name, value in tokens.items() if name not in CALL_FIELDS}


def nest_call(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a call, nested as on the wire; not yet validated."""
    nested, late = _by_place(fields)
    given = nested.get("content")
    if isinstance(given, dict) and "messages" in given and given.get("input") is None:
        given["input"] = given.pop("messages")
    for struct, part, value, alias in late:
        if struct == "latency" and not isinstance(nested.get(struct, {}), dict):
            nested[struct] = {"total_ms": nested[struct]}
        _put(nested, struct, part, value, alias)
    _move_to_call(nested)
    _split_conversation(nested.get("content"))
    return nested


def _by_place(fields: Mapping[str, Any]) -> Tuple[Dict[str, Any], List[Tuple[str, str, Any, str]]]:
    """The fields by their names on the wire, and what is put into one: (field, part of it, value, name as given)."""
    nested: Dict[str, Any] = {}
    late: List[Tuple[str, str, Any, str]] = []
    arguments: Any = None
    for name, value in fields.items():
        if value is None or value is msgspec.UNSET:
            continue
        if name in _INPUT or (name == "prompt" and isinstance(value, str)):
            late.append(("content", "input", value, name))
        elif name in ("output", "system"):
            late.append(("content", name, parts_text(value) if isinstance(value, (list, tuple)) else value, name))
        elif name == ARGUMENTS:
            arguments = arguments_input(value)
        elif name == "usage":
            late.extend(("tokens", k, v, "") for k, v in tokens_of(value).items())
        elif name == "error":
            nested["error"] = error_of(value)
            nested.setdefault("status", "error")
        elif name in FLAT:
            struct, part = FLAT[name]
            if part:
                late.append((struct, part, value, name))
            elif nested.setdefault(struct, fields.get(struct) or value) is not value:
                nested[name] = value
        else:
            nested[name] = value
    if arguments is not None:
        late.append(("content", "input", arguments, ""))
    return nested, late


def _split_conversation(content: Any) -> None:
    """Make turns of the input of ``content`` in place, and its system prompt where none was given."""
    if isinstance(content, dict) and content.get("input") is not None:
        turns, system = conversation(content["input"])
        content["input"] = turns
        if system is not None and not content.get("system"):
            content["system"] = system


def nest_feedback(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a feedback; ``thumbs=True``, ``rating=0.8`` and ``user_id`` are accepted as short forms."""
    nested = {("user" if k == "user_id" else k): v for k, v in fields.items() if v is not None}
    thumbs = nested.pop("thumbs", None)
    if thumbs is not None:
        nested.setdefault("kind", "thumbs")
        nested.setdefault("score", (1.0 if thumbs else -1.0) if isinstance(thumbs, bool) else thumbs)
    rating = nested.pop("rating", None)
    if rating is not None:
        nested.setdefault("kind", "rating")
        nested.setdefault("score", rating)
    if "kind" not in nested:
        nested["kind"] = "edit" if "edited" in nested else ("rating" if "score" in nested else "comment")
    return nested


def nest_eval(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of an eval; an exception as ``error`` becomes its text, flat names are nested."""
    nested: Dict[str, Any] = {}
    flat = ACCEPTED["eval"]
    for name, value in sorted(fields.items(), key=lambda item: item[0] in flat):
        if value is None:
            continue
        struct, _, part = flat.get(name, "").partition(".")
        if part:
            _put(nested, struct, part, value, name)
        else:
            nested[name] = value
    if isinstance(nested.get("error"), BaseException):
        nested["error"] = f"{type(nested['error']).__name__}: {nested['error']}"
    return nested


NEST = {"call": nest_call, "feedback": nest_feedback, "eval": nest_eval}


def start_time(ts_ns: int, nested: Mapping[str, Any], *, ended: bool) -> datetime:
    """When the request began: the moment of recording, less the latency where the call had ended by then."""
    begun = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=ts_ns // 1000)
    latency = nested.get("latency")
    total = latency.get("total_ms") if isinstance(latency, dict) else latency
    if ended and isinstance(total, (int, float)) and not isinstance(total, bool) and 0 <= total < 86_400_000:
        begun -= timedelta(milliseconds=total)
    return begun
