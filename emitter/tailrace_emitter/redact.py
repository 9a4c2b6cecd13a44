"""Content modes: what of an event's text leaves the process.

``full`` as it is, ``redacted`` with placeholders (the default), ``hashed`` as keyed digests (equal texts stay
recognisable, nothing else), ``none`` not at all. Numbers are never touched.
The fields that follow the mode (schema.md 3.5, rule 6) are named once, in ``apply``.
"""

import hashlib
import hmac
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar, Union, cast

import msgspec

from tailrace_emitter.patterns import Redactor, find

__all__ = ["MODES", "Redactor", "apply", "digest", "find", "pseudonym", "redact_event"]

MODES = ("full", "redacted", "hashed", "none")
E = TypeVar("E")
_Text = Callable[[str], Optional[str]]
Key = Union[str, bytes, None]


def _key(key: Union[str, bytes]) -> bytes:
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key


def pseudonym(user: str, key: Union[str, bytes]) -> str:
    """The name under which ``user`` is stored: ``u_`` and 128 bits of HMAC-SHA256 under ``key``, as hex."""
    return "u_" + hmac.new(_key(key), user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def digest(text: str, key: Key = None) -> str:
    """The stand-in of ``text`` in mode ``hashed``: keyed where there is a key, since short texts can be guessed."""
    data = text.encode("utf-8", "surrogatepass")
    if key:
        return "hmac:" + hmac.new(_key(key), data, hashlib.sha256).hexdigest()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def walk(value: Any, text: _Text) -> Any:
    """``value`` (JSON) with ``text`` applied to every string, keys included; what gives None is left out."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        out: Dict[str, Any] = {}
        for k, v in value.items():
            key, changed = text(k), walk(v, text)
            if key is not None and (changed is not None or v is None):
                out[key] = changed
        return out
    if isinstance(value, (list, tuple)):
        return [c for c in (walk(v, text) for v in value) if c is not None]
    return value


def _at(holder: Any, name: str, text: _Text) -> None:
    """Apply ``text`` to one field of ``holder`` in place; a field that gives None is removed."""
    if not isinstance(holder, dict):
        return
    value = holder.get(name)
    if value is None:
        return
    changed = text(value) if isinstance(value, str) else None
    if changed is None:
        del holder[name]
    else:
        holder[name] = changed


def _each(holder: Any, name: str) -> "list[Any]":
    items = holder.get(name) if isinstance(holder, dict) else None
    return items if isinstance(items, list) else []


def visit(event: Dict[str, Any], text: _Text) -> None:
    """Apply ``text``, in place, to every string of ``event`` that follows the content mode."""
    content = event.get("content")
    for name in ("system", "output"):
        _at(content, name, text)
    for message in _each(content, "input"):
        _at(message, "text", text)
    for tool in _each(event, "tools"):
        _at(tool, "args", text)
    retrieval = event.get("retrieval")
    _at(retrieval, "query", text)
    for doc in _each(retrieval, "docs"):
        _at(doc, "text", text)
    prompt = event.get("prompt")
    if isinstance(prompt, dict) and isinstance(prompt.get("variables"), dict):
        prompt["variables"] = {
            k: c for k, c in ((k, walk(v, text)) for k, v in prompt["variables"].items()) if c is not None
        }
    error = event.get("error")
    if isinstance(error, str):
        _at(event, "error", text)
    else:
        _at(error, "message", text)
    for name in ("comment", "edited", "explanation"):
        _at(event, name, text)


def apply(event: Dict[str, Any], mode: str, *, key: Key = None) -> Dict[str, Any]:
    """Bring ``event`` (builtins, as on the wire) under ``mode``, in place, and mark it.

    Args:
        event: a call, feedback or eval in the wire's shape.
        mode: one of ``MODES``.
        key: makes the digests of ``hashed`` unguessable.

    Returns:
        ``event`` itself.
    """
    content = event.get("content")
    if mode == "redacted":
        redactor = Redactor()
        visit(event, redactor.text)
        if isinstance(event.get("extra"), dict):
            event["extra"] = walk(event["extra"], redactor.text)
    elif mode == "hashed":
        visit(event, lambda text: digest(text, key))
    elif mode == "none":
        failed = event.get("type") == "eval" and isinstance(event.get("error"), str)
        visit(event, lambda text: None)
        if isinstance(content, dict):
            content.pop("input", None)
        if failed:
            event["error"] = "error"  # an eval needs a score, a label or an error: keep the fact, not the words
        if isinstance(event.get("prompt"), dict):
            event["prompt"].pop("variables", None)
    elif mode != "full":
        raise ValueError(f"content mode {mode!r} is not one of {', '.join(MODES)}")
    if isinstance(content, dict):
        content["mode"] = mode
    return event


def redact_event(event: E, mode: str = "redacted", *, key: Key = None) -> E:
    """A copy of ``event`` under ``mode``.

    Args:
        event: a struct of ``tailrace_emitter.event`` or a mapping in the wire's shape.
        mode: one of ``MODES``.
        key: see ``digest``.

    Returns:
        The same kind of thing as came in.

    Raises:
        ValueError: the mode is unknown.
    """
    plain = cast("Dict[str, Any]", msgspec.to_builtins(event))
    if isinstance(event, Mapping):
        return cast(E, apply(plain, mode, key=key))
    return msgspec.convert(apply(plain, mode, key=key), type=type(event))
