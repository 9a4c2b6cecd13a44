"""The charts of the quality report, as SVG for the page and as PNG for chats. Pure: same numbers, same picture.

altair and vl-convert take a second to import: only a command that draws imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from jobs.evals.lines import Line
from jobs.evals.summary import Summary
from jobs.evals.trend import Week

NOW, BEFORE, DROP, RISE = "#1f5fbf", "#8a94a3", "#b3261e", "#1b7f4b"
"""Colours that stay apart for people who do not see red and green, and in print: blue, grey, dark red, dark green."""
MOST_CHANGES = 14
_NEW_VERSION = "another version of the scorer"
_FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
_WIDTH = 560
_LABEL_CHARS = 60


def scores_svg(summary: Summary) -> str:
    """Return the chart of ``scores`` as SVG; empty where no scorer has a mean."""
    rows = _scores(summary)
    return _svg(_scores_chart(rows)) if rows else ""


def scores_png(summary: Summary) -> bytes:
    """Return the chart of ``scores`` as PNG at twice the size; empty where no scorer has a mean."""
    rows, period = _scores(summary), summary.period
    if not rows:
        return b""
    title = alt.Title(f"Quality of {period.since} to {period.until}", anchor="start", fontSize=16, offset=10)
    chart = _scores_chart(rows).properties(title=title, padding=12)
    return bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=2))


def changes_svg(summary: Summary) -> str:
    """Return the chart of the largest changes of slices as SVG; empty where nothing can be compared."""
    rows = _changes(summary)
    return _svg(_changes_chart(rows)) if rows else ""


def trend_svg(weeks: Sequence[Week]) -> str:
    """Return the means over time as SVG, a small chart a scorer; empty where there is one week.

    A line ends where the version of its scorer does: the first point of another version is a ring, and nothing leads
    to it.
    """
    dates = sorted({week.since for week in weeks})
    if len(dates) < 2:
        return ""
    return _svg(_trend_chart(_trend(weeks), [day.isoformat() for day in dates]))


def _svg(chart: alt.TopLevelMixin) -> str:
    return str(vl_convert.vegalite_to_svg(chart.to_json()))


def _scores(summary: Summary) -> list[dict[str, Any]]:
    rows = []
    whole = [line for line in summary.lines if line.dimension == "all"]
    whole.sort(key=lambda line: line.change.value if line.change and line.significant else 0.0)  # drops first
    for line in whole:
        if line.now.mean is None:
            continue
        rows.append(_score_row(line, "this week", line.now.mean, line.now.low, line.now.high))
        if line.change and line.significant:
            rows[-1]["label"] += f" ({100 * line.change.value:+.1f} points)"
        if line.before is not None and line.before.mean is not None:
            rows.append(_score_row(line, "week before", line.before.mean, line.before.low, line.before.high))
    return rows


def _score_row(line: Line, week: str, mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    shown = {"scorer": _cut(line.scorer), "week": week, "mean": mean, "low": low, "high": high}
    return shown | {"label": f"{100 * mean:.1f} %"}


def _changes(summary: Summary) -> list[dict[str, Any]]:
    compared = [line for line in summary.lines if line.change is not None]
    compared.sort(key=lambda line: (not line.significant, -abs(line.change.value) if line.change else 0.0))
    return [
        {
            "slice": _cut(f"{line.scorer}: {line.slice}{f' against {line.against}' if line.against else ''}"),
            "change": 100 * line.change.value,
            "low": 100 * line.change.low,
            "high": 100 * line.change.high,
            "kind": "no significant change" if not line.significant else "drop" if line.change.value < 0 else "rise",
            "order": order,
        }
        for order, line in enumerate(compared[:MOST_CHANGES])
        if line.change is not None
    ]


def _trend(weeks: Sequence[Week]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    last: dict[str, tuple[str, int]] = {}
    for week in sorted(weeks, key=lambda week: (week.since, week.scorer)):
        version, part = last.get(week.scorer, (week.version, 0))
        new = version != week.version
        last[week.scorer] = (week.version, part + new)
        first = _NEW_VERSION if new else "week"
        shown = {"scorer": _cut(week.scorer), "week": week.since.isoformat(), "mean": week.mean}
        rows.append(shown | {"part": part + new, "kind": first})
    rows.sort(key=lambda row: row["scorer"])
    return rows


def _trend_chart(rows: Sequence[dict[str, Any]], dates: Sequence[str]) -> alt.TopLevelMixin:
    kinds = [kind for kind in ("week", _NEW_VERSION) if any(row["kind"] == kind for row in rows)]
    legend = alt.Legend(title=None, orient="top", symbolStrokeColor=NOW, labelLimit=300) if len(kinds) > 1 else None
    axis = alt.Axis(labelAngle=0, labelExpr="utcFormat(toDate(datum.value), '%-d %b')", labelOverlap="greedy")
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X("week:O", title=None, sort=list(dates), axis=axis),
        y=alt.Y("mean:Q", title=None).scale(zero=False, nice=True).axis(alt.Axis(format="%", tickCount=4)),
    )
    line = base.mark_line(strokeWidth=2, color=NOW).encode(detail="part:N")
    point = base.mark_point(size=46, opacity=1, strokeWidth=2, color=NOW).encode(
        fill=alt.Fill("kind:N").scale(domain=kinds, range=[NOW, "white"][: len(kinds)]).legend(legend)
    )
    small = (line + point).properties(width=240, height=90)
    faceted = small.facet(facet=alt.Facet("scorer:N", title=None, header=alt.Header(labelFontSize=12)), columns=3)
    return _configured(faceted)


def _scores_chart(rows: Sequence[dict[str, Any]]) -> alt.TopLevelMixin:
    weeks = {"this week": NOW, "week before": BEFORE}
    shown = [week for week in weeks if any(row["week"] == week for row in rows)]
    colour = alt.Color("week:N").scale(domain=shown, range=[weeks[week] for week in shown]).title(None)
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        y=alt.Y("scorer:N", title=None, sort=None), yOffset=alt.YOffset("week:N").scale(paddingInner=0.6), color=colour
    )
    axis = alt.Axis(format="%", tickCount=5)
    interval = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q").title("score, with 95 % interval").scale(domain=[0, 1]).axis(axis), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=64, opacity=1).encode(x="mean:Q")
    number = base.mark_text(align="left", dx=8, fontSize=11).encode(x="high:Q", text="label:N")
    return _finished(interval + point + number, 46 * len({row["scorer"] for row in rows}))


def _changes_chart(rows: Sequence[dict[str, Any]]) -> alt.TopLevelMixin:
    kinds = ["drop", "rise", "no significant change"]
    colour = alt.Color("kind:N").scale(domain=kinds, range=[DROP, RISE, BEFORE]).title(None)
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        y=alt.Y("slice:N", title=None, sort=alt.EncodingSortField("order"), axis=alt.Axis(labelLimit=400)), color=colour
    )
    interval = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q")
        .title("change against the week before, or what is named; percentage points, with 95 % interval")
        .axis(alt.Axis(tickCount=8)),
        x2="high:Q",
    )
    point = base.mark_point(filled=True, size=56, opacity=1).encode(x="change:Q")
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color="#222", strokeDash=[3, 3]).encode(x="zero:Q")
    return _finished(zero + interval + point, 22 * len(rows))


def _finished(chart: alt.LayerChart, height: int) -> alt.TopLevelMixin:
    sized: alt.LayerChart = chart.properties(width=_WIDTH, height=max(height, 60), background="white")
    return _configured(sized)


def _configured(sized: Any) -> alt.TopLevelMixin:
    axis = {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 400,
        "titleFontWeight": "normal",
        "gridColor": "#eee",
    }
    configured: alt.TopLevelMixin = (
        sized.configure(font=_FONT)
        .configure_axis(**axis)
        .configure_view(stroke=None)
        .configure_legend(orient="top", labelFontSize=12, symbolType="circle")
    )
    return configured


def _cut(text: str) -> str:
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= _LABEL_CHARS else f"{clean[: _LABEL_CHARS - 1]}…"
