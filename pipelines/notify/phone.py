"""The line that a phone shows of an alert, at most 120 characters: severity, app, what, size, since when, who. Pure."""

from __future__ import annotations

from pipelines.notify import format as words
from pipelines.notify import times
from schemas.alerts import CONTENT, Alert

MOST = 120
_APP, _WHO, _LEAST_WHAT = 24, 24, 24
_LONGEST = 10_000
"""Of a title: names of series are of any length, and a title begins with them."""
_STATES = {"firing": "FIRING", "update": "UPDATE", "resolved": "RESOLVED"}
_MARKS = ("over: ", "again: ", "taken for the new normal: ")


def line(alert: Alert, at: int | None = None) -> str:
    """Return the line; nothing in it is escaped for a medium yet.

    Args:
        alert: to be shown.
        at: time of the delivery, µs UTC: a time of the same day is shown without its day.
    """
    icon = words.ICONS[words.look(alert)]
    if words.is_digest(alert):
        head, when = f"{icon} {words.digest_word(alert)} · {alert.severity}", words.clean(words.when(alert, at), 60)
        return " · ".join([head, words.clean(alert.title, MOST - len(head) - len(when) - 6), when])
    head = f"{icon} {_STATES[alert.state]} · {alert.severity}"
    app = words.clean(alert.series.get("app", ""), _APP)
    tail = [part for part in (_since(alert, at), who(alert)) if part]
    room = MOST - len(" · ".join([head, *([app] if app else []), "", *tail]))
    if room < _LEAST_WHAT:  # what and how much matter more than who
        tail, room = tail[:1], room + len(tail[-1]) + 3 if len(tail) > 1 else room
    return " · ".join([head, *([app] if app else []), words.clean(what(alert), max(room, 1)), *tail])


def what(alert: Alert) -> str:
    """Return what happened and how much, without the series, which is named apart: the title's part behind it."""
    title = words.clean(alert.title, _LONGEST)
    for mark in _MARKS:
        title = title.removeprefix(mark)
    series = {k: v for k, v in alert.series.items() if k != "guardrail"}
    app = alert.series.get("app", "")
    heads = (" ".join(f"{k} {v}" for k, v in series.items()), f"app {app}", app)
    for head in (words.clean(each, _LONGEST) for each in heads if each):
        if title.startswith(f"{head}: "):
            return title[len(head) + 2 :]
    if app and title.startswith(f"app {words.clean(app, _LONGEST)}, ") and ": " in title:  # and a value of a dimension
        return title.partition(": ")[2]
    return title or f"{alert.rule}, {words.comparison(alert)}"


def who(alert: Alert) -> str:
    """Return whom it is about or whom it touches, as far as that is known; "" where it is not."""
    for name in ("user", "tenant"):
        if name in alert.series:
            return words.clean(f"{name} {alert.series[name]}", _WHO)
    for cause in alert.cause:
        if (cause.named or cause.share >= 0.5) and cause.dimension in ("user", "tenant"):
            return words.clean(f"{cause.dimension} {cause.value}", _WHO)
    if alert.impact.users is not None:
        return f"{alert.impact.users:,} user{'' if alert.impact.users == 1 else 's'}"
    below = [k for k in alert.series if k not in ("app", "guardrail")]
    if below:
        return words.clean(f"{below[-1]} {alert.series[below[-1]]}", _WHO)
    named = [c for c in alert.cause if c.named and c.dimension and c.dimension not in CONTENT]
    if named:
        return words.clean(named[0].value.replace(",", ", "), _WHO)
    return "whole app" if list(alert.series) == ["app"] else ""


def _since(alert: Alert, at: int | None) -> str:
    start, end = times.parsed(alert.window.start), times.parsed(alert.window.end)
    if start is None:
        return ""
    late = words.found_late(alert)
    if alert.state == "resolved":
        return f"lasted {times.span(end - start)}{late}" if end else ""
    now = times.from_micros(at)
    today = now is not None and now.date() == start.date()
    return f"since {start:%H:%M} UTC{late}" if today else f"since {start:%d %b %H:%M} UTC{late}"
