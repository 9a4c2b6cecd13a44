"""One verdict on one message: the fast way for nearly all of them; the rest go to ``explain``.

msgspec is strict about types, ranges, unknown fields and UTF-8 (0.7 µs a small event). What it does not see is looked
for here and in ``rules``: duplicate keys, control characters, deep or large free-form parts, rules across fields.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import NamedTuple

from pipelines.decode.explain import explain
from pipelines.decode.reasons import MAX_BYTES, TOO_LARGE, Reject
from pipelines.decode.rules import Admitted, decode_event, encode, finish
from schemas.errors import UNREADABLE
from tailrace_emitter.event import AnyEvent

_SPACED_COLON = re.compile(rb'"\s+:')


class Accepted(NamedTuple):
    """The event as it lands, and what was noticed."""

    event: AnyEvent
    flags: tuple[str, ...]


def verdict(value: bytes | None) -> Accepted | Reject:
    """Judge one message; the same function of its bytes for every stage. Never raises."""
    found = admit(value)
    return found if isinstance(found, Reject) else Accepted(found[0], found[2])


def admit(value: bytes | None) -> Admitted | Reject:
    """Return the event with its canonical line, or why it is dead. Never raises."""
    if value is not None and len(value) > MAX_BYTES:
        return Reject(TOO_LARGE, f"{len(value)} bytes, at most {MAX_BYTES} are read")
    try:
        event = decode_event(value)  # type: ignore[arg-type]  # None is refused like any other non-JSON
    except UNREADABLE:
        return explain(value)
    line = encode(event)
    if line != value and _may_repeat_keys(value, line, event):  # type: ignore[arg-type]
        return explain(value)
    return finish(event, line, ())


def _may_repeat_keys(value: bytes, line: bytes, event: AnyEvent) -> bool:
    """False only where no key can have been repeated: a repeated key is missing from the re-encoded line.

    Without escapes every quote begins or ends a string, so counting them is exact. Else counting single colons is,
    where escapes and the form of ``ts`` cannot add one to the line; else the ends of keys are counted, exact where
    neither escapes nor blanks hide one in the original.
    """
    if b"\\" not in value:
        return value.count(b'"') != line.count(b'"')
    if b"\\u003" in value and (b"\\u003a" in value or b"\\u003A" in value):
        return True
    if value.count(b":") == line.count(b":") and getattr(event.ts, "tzinfo", UTC) is UTC:
        return False
    if value.count(b'":') != line.count(b'":') or b"\\u0022" in value:
        return True
    return _SPACED_COLON.search(value) is not None
