"""The server's own pass over texts: what no emitter marked as redacted is redacted before it lands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tailrace_emitter.event import EVENT_TYPES, AnyEvent, Call, Content, Eval
from tailrace_emitter.people import People
from tailrace_emitter.redact import Redactor, walk
from tailrace_emitter.text_fields import texts

TRUSTED = ("full", "redacted", "hashed")
"""Markers of a decision made in the app. Absent, null, or ``none`` with text in it: no decision was made."""

KINDS = {struct: str(struct.__struct_config__.tag) for struct in EVENT_TYPES}


class TextRedactor(Protocol):
    """What redaction asks of a redactor: placeholders that stay the same within one event."""

    def text(self, text: str) -> str:
        """Return ``text`` with what is personal or secret replaced."""


@dataclass(frozen=True)
class Redaction:
    """What to do with texts at ingest."""

    redactor: Callable[[], TextRedactor] = Redactor
    """Makes the redactor of one event."""
    everywhere: bool = False
    """A second pass over texts that the emitter already marked ``redacted`` (not over ``full`` or ``hashed``)."""
    people: People | None = None
    """How ids of people are replaced; None: they land as they came."""


class _Pass:
    """One event's redactor, and whether it found anything."""

    __slots__ = ("_inner", "found")

    def __init__(self, rules: Redaction) -> None:
        self._inner = rules.redactor().text
        self.found = False

    def text(self, text: str) -> str:
        redacted = self._inner(text)
        if redacted != text:
            self.found = True
        return redacted


def pseudonymise(event: AnyEvent, people: People) -> bool:
    """Replace, in place, the ids of ``event`` that identify a person; return whether there was one."""
    changed = False
    if (extra := event.extra) and (kept := people.extra(extra)) is not extra:
        event.extra, changed = kept, True
    if isinstance(event, Eval):
        return changed
    if (user := event.user) and (stored := people.user(user)) != user:
        event.user, changed = stored, True
    if (session := event.session_id) and (stored := people.other(session)) != session:
        event.session_id, changed = stored, True
    if isinstance(event, Call) and (tenant := event.tenant) and (stored := people.other(tenant)) != tenant:
        event.tenant, changed = stored, True
    return changed


def redact(event: AnyEvent, rules: Redaction) -> bool | None:
    """Redact ``event`` in place where its texts are not marked.

    Feedback and evals carry no marker, so theirs are always looked at; placeholders do not match again.

    Returns:
        None where there was nothing to look at, else whether something was found.
    """
    if type(event) is Call:
        mode = event.content.mode if event.content else None
        if mode in TRUSTED and not (rules.everywhere and mode == "redacted"):
            return None
    found = texts(event, KINDS[type(event)])
    if not found and not event.extra:
        return None
    work = _Pass(rules)
    for holder, name, field in found:
        value = getattr(holder, str(name))
        setattr(holder, str(name), walk(value, work.text) if field.json else work.text(value))
    if event.extra:
        event.extra = walk(event.extra, work.text)
    if type(event) is Call and event.content and _has_text(event.content):
        event.content.mode = "redacted"
    return work.found


def _has_text(content: Content) -> bool:
    return bool(content.system or content.output or content.input)
