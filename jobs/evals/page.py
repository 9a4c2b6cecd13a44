"""The report as one HTML page without scripts and without requests. Pure. All names and texts are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from jobs.alert_quality.report import AlertQuality
from jobs.evals import charts
from jobs.evals.agreements import JudgeAgreement
from jobs.evals.decisions import Decision
from jobs.evals.judge.agreement import Agreement
from jobs.evals.lines import Line, anchor
from jobs.evals.operations import Operations, shown
from jobs.evals.rates import Rate
from jobs.evals.summary import Period, Summary, WorstCall
from jobs.evals.trend import Week

_TEXT_CHARS = 4_000
_DOCS = 3
_FACTS = (
    ("feature", "feature"),
    ("prompt", "prompt_name"),
    ("version", "prompt_version"),
    ("variant", "variant"),
    ("release", "release"),
    ("finish reason", "finish_reason"),
)
_TEMPLATES = Path(__file__).parent / "templates"


def to_html(
    summary: Summary,
    texts: Mapping[str, Mapping[str, Any]] | None = None,
    operations: Sequence[Operations] = (),
    *,
    success_scorer: str = "",
    made_at: str = "",
    trend: Sequence[Week] = (),
    alerts: AlertQuality | None = None,
) -> str:
    """Return the page.

    Args:
        summary: the numbers.
        texts: the worst calls by id, with input_text, output_text and retrieval_docs.
        operations: calls, latency and cost by slice.
        success_scorer: the scorer whose mean is the share of good answers; empty: none.
        made_at: for the footer of the page.
        trend: means of earlier runs and of this one.
        alerts: the verdicts on the alerts of the last weeks; None: there were no alerts.
    """
    return _template().render(
        period=_days(summary.period),
        baseline=_days(summary.baseline) if summary.baseline else "",
        run_id=summary.period.run_id or "without an id",
        coverage=summary.coverage,
        decisions=[_decision(d) for d in summary.decisions],
        unchanged=summary.unchanged,
        compared=summary.compared,
        left_out=summary.left_out,
        missing=summary.missing,
        scores_svg=Markup(charts.scores_svg(summary)),
        changes_svg=Markup(charts.changes_svg(summary)),
        trend_svg=Markup(charts.trend_svg(trend)),
        rates=[_rate(rate) for rate in summary.rates if rate.dimension == "all"],
        rates_by_app=[_rate(rate) for rate in summary.rates if rate.dimension == "app"],
        operations=_operations(operations),
        breaks=summary.breaks,
        agreements=[_agreement(each) for each in summary.agreements],
        alerts=_alerts(alerts) if alerts else None,
        success_scorer=success_scorer,
        scorers=_scorers(summary),
        worst=[_worst(call, (texts or {}).get(call.call_id, {})) for call in summary.worst],
        made_at=made_at,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["count"] = lambda n: f"{n:,}"
    environment.filters["code"] = _with_code
    return environment.get_template("report.html")


def _days(period: Period) -> str:
    since, until = period.since, period.until
    if since == until:
        return _day(until)
    if (since.year, since.month) == (until.year, until.month):
        return f"{since.day}–{_day(until)}"
    return f"{since:%-d %B}{'' if since.year == until.year else f' {since.year}'} – {_day(until)}"


def _day(day: date) -> str:
    return f"{day:%-d %B %Y}"


def _decision(decision: Decision) -> dict[str, str]:
    line = decision.line
    assert line.change is not None
    return {
        "scorer": line.scorer,
        "slice": line.slice if line.dimension == "all" else f"{line.dimension} {line.slice}",
        "against": line.against,
        "owner": line.owner,
        "also": ", ".join(decision.also),
        "points": f"{-100 * line.change.value:.1f}",
        "low": f"{-100 * line.change.high:.1f}",
        "high": f"{-100 * line.change.low:.1f}",
        "mean": f"{100 * (line.now.mean or 0.0):.1f} %",
        "anchor": decision.anchor,
    }


def _scorers(summary: Summary) -> list[dict[str, Any]]:
    found = []
    for name, group in groupby(summary.lines, key=lambda line: line.scorer):
        lines = list(group)
        whole = next((line for line in lines if line.dimension == "all"), lines[0])
        found.append(
            {
                "name": name,
                "version": lines[0].version,
                "mean": _percent(whole.now.mean) or whole.note,
                "open": any(line.significant for line in lines),
                "lines": [_row(line) for line in lines if line.now.n or line.dimension == "all"],
            }
        )
    return found


def _row(line: Line) -> dict[str, Any]:
    now, change = line.now, line.change
    interval = f"{_percent(now.low)} to {_percent(now.high)}" if now.low is not None else ""
    return {
        "anchor": anchor(line),
        "where": line.slice if line.dimension == "all" else f"{line.dimension} {line.slice}",
        "mean": _percent(now.mean) or line.note,
        "interval": interval,
        "change": f"{100 * change.value:+.1f}" if change else (line.note if now.mean is not None else ""),
        "change_interval": f"{100 * change.low:+.1f} to {100 * change.high:+.1f}" if change else "",
        "against": line.against,
        "mark": ("drop" if change.value < 0 else "rise") if change and line.significant else "",
        "n": f"{now.n:,}",
        "effective_n": f"{now.effective_n:,.0f}",
        "coverage": f"{100 * now.coverage:.0f} %",
    }


def _rate(rate: Rate) -> dict[str, str]:
    now, before, change = rate.now, rate.before, rate.change
    return {
        "name": rate.name,
        "scorer": rate.scorer,
        "slice": rate.slice,
        "now": _percent(now.mean) or "too few",
        "interval": f"{_percent(now.low)} to {_percent(now.high)}" if now.low is not None else "",
        "before": _percent(before.mean) if before else "",
        "change": f"{100 * change.low:+.1f} to {100 * change.high:+.1f}" if change else "",
        "n": f"{now.n:,}",
        "effective_n": f"{now.effective_n:,.0f}",
        "coverage": f"{100 * now.coverage:.0f} %",
    }


def _operations(operations: Sequence[Operations]) -> list[dict[str, Any]]:
    by_dimension = groupby(operations, key=lambda o: o.dimension)
    return [{"dimension": dimension, "rows": [shown(o) for o in group]} for dimension, group in by_dimension]


def _agreement(found: JudgeAgreement) -> dict[str, Any]:
    return {
        "scorer": found.scorer,
        "kappa": _kappa(found.now),
        "before": _kappa(found.before) if found.before else "",
        "labels": f"{found.now.labels:,}",
        "agreed": _percent(found.now.observed),
        "reason": found.now.reason,
        "table": [
            {
                "bin": f"{row.low:.1f} to {row.high:.1f}",
                "answers": row.answers,
                "judge": f"{row.mean_score:.2f}",
                "people": _percent(row.good_share),
            }
            for row in found.now.table
        ],
    }


def _alerts(found: AlertQuality) -> dict[str, Any]:
    return {
        "days": _days(Period(found.since, found.until, "")),
        "rows": found.rows(),
        "tried": [each.lines() for each in found.tried],
        "undecided": found.undecided,
    }


def _with_code(line: str) -> Markup:
    """Escape a line, and show text between backticks as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(line.split("`"))
    ]
    return Markup("").join(parts)


def _kappa(found: Agreement) -> str:
    if found.kappa is None or found.low is None or found.high is None:
        return ""
    return f"{found.kappa:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _worst(call: WorstCall, text: Mapping[str, Any]) -> dict[str, Any]:
    named = [("prompt", text.get("input_text")), ("answer", text.get("output_text"))]
    docs = [doc for doc in text.get("retrieval_docs") or () if doc.get("text")]
    named += [(f"retrieved text {i}", doc["text"]) for i, doc in enumerate(docs[:_DOCS], 1)]
    return {
        "call_id": call.call_id,
        "app": call.app,
        "facts": [f"{name} {text[key]}" for name, key in _FACTS if text.get(key) is not None],
        "model": call.model,
        "failed": [{"scorer": name, "value": f"{value:.2f}", "why": why} for name, value, why in call.failed],
        "parts": [{"name": name, "text": _cut(str(value))} for name, value in named if value],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}\n… {len(text) - _TEXT_CHARS} more characters"
