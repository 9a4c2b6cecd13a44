"""Rules that msgspec cannot express: across fields, free-form parts, control characters, one canonical form."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pipelines.decode.aliases import emitter_flags
from pipelines.decode.reasons import (
    CLAMPED,
    EXTRA_CUT,
    MAX_DEPTH,
    MAX_EXTRA_BYTES,
    MAX_EXTRA_KEYS,
    REPLACED_UTF8,
    TOO_DEEP,
    Reject,
)
from tailrace_emitter.event import EVAL_RESULTS, EVAL_TARGETS, FEEDBACK_TARGETS, AnyEvent, Call, Eval
from tailrace_emitter.field_names import UNKNOWN

decode_event = msgspec.json.Decoder(AnyEvent).decode
encode = msgspec.json.Encoder().encode

Admitted = tuple[AnyEvent, bytes, tuple[str, ...]]
"""The event, its canonical JSON line (no raw newline, no control character, ts in UTC), flags."""

ERROR_MESSAGE_CHARS = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Unicode's Cc but tab, newline and the carriage return of Windows' line ends."""
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def finish(event: AnyEvent, line: bytes, flags: tuple[str, ...]) -> Admitted | Reject:
    """Apply the rules that reach across fields, and bring the line into its canonical form."""
    changed = False
    if (b"\\" in line and (b"\\u00" in line or b"\\b" in line or b"\\f" in line)) or _has_high_control(line):
        cleaned = _without_controls(line)
        if cleaned is not None:
            event, flags = cleaned, add(flags, REPLACED_UTF8)
            changed = True
    ts = event.ts
    if type(ts) is int:
        event.ts = _EPOCH + timedelta(milliseconds=ts)
        changed = True
    elif ts.tzinfo is not UTC:  # type: ignore[union-attr]
        try:
            event.ts = ts.astimezone(UTC)  # type: ignore[union-attr]
        except OverflowError:
            return Reject("range:ts", "outside the years 1 to 9999 once in UTC")
        changed = True
    if type(event) is Call:
        if event.error and event.error.message and len(event.error.message) > ERROR_MESSAGE_CHARS:
            event.error.message = event.error.message[:ERROR_MESSAGE_CHARS]
            flags, changed = add(flags, CLAMPED), True
        if event.prompt and event.prompt.variables and too_deep(event.prompt.variables, 3):
            return Reject(TOO_DEEP, f"prompt.variables: more than {MAX_DEPTH} levels")
    elif missing := _missing(event):
        return missing
    if event.extra and UNKNOWN in event.extra:
        for flag in emitter_flags(str(event.__struct_config__.tag), event.extra.pop(UNKNOWN)):
            flags = add(flags, flag)
        event.extra = event.extra or msgspec.UNSET
        changed = True
    if event.extra:
        if too_deep(event.extra, 2):
            return Reject(TOO_DEEP, f"extra: more than {MAX_DEPTH} levels")
        if len(event.extra) > MAX_EXTRA_KEYS or (len(line) > MAX_EXTRA_BYTES and _wide(event.extra)):
            event.extra = cut_extra(event.extra)
            flags, changed = add(flags, EXTRA_CUT), True
    return (event, encode(event) if changed else line, flags)


def add(flags: tuple[str, ...], flag: str) -> tuple[str, ...]:
    """Return ``flags`` with ``flag`` in it once."""
    return flags if flag in flags else (*flags, flag)


def too_deep(value: Any, depth: int) -> bool:
    """Return whether objects and lists in ``value``, itself at ``depth``, go deeper than MAX_DEPTH. No recursion."""
    level: list[Any] = [value]
    while level:
        if depth > MAX_DEPTH:
            return True
        inner: list[Any] = []
        for item in level:
            children = item.values() if type(item) is dict else item
            inner += [child for child in children if type(child) in (dict, list)]
        level, depth = inner, depth + 1
    return False


def cut_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Keep, in order, what fits into 64 keys and 8 KiB."""
    kept: dict[str, Any] = {}
    room = MAX_EXTRA_BYTES - 2
    for key, value in extra.items():
        size = len(encode(key)) + len(encode(value)) + 2
        if len(kept) < MAX_EXTRA_KEYS and size <= room:
            kept[key] = value
            room -= size
    return kept


def clean_text(text: str) -> str:
    """Replace control characters and lone surrogates by U+FFFD."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("\ufffd", text))


def clean(value: Any) -> Any:
    """``clean_text`` on every string of a JSON value, keys included; keys that become equal get a suffix."""
    if type(value) is str:
        return clean_text(value)
    if type(value) is list:
        return [clean(item) for item in value]
    if type(value) is dict:
        out: dict[str, Any] = {}
        for key, item in value.items():
            out[free_key(out, clean_text(key), key)] = clean(item)
        return out
    return value


def free_key(holder: dict[str, Any], key: str, original: str | None = None) -> str:
    """Return ``key``, marked by ``~`` where ``holder`` has it, and by a hash of ``original`` where it has that too.

    The hash keeps a message of 30,000 keys that all become equal from taking 30,000 steps for each.
    """
    if key not in holder:
        return key
    key += "~"
    if key in holder:
        key += hashlib.blake2s((original or key).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    while key in holder:
        key += "~"
    return key


def _has_high_control(line: bytes) -> bool:
    return b"\x7f" in line or (b"\xc2" in line and _C1.search(line) is not None)


def _without_controls(line: bytes) -> AnyEvent | None:
    """Return the event without control characters; None where the line only looked like having one."""
    before = msgspec.json.decode(line)
    if too_deep(before, 1):  # found again, and refused, by finish
        return None
    after = clean(before)
    return None if after == before else decode_event(encode(after))


def _wide(extra: dict[str, Any]) -> bool:
    return len(encode(extra)) > MAX_EXTRA_BYTES


def _missing(event: Any) -> Reject | None:
    targets = EVAL_TARGETS if type(event) is Eval else FEEDBACK_TARGETS
    if not any(getattr(event, name) for name in targets):
        return Reject("missing:call_id", "one of " + ", ".join(targets) + " says what was judged")
    if type(event) is Eval and not any(getattr(event, name) not in (None, msgspec.UNSET) for name in EVAL_RESULTS):
        return Reject("missing:score", "one of " + ", ".join(EVAL_RESULTS) + " says the result")
    return None
