"""Keeps an event within the limits of the server: 256 KiB of text, 64 extra keys in 8 KiB, short error messages."""

from typing import Any, Dict, List, Tuple

import msgspec

from tailrace_emitter.text_fields import Text, texts

CONTENT_BYTES = 256 * 1024
SLACK_BYTES = 8 * 1024
MESSAGE_BYTES = 1_000_000  # below 1 MiB, the limit of the wire and of a broker's default
MAX_MESSAGES = 512
ERROR_CHARS = 500
EXTRA_KEYS = 64
EXTRA_BYTES = 8 * 1024
_MARK_BYTES = 48

INPUT = ("content", "input", "text")
WEIGHTS: Dict[Tuple[str, ...], int] = {("content", "output"): 0, ("content", "system"): 2}


def _dicts(holder: Any, name: str) -> List[Dict[str, Any]]:
    items = holder.get(name) if isinstance(holder, dict) else None
    return [i for i in items if isinstance(i, dict)] if isinstance(items, list) else []


def _by_weight(found: List[Text]) -> List[Text]:
    """The texts that are cut to the limit, the most important first.

    These are the answer, the last turn, the system text and the older turns; then the other fields in the order of
    their declaration. The message of an error has its own limit.
    """
    turns = [text for text in found if text.field.path == INPUT]
    weighted: List[Tuple[int, int, Text]] = []
    for at, text in enumerate(found):
        path = text.field.path
        if path == INPUT:
            weighted.append((1, 0, text) if text is turns[-1] else (3, -at, text))
        elif path[0] != "error":
            weighted.append((WEIGHTS.get(path, 4), at, text))
    return [text for _, _, text in sorted(weighted, key=lambda item: item[:2])]


def chars(event: Dict[str, Any]) -> int:
    """Characters of system, input and output together."""
    content = event["content"]
    texts = [content.get("system"), content.get("output"), *(t.get("text") for t in _dicts(content, "input"))]
    return sum(len(text) for text in texts if isinstance(text, str))


def _head(text: str, most_bytes: int) -> str:
    """The first ``most_bytes`` bytes of ``text``, ended at a blank where one is near: no secret is cut in two."""
    head = text.encode("utf-8")[:most_bytes].decode("utf-8", "ignore")
    near = max(head.rfind(" ", -2048), head.rfind("\n", -2048))
    return head[:near] if near > 0 else head


def cut_texts(event: Dict[str, Any], limit: int, *, mark: bool) -> bool:
    """Cut the texts of ``event``, in place, to ``limit`` bytes in all; True where something was cut."""
    found = texts(event, str(event.get("type")))
    plain = [text for text in found if not text.field.json and isinstance(text.holder[text.name], str)]
    cut = False
    if sum(len(text.holder[text.name]) for text in plain) * 4 > limit:
        left = limit
        for holder, name, _ in _by_weight(plain):
            value = holder[name]
            size = len(value) if value.isascii() else len(value.encode("utf-8"))
            if size > left:
                head = _head(value, left - _MARK_BYTES) if left > _MARK_BYTES else ""
                holder[name] = head + (f"…[cut {len(value) - len(head)} characters]" if mark else "")
                cut = True
                size = left
            left -= size
    for holder, name, field in found:
        if field.json and holder[name] and len(msgspec.json.encode(holder[name])) > limit // 4:
            del holder[name]
            cut = True
    content = event.get("content")
    turns = _dicts(content, "input")
    if len(turns) > MAX_MESSAGES:
        assert isinstance(content, dict)
        content["input"] = turns[:1] + turns[1 - MAX_MESSAGES :]
        cut = True
    return cut


def cut_error(event: Dict[str, Any], most: int = ERROR_CHARS) -> None:
    """Cut the error's message to ``most`` characters."""
    error = event.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        error["message"] = error["message"][:most]
    elif isinstance(error, str):
        event["error"] = error[:most]


def cut_extra(extra: Dict[str, Any]) -> Tuple[Dict[str, Any], int]:
    """The first keys of ``extra`` that fit, and how many did not."""
    if len(extra) <= EXTRA_KEYS and len(msgspec.json.encode(extra)) <= EXTRA_BYTES:
        return extra, 0
    kept: Dict[str, Any] = {}
    size = 2
    for name, value in extra.items():
        cost = len(msgspec.json.encode({name: value})) - 1
        if len(kept) < EXTRA_KEYS and size + cost <= EXTRA_BYTES:
            kept[name] = value
            size += cost
    return kept, len(extra) - len(kept)
