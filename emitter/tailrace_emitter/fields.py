"""From what a person writes (``call(model=..., input_tokens=12, output="hi")``) to the wire's nesting.

Every column name of the lake works as a flat argument (``input_tokens``, ``latency_ms``, ``temperature``,
``prompt_version``, ``error_type`` ...): the table is read off ``event.py``. A few more say the obvious:
``input`` or ``messages`` (a text or a conversation), ``output``, ``system``, ``usage`` (a provider's own usage
object), ``error`` (an exception or a text), ``latency`` as a number of milliseconds.
"""

from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, Optional, Tuple

import msgspec
from msgspec import inspect as mi

from tailrace_emitter import event as ev
from tailrace_emitter.adapters.usage import tokens_of
from tailrace_emitter.clean import mapping_of, text_of

_PLACEHOLDERS = (
    ("image", "[image]"),
    ("audio", "[audio]"),
    ("file", "[file]"),
    ("video", "[video]"),
    ("document", "[file]"),
)
_SYSTEM = ("system", "developer")


def _flat_names() -> Dict[str, Tuple[str, str]]:
    flat: Dict[str, Tuple[str, str]] = {}
    info = mi.type_info(ev.Call)
    assert isinstance(info, mi.StructType)
    top = {f.encode_name for f in info.fields}
    for field in info.fields:
        inner = field.type.type if isinstance(field.type, mi.Metadata) else field.type
        types = inner.types if isinstance(inner, mi.UnionType) else (inner,)
        struct = next((t for t in types if isinstance(t, mi.StructType)), None)
        if struct is None:
            extra = (field.type.extra if isinstance(field.type, mi.Metadata) else None) or {}
            if "lake" in extra and extra["lake"] not in top:
                flat[extra["lake"]] = (field.encode_name, "")
            continue
        for part in struct.fields:
            extra = (part.type.extra if isinstance(part.type, mi.Metadata) else None) or {}
            name = extra.get("lake", f"{field.encode_name}_{part.encode_name}")
            if name not in top:
                flat[name] = (field.encode_name, part.encode_name)
    del flat["messages"]
    return flat


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
    """A conversation in any provider's spelling as ``[{role, text}]``, and the system text that opens it."""
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
        body = found["content"] if "content" in found else found.get("text", found if "type" in found else "")
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


def error_of(error: Any) -> Any:
    """An exception as the wire's error; anything else as it is."""
    if not isinstance(error, BaseException):
        return error
    code = getattr(error, "code", None) or getattr(error, "status_code", None)
    out = {"type": type(error).__name__, "message": text_of(error)}
    if isinstance(code, (str, int)):
        out["code"] = str(code)
    return out


def _put(nested: Dict[str, Any], struct: str, name: str, value: Any) -> None:
    holder = nested.get(struct)
    if not isinstance(holder, dict):
        found = None if holder is None else mapping_of(holder)
        holder = nested[struct] = dict(found) if found is not None else ({} if holder is None else {"": holder})
    holder.setdefault(name, value)


def nest_call(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a call, nested as on the wire; not yet clean."""
    nested: Dict[str, Any] = {}
    content: Dict[str, Any] = {}
    late: List[Tuple[str, str, Any]] = []
    for name, value in fields.items():
        if value is None or value is msgspec.UNSET:
            continue
        if name in ("input", "messages") or (name == "prompt" and isinstance(value, str)):
            content.setdefault("input", value)
        elif name in ("output", "system"):
            content[name] = parts_text(value) if isinstance(value, (list, tuple)) else value
        elif name == "usage":
            late.extend(("tokens", k, v) for k, v in tokens_of(value).items())
        elif name == "error":
            nested["error"] = error_of(value)
            nested.setdefault("status", "error")
        elif name in FLAT:
            struct, part = FLAT[name]
            if part:
                late.append((struct, part, value))
            else:
                nested.setdefault(struct, value)
        elif name == "status":
            nested["status"] = value
        else:
            nested[name] = value
    for name, value in content.items():
        late.append(("content", name, value))
    for struct, part, value in late:
        if struct == "latency" and not isinstance(nested.get(struct, {}), dict):
            nested[struct] = {"total_ms": nested[struct]}
        _put(nested, struct, part, value)
    said = nested.get("content")
    if isinstance(said, dict) and said.get("input") is not None:
        turns, system = conversation(said["input"])
        said["input"] = turns
        if system is not None and not said.get("system"):
            said["system"] = system
    return nested


def nest_feedback(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a feedback; ``thumbs=True``, ``rating=0.8`` and ``user_id`` say the obvious."""
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
    """The fields of an eval; an exception as ``error`` becomes its text."""
    nested = {k: v for k, v in fields.items() if v is not None}
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
