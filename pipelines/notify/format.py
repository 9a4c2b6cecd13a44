"""An alert in words for people: the pieces every channel lays out its own way. Pure.

Every value may be hostile: tenants, models and error types come from events. `clean` comes first; escaping for the
medium (`slack_escape`, `unmentioned`) comes last and is the channel's.
"""

from __future__ import annotations

import re
import unicodedata

from pipelines.notify import times
from pipelines.notify.content import show
from schemas.alerts import LATE_DIGEST, STORM_DIGEST, Alert

ICONS = {"critical": "🔴", "warning": "🟠", "info": "🔵", "resolved": "✅", "digest": "🕓"}
COLOURS = {"critical": "#d92d20", "warning": "#f79009", "info": "#2e90fa", "resolved": "#12b76a", "digest": "#667085"}
_SHARES = frozenset({"share", "ratio", "proportion", "rate"})
_ENTITY_CUT = re.compile(r"&[a-z]{0,3}$")


def is_digest(alert: Alert) -> bool:
    """Whether it is one message for many alerts: the digest of a backlog or of a storm."""
    return alert.rule in (LATE_DIGEST, STORM_DIGEST)


def look(alert: Alert) -> str:
    """The key into ICONS and COLOURS: the severity, that it is over, or that it is the digest of a backlog."""
    if alert.rule == LATE_DIGEST:
        return "digest"
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


def headline(alert: Alert, at: int | None = None) -> str:
    """One line that is enough on a phone: state, severity, what, and since when or how long.

    Args:
        alert: to be shown.
        at: time of the delivery, µs UTC; None leaves out how long ago it began.
    """
    title = alert.title or f"{alert.detector} on {series(alert)}"
    if is_digest(alert):
        return f"{digest_word(alert)} · {alert.severity} · {clean(title, 200)} · {when(alert, at)}"
    state = {"firing": "FIRING", "update": "UPDATE", "resolved": "RESOLVED"}[alert.state]
    if alert.state == "resolved":
        title = title.removeprefix("over: ")
    return f"{state} · {alert.severity} · {clean(title, 200)} · {when(alert, at)}"


def digest_word(alert: Alert) -> str:
    """What a message for many alerts begins with."""
    return "STORM" if alert.rule == STORM_DIGEST and alert.state != "resolved" else "DIGEST"


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
    """``observed $12.40, expected $3.10 (×4.0)``; of one that is over, in all."""
    if is_digest(alert):
        open_ = "all over" if alert.state == "resolved" else f"{alert.expected:,.0f} of them over"
        open_ = open_ if alert.expected or alert.state == "resolved" else "all open"
        return f"{alert.observed:,.0f} incident{'' if alert.observed == 1 else 's'}, {open_}"
    times_ = f" (×{alert.observed / alert.expected:.3g})" if alert.expected > 0 and alert.observed > 0 else ""
    verb = "in all" if alert.state == "resolved" else "observed"
    return f"{verb} {amount(alert.observed, alert.unit)}, expected {amount(alert.expected, alert.unit)}{times_}"


def when(alert: Alert, at: int | None = None) -> str:
    """``since 14:53:10 UTC, 2 min ago``; of one that is over ``lasted 12 min, 14:53:10 to 15:05:30 UTC``."""
    start, end = times.parsed(alert.window.start), times.parsed(alert.window.end)
    now = times.from_micros(at)
    late = found_late(alert)
    if start is None or end is None:
        return f"{clean(alert.window.start, 40)} to {clean(alert.window.end, 40)}{late}"
    if is_digest(alert):
        if alert.state != "resolved":
            return f"since {times.clock(start, now)}{times.ago(start, now)}"
        return times.between(start, end, now)
    if alert.state == "resolved":
        ended = times.ago(end, now).removeprefix(", ")
        over = f", over for {ended.removesuffix(' ago')}" if alert.late and ended else ""
        return f"lasted {times.span(end - start)}, {times.between(start, end, now)}{over}{late}"
    return f"since {times.clock(start, now)}{times.ago(start, now)}{late}"


def found_late(alert: Alert) -> str:
    """Return what follows the times of an alert that was history when it was found; else ""."""
    return ", found late" if alert.late else ""


def impact(alert: Alert) -> str:
    """Who and what it touches; "" where nothing is known."""
    found = alert.impact
    counts = [(found.calls, "call"), (found.users, "user"), (found.sessions, "session")]
    parts = [f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in counts if count is not None]
    over = alert.state == "resolved"
    if found.usd_per_hour is not None and not over:
        parts.append(f"{amount(found.usd_per_hour, 'usd')} an hour")
    if found.usd_so_far is not None:
        parts.append(f"{amount(found.usd_so_far, 'usd')} above the expected {'in all' if over else 'so far'}")
    return ", ".join(parts)


def causes(alert: Alert) -> list[str]:
    """What explains how much of the change, ranked."""
    return [
        clean(c.text, 400 if is_digest(alert) else 300)
        if c.text
        else f"{clean(c.dimension, 40)} {clean(c.value, 120)}: {c.share * 100:.0f} %"
        for c in alert.cause[: 12 if is_digest(alert) else 5]
    ]


def parts(alert: Alert) -> str:
    """``volume $11.20, price $0.30``: what the change of the first cause consists of, without what is under 1 %."""
    first = alert.cause[0] if alert.cause else None
    if first is None or first.parts is None:
        return ""
    unit = "USD" if "usd" in alert.unit.lower() else alert.unit.split("/")[0]
    found = [(name.replace("_", " "), getattr(first.parts, name)) for name in first.parts.__struct_fields__]
    least = 0.01 * max((abs(value) for _, value in found), default=0.0)
    return ", ".join(f"{name} {amount(value, unit)}" for name, value in found if abs(value) >= least and value)


def cause_title(alert: Alert) -> str:
    """Over the causes."""
    if alert.rule == STORM_DIGEST:
        return "Summary"
    return "By app and detector" if is_digest(alert) else "Cause"


def changes(alert: Alert) -> list[str]:
    """What was different, where the alert compares; then what was released or first seen nearby, with its time."""
    return [f"{_moment(c.at)} {clean(c.text or c.kind)}".strip() for c in alert.changes[:10]]


def _moment(text: str) -> str:
    moment = times.parsed(text)
    return clean(text, 40) if moment is None else times.clock(moment, None)


def steps(alert: Alert) -> list[str]:
    """The runbook; of one that is over there is nothing to do."""
    over = alert.state == "resolved" and not is_digest(alert)
    return [] if over else [clean(step) for step in alert.runbook[:8]]


def source(alert: Alert) -> str:
    """Where to see the rest: the command, as plain text."""
    if is_digest(alert):
        return f"tailrace alerts list --digest {clean(alert.id, 64)[:8]}"
    return clean(show(alert), 120)
