"""Keeps an event inside what the server takes: 256 KiB of text, 64 extra keys in 8 KiB, short error messages."""

from typing import Any, Dict, List, Tuple

import msgspec

CONTENT_BYTES = 256 * 1024
SLACK_BYTES = 8 * 1024
MESSAGE_BYTES = 1_000_000  # below 1 MiB, the limit of the wire and of a broker's default
MAX_MESSAGES = 512
ERROR_CHARS = 500
EXTRA_KEYS = 64
EXTRA_BYTES = 8 * 1024
_MARK_BYTES = 48

Slot = Tuple[Dict[str, Any], str]


def _dicts(holder: Any, name: str) -> List[Dict[str, Any]]:
    items = holder.get(name) if isinstance(holder, dict) else None
    return [i for i in items if isinstance(i, dict)] if isinstance(items, list) else []


def slots(event: Dict[str, Any]) -> List[Slot]:
    """Every place of free text, the most telling first: answer, last turn, system, older turns, the rest."""
    content = event.get("content")
    turns = _dicts(content, "input")
    found: List[Slot] = []
    if isinstance(content, dict):
        found.append((content, "output"))
        found.extend((turn, "text") for turn in turns[-1:])
        found.append((content, "system"))
        found.extend((turn, "text") for turn in reversed(turns[:-1]))
    found.extend((event, name) for name in ("comment", "edited", "explanation"))
    retrieval = event.get("retrieval")
    if isinstance(retrieval, dict):
        found.append((retrieval, "query"))
    found.extend((tool, "args") for tool in _dicts(event, "tools"))
    found.extend((doc, "text") for doc in _dicts(retrieval, "docs"))
    return [(holder, name) for holder, name in found if isinstance(holder.get(name), str)]


def chars(event: Dict[str, Any]) -> int:
    """Characters of system, input and output together."""
    content = event["content"]
    said = [content.get("system"), content.get("output"), *(t.get("text") for t in _dicts(content, "input"))]
    return sum(len(text) for text in said if isinstance(text, str))


def _head(text: str, room: int) -> str:
    """The first ``room`` bytes of ``text``, ended at a blank where one is near: no secret is cut in two."""
    head = text.encode("utf-8")[:room].decode("utf-8", "ignore")
    near = max(head.rfind(" ", -2048), head.rfind("\n", -2048))
    return head[:near] if near > 0 else head


def cut_texts(event: Dict[str, Any], limit: int, *, mark: bool) -> bool:
    """Cut the texts of ``event``, in place, to ``limit`` bytes in all; True where something was cut."""
    found = slots(event)
    cut = False
    if sum(len(holder[name]) for holder, name in found) * 4 > limit:
        left = limit
        for holder, name in found:
            text = holder[name]
            size = len(text) if text.isascii() else len(text.encode("utf-8"))
            if size > left:
                head = _head(text, left - _MARK_BYTES) if left > _MARK_BYTES else ""
                holder[name] = head + (f"…[cut {len(text) - len(head)} characters]" if mark else "")
                cut = True
                size = left
            left -= size
    prompt = event.get("prompt")
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    if isinstance(prompt, dict) and variables and len(msgspec.json.encode(variables)) > limit // 4:
        del prompt["variables"]
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
