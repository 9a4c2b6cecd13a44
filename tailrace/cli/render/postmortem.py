"""The postmortem of one alert as Markdown. Pure. Texts that come from events are escaped, or shown as code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from jobs.markdown import block, code, escape
from pipelines.notify import format as words
from pipelines.notify import times
from schemas.alerts import Alert, Change

_LONGEST = 600
_CALLS = 10


@dataclass(frozen=True)
class Touched:
    """The calls of the series of an alert in its window, and those of its app; None is not reported."""

    calls: int
    users: int
    sessions: int
    errors: int
    cost_usd: Decimal | None
    unpriced: int
    app_calls: int
    app_cost_usd: Decimal | None


@dataclass(frozen=True)
class Entry:
    """One line of the time line."""

    at: datetime
    text: str
    """Markdown, escaped already."""


@dataclass(frozen=True)
class Postmortem:
    """What is known of one alert."""

    states: Sequence[Alert]
    """Every state in order, with the texts that may be shown."""
    touched: Touched | None
    """None: the alert is of no app, or its calls cannot be distinguished."""
    changes: Sequence[Change]
    """What changed in its app before it, as it is known now."""
    evidence: str
    """What the evidence returns now, in words."""
    deliveries: Sequence[Mapping[str, Any]]
    acknowledged: Sequence[Mapping[str, Any]]
    silences: Sequence[Mapping[str, Any]]
    """That matched the alert while it was open."""
    verdict: Mapping[str, Any] | None
    made_at: int
    """µs UTC."""
    traces: Sequence[str] = ()
    """``name: address`` of the traces of its calls in other systems."""

    @property
    def first(self) -> Alert:
        """The state that fired."""
        return self.states[0]

    @property
    def newest(self) -> Alert:
        """The last state that landed."""
        return self.states[-1]


def markdown(found: Postmortem) -> str:
    """Return the postmortem."""
    alert = found.newest
    parts = (
        [f"# Postmortem: {escape(alert.title.removeprefix('over: ') or alert.rule)}", ""],
        _head(found),
        _section("Time line", _time_line(found)),
        _section("Impact", _impact(found)),
        _section("Cause", _cause(found)),
        _section("What changed before", _list(map(_change, found.changes)) or ["Nothing is known."]),
        _section("Decisions", _list(_decisions(found)) or ["Nobody decided anything."]),
        _section("Runbook", [f"{n}. {_step(step)}" for n, step in enumerate(alert.runbook[:8], 1)] or ["None."]),
        _section("Evidence", _evidence(found)),
        _section("See also", _links(found)),
        _section(
            "What we change", ["To be written by a person: what is done so that this does not come again, by whom."]
        ),
    )
    made = times.from_micros(found.made_at)
    foot = ["", f"Written from the lake at {_at(made)}."]
    return "\n".join(line for part in (*parts, foot) for line in part) + "\n"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _list(lines: Iterator[str] | Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _head(found: Postmortem) -> list[str]:
    first, alert = found.first, found.newest
    start, end = times.parsed(first.window.start), times.parsed(alert.window.end)
    detected = times.parsed(first.detected_at)
    over = alert.state == "resolved"
    rows = [
        ("alert", f"{code(alert.id)} ({escape(alert.detector)}, rule {escape(alert.rule)})"),
        ("severity", alert.severity),
        ("series", ", ".join(_cell(f"{k}={v}") for k, v in alert.series.items()) or "all"),
        ("began", _at(start)),
        ("detected", f"{_at(detected)}{_after(detected, start)}"),
        ("over", f"{_at(end)}{_lasted(start, end)}" if over else "not yet"),
        ("measure", escape(words.comparison(alert))),
        ("verdict", str(found.verdict["verdict"]) if found.verdict else "none yet"),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _cell(text: str) -> str:
    """Return ``text`` as code in a cell of a table, where a bar ends the cell even in code."""
    return code(text).replace("|", "\\|")


def _at(moment: datetime | None) -> str:
    return "not known" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _after(moment: datetime | None, start: datetime | None) -> str:
    return f", {times.span(moment - start)} after it began" if moment and start and moment >= start else ""


def _lasted(start: datetime | None, end: datetime | None) -> str:
    return f", after {times.span(end - start)}" if start and end else ""


def _time_line(found: Postmortem) -> list[str]:
    entries = sorted(_entries(found), key=lambda entry: entry.at)
    return ["| time, UTC | what |", "|---|---|", *(f"| {e.at:%Y-%m-%d %H:%M:%S} | {e.text} |" for e in entries)]


def _entries(found: Postmortem) -> Iterator[Entry]:
    for change in found.changes:
        if (at := times.parsed(change.at)) and change.kind != "known_good":
            yield Entry(at, escape(change.text or change.kind))
    if start := times.parsed(found.first.window.start):
        yield Entry(start, "**it began** (event time)")
    for alert in found.states:
        if at := times.parsed(alert.detected_at):
            yield Entry(at, f"**{_state(alert)}**: {escape(words.comparison(alert))}")
    if found.newest.state == "resolved" and (end := times.parsed(found.newest.window.end)):
        yield Entry(end, "**it was over** (event time)")
    for row in found.deliveries:
        if row["state"] in ("delivered", "failed"):
            detail = f": {escape(row['detail'])}" if row["detail"] and row["state"] == "failed" else ""
            yield Entry(row["at"], f"state {row['seq']} {row['state']} to {_cell(row['channel'])}{detail}")
    for row in found.acknowledged:
        yield Entry(row["acknowledged_at"], f"acknowledged by {escape(row['actor'])}{_why(row)}")
    for row in found.silences:
        yield Entry(row["starts_at"], f"silenced by {escape(row['actor'])}{_why(row)}")
    if found.verdict:
        yield Entry(
            found.verdict["given_at"], f"verdict of {escape(found.verdict['actor'])}: {found.verdict['verdict']}"
        )


def _state(alert: Alert) -> str:
    return {"firing": "came back" if alert.seq else "detected", "update": "update", "resolved": "resolved"}[alert.state]


def _why(row: Mapping[str, Any]) -> str:
    return f": {escape(row['why'])}" if row["why"] else ""


def _impact(found: Postmortem) -> list[str]:
    alert, touched = found.newest, found.touched
    lines = [f"By the alert: {escape(impact)}."] if (impact := words.impact(alert)) else []
    if touched is None:
        return _list([*lines, "The calls of its series cannot be counted in the lake."])
    lines.append(
        f"In its window the series made {_count(touched.calls, 'call')} of {_count(touched.users, 'user')} in "
        f"{_count(touched.sessions, 'session')}; {touched.errors:,} failed."
    )
    lines.append(f"It cost {_usd(touched.cost_usd)}{_unpriced(touched.unpriced)}.")
    lines.append(
        f"That is {_share(touched.calls, touched.app_calls)} of the calls and "
        f"{_share(touched.cost_usd, touched.app_cost_usd)} of the cost of its app in that time "
        f"({touched.app_calls:,} calls, {_usd(touched.app_cost_usd)})."
    )
    return _list(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _usd(value: Decimal | None) -> str:
    return "an unknown sum" if value is None else words.amount(float(value), "usd").replace("$", "USD ")


def _unpriced(count: int) -> str:
    return f", without the {count:,} calls that have no price" if count else ""


def _share(part: Decimal | int | None, whole: Decimal | int | None) -> str:
    return f"{100 * float(part) / float(whole):.3g} %" if part is not None and whole else "an unknown share"


def _cause(found: Postmortem) -> list[str]:
    alert = next((a for a in reversed(found.states) if a.cause), found.newest)
    lines = [escape(text, _LONGEST) for text in words.causes(alert)]
    if parts := words.parts(alert):
        lines.append(f"Of the change of the first: {escape(parts)}")
    lines += [f"Also part of it: {code(' '.join(f'{k}={v}' for k, v in child.items()))}" for child in alert.children]
    return _list(lines) or ["No cause is named."]


def _change(change: Change) -> str:
    moment = times.parsed(change.at)
    return f"{_at(moment)}: {escape(change.text or change.kind, _LONGEST)}" if moment else escape(change.text, _LONGEST)


def _decisions(found: Postmortem) -> Iterator[str]:
    for row in found.acknowledged:
        yield f"{_at(row['acknowledged_at'])}: {escape(row['actor'])} acknowledged it{_why(row)}"
    for row in found.silences:
        matchers = " ".join(f"{k}={v}" for k, v in row["matchers"].items())
        held = f"{_at(row['starts_at'])} to {_at(row['ends_at'])}"
        yield f"{held}: {escape(row['actor'])} silenced {code(matchers)}{_why(row)}"
    if (verdict := found.verdict) is not None:
        yield f"{_at(verdict['given_at'])}: {escape(verdict['actor'])} judged it {verdict['verdict']}{_why(verdict)}"


def _step(step: str) -> str:
    """Escape a step, but for its commands, which are between backticks."""
    parts = step.split("`")
    if len(parts) % 2 == 0:  # one that is not closed
        return escape(step, _LONGEST)
    return "".join(code(part, _LONGEST) if i % 2 else _around(part) for i, part in enumerate(parts))


def _around(part: str) -> str:
    """Escape the text before or after a command; the blanks at its ends stay."""
    before, behind = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    return f"{before[:1]}{escape(part, _LONGEST)}{behind[:1]}" if part.strip() else part[:1]


def _evidence(found: Postmortem) -> list[str]:
    alert = next((a for a in reversed(found.states) if a.evidence.sql), None)
    calls = [f"- {code(f'tailrace call {call}')}" for call in found.newest.evidence.call_ids[:_CALLS]]
    if alert is None:
        return calls or ["The alert carries none."]
    return [
        f"The message said {escape(f'{alert.observed:g}')}. {found.evidence}",
        "",
        *block(alert.evidence.sql, "sql"),
        "",
        *calls,
    ]


def _links(found: Postmortem) -> list[str]:
    alert = found.newest
    links = [f"- {escape(name)}: {code(url)}" for name, url in list(alert.links.items())[:5]]
    links += [f"- {code(each, 2000)}" for each in found.traces]
    short = alert.id[:8]
    return [
        f"- {code(f'tailrace alerts show {short}')} shows all of it, as it is known then.",
        f"- {code(f'tailrace alerts export {short} --out {short}.capsule')} writes its rollups and the state of the "
        f"detectors before it; {code(f'tailrace backtest --events {short}.capsule')} judges them again on any machine "
        "(detectors of the stream).",
        *links,
    ]
