"""An alert in words for people: the pieces every channel lays out its own way. Pure.

Every value may be hostile: tenants, models and error types come from events. `clean` comes first; escaping for the
medium (`slack_escape`, `unmentioned`) comes last and is the channel's.
"""

from __future__ import annotations

import re
import unicodedata

from schemas.alerts import Alert

ICONS = {"critical": "🔴", "warning": "🟠", "info": "🔵", "resolved": "✅"}
COLOURS = {"critical": "#d92d20", "warning": "#f79009", "info": "#2e90fa", "resolved": "#12b76a"}
_SHARES = frozenset({"share", "ratio", "proportion", "rate"})
_ENTITY_CUT = re.compile(r"&[a-z]{0,3}$")


def look(alert: Alert) -> str:
    """The key into ICONS and COLOURS: the severity, or that it is over."""
    return "resolved" if alert.state == "resolved" else alert.severity


def clean(text: str, limit: int = 300, *, lines: bool = False) -> str:
    """Make ``text`` printable: no control, direction or invisible characters, one line unless ``lines``, cut."""
    kept = "".join(c if _prints(c) or (lines and c == "\n") else " " for c in text)
    kept = kept if lines else " ".join(kept.split())
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def _prints(char: str) -> bool:
    return unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029"


def slack_escape(text: str) -> str:
    """Escape the three characters Slack's mrkdwn gives a meaning: no mention, no link, no command can be formed."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_cut(escaped: str, limit: int) -> str:
    """Cut escaped text to Slack's limit, never in the middle of an entity."""
    if len(escaped) <= limit:
        return escaped
    return _ENTITY_CUT.sub("", escaped[: limit - 1]) + "…"


def unmentioned(text: str) -> str:
    """Disarm ``@everyone``, ``<@id>`` and links in angle brackets for media with rules of their own."""
    return text.replace("@", "@\u200b").replace("<", "‹").replace(">", "›")


def headline(alert: Alert) -> str:
    """One line: what, how bad, whether it is over."""
    title = alert.title or f"{alert.detector} on {series(alert)}"
    state = {"firing": "FIRING", "update": "UPDATE", "resolved": "RESOLVED"}[alert.state]
    return f"{state} · {alert.severity} · {clean(title, 200)}"


def series(alert: Alert) -> str:
    """``app=shop · tenant=acme``."""
    return " · ".join(f"{clean(k, 40)}={clean(v, 120)}" for k, v in alert.series.items()) or "all"


def amount(value: float, unit: str) -> str:
    """A number with its unit, at the precision people read."""
    if "usd" in unit.lower():
        return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.4g}"
    if unit in _SHARES:
        return f"{value * 100:.3g} %"
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{number} {clean(unit, 40)}".strip()


def comparison(alert: Alert) -> str:
    """``observed $12.40, expected $3.10 (×4.0)``."""
    times = f" (×{alert.observed / alert.expected:.3g})" if alert.expected > 0 and alert.observed > 0 else ""
    return f"observed {amount(alert.observed, alert.unit)}, expected {amount(alert.expected, alert.unit)}{times}"


def window(alert: Alert) -> str:
    """Event time of the window, to the second."""
    return f"{clean(alert.window.start, 19).replace('T', ' ')} to {clean(alert.window.end, 19).replace('T', ' ')} UTC"


def impact(alert: Alert) -> str:
    """Who and what it touches; "" where nothing is known."""
    found = alert.impact
    counts = [(found.calls, "calls"), (found.users, "users"), (found.sessions, "sessions")]
    parts = [f"{count:,} {word}" for count, word in counts if count is not None]
    if found.usd_per_hour is not None:
        parts.append(f"{amount(found.usd_per_hour, 'usd')} an hour")
    if found.usd_so_far is not None:
        parts.append(f"{amount(found.usd_so_far, 'usd')} so far")
    return ", ".join(parts)


def causes(alert: Alert) -> list[str]:
    """What explains how much of the change, ranked."""
    return [
        clean(c.text) if c.text else f"{clean(c.dimension, 40)} {clean(c.value, 120)}: {c.share * 100:.0f} %"
        for c in alert.cause[:5]
    ]


def changes(alert: Alert) -> list[str]:
    """What was released or first seen nearby."""
    return [f"{clean(c.at, 19).replace('T', ' ')} {clean(c.text or c.kind)}" for c in alert.changes[:5]]


def steps(alert: Alert) -> list[str]:
    """The runbook."""
    return [clean(step) for step in alert.runbook[:8]]


def plain(alert: Alert) -> tuple[str, str]:
    """Title and body as plain text, disarmed."""
    lists = [("Cause", causes(alert)), ("Changes", changes(alert)), ("What to do", steps(alert))]
    lines = [f"Series: {series(alert)}", comparison(alert).capitalize(), f"Window: {window(alert)}"]
    if touched := impact(alert):
        lines.append(f"Impact: {touched}")
    for name, entries in lists:
        if entries:
            lines += [f"{name}:", *(f"- {entry}" for entry in entries)]
    if alert.evidence.call_ids:
        lines.append("Calls: " + ", ".join(clean(i, 64) for i in alert.evidence.call_ids[:5]))
    if alert.evidence.sql:
        lines += ["SQL:", clean(alert.evidence.sql, 1200, lines=True)]
    lines.append(f"Alert {clean(alert.id, 64)} seq {alert.seq}")
    return unmentioned(f"{ICONS[look(alert)]} {headline(alert)}"), unmentioned("\n".join(lines))
