"""Content modes: what of an event's text leaves the process.

``full`` as it is, ``redacted`` with placeholders (the default), ``hashed`` as keyed digests (equal texts stay
recognisable, nothing else), ``none`` not at all. Numbers are never touched.
The fields that follow the mode are those that ``tailrace_emitter.event`` declares as text. ``extra`` holds keys of the
app's choice: its strings get placeholders in every mode but ``full``.
"""

import hashlib
import hmac
from typing import Any, Callable, Dict, Mapping, TypeVar, Union, cast

import msgspec

from tailrace_emitter.patterns import Redactor, find
from tailrace_emitter.text_fields import texts

__all__ = ["MODES", "Redactor", "apply", "digest", "find", "pseudonym", "redact_event"]

MODES = ("full", "redacted", "hashed", "none")
E = TypeVar("E")
Key = Union[str, bytes, None]


def _key(key: Union[str, bytes]) -> bytes:
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key


def pseudonym(user: str, key: Union[str, bytes]) -> str:
    """The name under which ``user`` is stored: ``u_`` and 128 bits of HMAC-SHA256 under ``key``, as hex."""
    return "u_" + hmac.new(_key(key), user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def digest(text: str, key: Key = None) -> str:
    """The digest that replaces ``text`` in mode ``hashed``.

    It uses the key where there is one: short texts can be guessed.
    """
    data = text.encode("utf-8", "surrogatepass")
    if key:
        return "hmac:" + hmac.new(_key(key), data, hashlib.sha256).hexdigest()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def walk(value: Any, text: Callable[[str], str]) -> Any:
    """``value`` (JSON) with ``text`` applied to every string, keys included."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(k): walk(v, text) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [walk(v, text) for v in value]
    return value


def visit(event: Dict[str, Any], text: Callable[[str], str]) -> None:
    """Apply ``text``, in place, to every string of ``event`` that is declared as text."""
    for holder, name, field in texts(event, str(event.get("type"))):
        value = holder[name]
        if isinstance(value, str):
            holder[name] = text(value)
        elif field.json:
            holder[name] = walk(value, text)
        else:
            holder[name] = None  # no string where one is declared: it cannot be redacted, so it does not leave


def remove(event: Dict[str, Any]) -> None:
    """Remove every text of ``event``, in place, with the conversation's turns."""
    for holder, name, _ in texts(event, str(event.get("type"))):
        if isinstance(holder, list):
            holder[cast(int, name)] = None
        else:
            holder.pop(name, None)  # an object may be in the event twice
    if isinstance(event.get("content"), dict):
        event["content"].pop("input", None)


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
    redactor = Redactor()
    if mode == "redacted":
        visit(event, redactor.text)
    elif mode == "hashed":
        visit(event, lambda text: digest(text, key))
    elif mode == "none":
        failed = event.get("type") == "eval" and isinstance(event.get("error"), str)
        remove(event)
        if failed:
            # an eval needs a score, a label or an error: keep that there was an error, not its text
            event["error"] = "error"
    elif mode != "full":
        raise ValueError(f"content mode {mode!r} is not one of {', '.join(MODES)}")
    if mode != "full" and isinstance(event.get("extra"), dict):
        event["extra"] = walk(event["extra"], redactor.text)
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
        A struct for a struct, a mapping for a mapping.

    Raises:
        ValueError: the mode is unknown.
    """
    plain = cast("Dict[str, Any]", msgspec.to_builtins(event))
    if isinstance(event, Mapping):
        return cast(E, apply(plain, mode, key=key))
    return msgspec.convert(apply(plain, mode, key=key), type=type(event))
