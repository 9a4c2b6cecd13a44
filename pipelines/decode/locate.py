"""The place in a message that made it dead: a path, a line, a column. For people; not on the hot path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.decode.reasons import (
    BAD_UTF8,
    DUPLICATE_KEY,
    MAX_DEPTH,
    NOT_JSON,
    RESERVED_KEY,
    TOO_DEEP,
    TOO_LARGE,
    UNKNOWN_TYPE,
    UNSUPPORTED_VERSION,
    Reject,
)

Path = tuple[str | int, ...]
FREE = ("extra", "prompt.variables")
"""Objects whose keys are the app's own: the server reserves none there."""
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"?|[{}\[\]:,]|[^\s{}\[\]:,"]+)', re.DOTALL)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Node(NamedTuple):
    """One value of a message."""

    path: Path
    start: int
    """Character of its first sign."""
    text: str
    """A scalar as it is written; ``{`` or ``[`` of what holds others."""


class Place(NamedTuple):
    """Where to look. Lines and columns count from 1, the byte from 0; -1 = not a matter of one place."""

    path: str
    line: int
    column: int
    found: str
    """The value as it is written, unredacted; what holds others in words."""


def locate(value: bytes | None, reject: Reject) -> Place | None:
    """Return the place that ``reject`` is about; None where there is none (nothing there, too large, a whole file)."""
    if not value or reject.reason == TOO_LARGE:
        return None
    text = value.decode("utf-8", "replace")
    if reject.reason == BAD_UTF8:
        try:
            value.decode()
        except UnicodeDecodeError as error:
            return _place(text, "", len(value[: error.start].decode("utf-8", "replace")), f"0x{value[error.start]:02x}")
        return None
    if reject.reason == NOT_JSON:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            return _place(text, "", error.pos, text[error.pos : error.pos + 1])
        except (ValueError, RecursionError):
            pass
        return None
    found = _find(text, reject)
    return _place(text, dotted(found.path), found.start, _shown(found)) if found else None


def nodes(text: str) -> Iterator[Node]:
    """Yield every value of a JSON text with its path, in the order of writing. No recursion; stops where it breaks."""
    stack: list[list[str | int | None]] = []  # of each object or list: its open key or index
    at = 0
    while match := _TOKEN.match(text, at):
        token, start, at = match.group(1), match.start(1), match.end()
        if token in "}]":
            if stack:
                stack.pop()
        elif token == ",":
            if stack and isinstance(stack[-1][0], int):
                stack[-1][0] += 1
            elif stack:
                stack[-1][0] = None
        elif token == ":":
            continue
        elif stack and stack[-1][0] is None:
            stack[-1][0] = _key(token)
        else:
            yield Node(tuple(part for holder in stack if (part := holder[0]) is not None), start, token)
            if token in "{[":
                stack.append([None if token == "{" else 0])


def dotted(path: Path) -> str:
    """Write a path as ``tools[0].name``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def parts(path: str) -> Path:
    """Read a path as ``dotted`` writes it."""
    return tuple(int(number) if number else name for name, number in _STEP.findall(path))


def blamed(reject: Reject) -> Path:
    """Return the path that a reason with a field is about, with the indices that its detail has."""
    kind, _, field = reject.reason.partition(":")
    place = reject.detail.partition(": ")[0]
    exact = kind in ("type", "range") and re.sub(r"\[\d+\]", "", place) == field
    return parts(place if exact else field)


def _find(text: str, reject: Reject) -> Node | None:
    kind = reject.reason.partition(":")[0]
    seen: set[Path] = set()
    wanted = {UNKNOWN_TYPE: ("type",), UNSUPPORTED_VERSION: ("v",)}.get(reject.reason) or blamed(reject)
    wanted = wanted[:-1] if kind == "missing" else wanted
    for node in nodes(text):
        last = node.path[-1] if node.path else ""
        if kind == TOO_DEEP:
            hit = node.text in "{[" and len(node.path) >= MAX_DEPTH
        elif kind == DUPLICATE_KEY:
            hit = node.path in seen
        elif kind == RESERVED_KEY:
            hit = isinstance(last, str) and last.startswith("_") and not dotted(node.path).startswith(FREE)
        elif kind == "not_finite":
            hit = not node.text.startswith('"') and _infinite(node.text)
        else:
            hit = node.path == wanted
        if hit:
            return node
        seen.add(node.path)
    return None


def _infinite(token: str) -> bool:
    try:
        return not math.isfinite(float(token))
    except ValueError:
        return False


def _key(token: str) -> str:
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token


def _shown(node: Node) -> str:
    return {"{": "an object", "[": "an array"}.get(node.text, node.text)


def _place(text: str, path: str, start: int, found: str) -> Place:
    return Place(path, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start), found)
