"""The server's own pass over texts: what no emitter marked as redacted is redacted before it lands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import UNSET

from tailrace_emitter.event import AnyEvent, Call, Content, Eval
from tailrace_emitter.people import People
from tailrace_emitter.redact import Redactor, walk

TRUSTED = ("full", "redacted", "hashed")
"""Markers that say a decision was made in the app. Absent, null, or ``none`` with text in it: nobody decided."""


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
        if not _has_texts(event):
            return None
        mode = event.content.mode if event.content else None
        if mode in TRUSTED and not (rules.everywhere and mode == "redacted"):
            return None
        work = _Pass(rules)
        _call(event, work.text)
        return work.found
    names = ("explanation", "error") if type(event) is Eval else ("comment", "edited")
    due = [name for name in names if getattr(event, name)]
    if not due and not event.extra:
        return None
    work = _Pass(rules)
    for name in due:
        _at(event, name, work.text)
    if event.extra:
        event.extra = walk(event.extra, work.text)
    return work.found


def _has_texts(event: Call) -> bool:
    prompt = event.prompt
    return bool(
        event.content or event.retrieval or event.tools or event.extra or event.error or (prompt and prompt.variables)
    )


def _call(event: Call, text: Callable[[str], str]) -> None:
    content = event.content
    if content:
        _content(content, text)
    if event.retrieval:
        _at(event.retrieval, "query", text)
        for doc in event.retrieval.docs or ():
            _at(doc, "text", text)
    for tool in event.tools or ():
        _at(tool, "args", text)
    if event.error:
        _at(event.error, "message", text)
    if event.prompt and event.prompt.variables:
        event.prompt.variables = walk(event.prompt.variables, text)
    if event.extra:
        event.extra = walk(event.extra, text)


def _content(content: Content, text: Callable[[str], str]) -> None:
    _at(content, "system", text)
    _at(content, "output", text)
    for message in content.input or ():
        _at(message, "text", text)
    if content.system or content.output or content.input:
        content.mode = "redacted"


def _at(holder: Any, name: str, text: Callable[[str], str]) -> None:
    value = getattr(holder, name)
    if value and value is not UNSET:
        setattr(holder, name, text(value))
