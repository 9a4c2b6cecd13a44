"""An alert as plain text, for services that accept a title and a body. Pure."""

from __future__ import annotations

from pipelines.notify import format as words
from pipelines.notify import phone
from schemas.alerts import Alert


def plain(alert: Alert, at: int | None = None) -> tuple[str, str]:
    """Title and body as plain text, disarmed. ``at``: time of the delivery, µs UTC."""
    lists = [
        (words.cause_title(alert), words.causes(alert)),
        ("Changes", words.changes(alert)),
        ("What to do", words.steps(alert)),
    ]
    title = [words.clean(alert.title)] if alert.title else []
    lines = [
        *title,
        f"Series: {words.series(alert)}",
        _sentence(words.comparison(alert)),
        _sentence(words.when(alert, at)),
    ]
    if touched := words.impact(alert):
        lines.append(f"Impact: {touched}")
    for name, entries in lists:
        if entries:
            lines += [f"{name}:", *(f"- {entry}" for entry in entries)]
    if alert.evidence.call_ids:
        lines.append("Calls: " + ", ".join(words.clean(i, 64) for i in alert.evidence.call_ids[:5]))
    if alert.evidence.sql:
        lines += ["SQL:", words.clean(alert.evidence.sql, 1200, lines=True)]
    lines.append(f"All of it: {words.source(alert)}")
    lines.append(f"Alert {words.clean(alert.id, 64)} seq {alert.seq}")
    return words.unmentioned(phone.line(alert, at)), words.unmentioned("\n".join(lines))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
