"""The report as Markdown and as JSON. Pure. Names and texts are strangers': they are escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from jobs.alert_quality.report import AlertQuality
from jobs.evals.lines import NO_BASELINE, Line
from jobs.evals.operations import Operations, shown
from jobs.evals.summary import Summary, WorstCall
from jobs.markdown import escape


def to_markdown(
    summary: Summary,
    texts: Mapping[str, Mapping[str, Any]] | None = None,
    operations: Sequence[Operations] = (),
    alerts: AlertQuality | None = None,
) -> str:
    """Return the report.

    Args:
        summary: the numbers.
        texts: the calls among the worst ones by id, with their texts.
        operations: calls, latency and cost by slice; those by app are shown.
        alerts: the verdicts on the alerts of the last weeks; None: there were no alerts.
    """
    parts = (
        *(_head(summary), _rates(summary), _operations(operations), _agreements(summary)),
        *(alert_lines(alerts) if alerts else [], _table(summary)),
    )
    return "\n".join(
        [line for part in parts for line in part] + [*_coverage(summary), *_worst(summary, texts or {}), ""]
    )


def to_json(summary: Summary, alerts: AlertQuality | None = None) -> str:
    """Return the report as one JSON document; a number that is infinite is null."""
    facts = {**asdict(summary), "alerts": alerts.data() if alerts else None}
    return json.dumps(_plain(facts), ensure_ascii=True, sort_keys=True)


def _head(summary: Summary) -> list[str]:
    period = summary.period
    lines = [f"# Quality of {period.since} to {period.until}", ""]
    if summary.baseline is None:
        lines.append("There is no baseline yet: this is the first week. Changes are shown from the next one on.")
    elif not summary.decisions:
        lines.append("No decision is wanted.")
    for number, decision in enumerate(summary.decisions, 1):
        lines.append(f"{number}. **{escape(decision.line.owner)}**: {escape(decision.sentence)} (#{decision.anchor})")
    for each in summary.breaks:
        lines += ["", f"{escape(each.scorer)} begins anew: another version scored the week before."]
    if summary.baseline is not None:
        against = f"{summary.baseline.since} to {summary.baseline.until}"
        lines += ["", f"{summary.unchanged} of {summary.compared} comparisons with {against} show no change."]
    return lines


def alert_lines(found: AlertQuality) -> list[str]:
    """Return the precision of every rule, and what is proposed, as Markdown."""
    lines = ["", "## Alerts", ""]
    lines.append(f"Alerts of {found.since} to {found.until}, by the verdicts of `tailrace alerts verdict`.")
    lines += [
        "",
        "| rule | useful | noise | known | no verdict | precision | 95 % interval |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in found.rows():
        counts = " | ".join(row[name] for name in ("useful", "noise", "known", "unjudged", "precision", "interval"))
        lines.append(f"| {escape(row['rule'])} | {counts} |")
    for tried in found.tried:
        lines += ["", f"- {' '.join(tried.lines())}"]
    for rule in found.undecided:
        lines += ["", f"- {escape(rule)}: no threshold keeps its noise away without a useful alert."]
    return lines


def _rates(summary: Summary) -> list[str]:
    rows = [rate for rate in summary.rates if rate.dimension == "all"]
    if not rows:
        return []
    lines = [
        "",
        "## Rates",
        "",
        "| rate | by | this week | 95 % interval | change, points | n | effective n | coverage |",
    ]
    lines.append("|---|---|--:|---|---|--:|--:|--:|")
    for rate in rows:
        now, change = rate.now, rate.change
        mean = f"{100 * now.mean:.1f} %" if now.mean is not None else "too few"
        interval = (
            f"{100 * now.low:.1f} to {100 * now.high:.1f} %" if now.low is not None and now.high is not None else ""
        )
        moved = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}" if change else ""
        counts = f"{now.n} | {now.effective_n:.0f} | {100 * now.coverage:.0f} %"
        lines.append(f"| {rate.name} | {escape(rate.scorer)} | {mean} | {interval} | {moved} | {counts} |")
    return lines


def _operations(operations: Sequence[Operations]) -> list[str]:
    rows = [shown(each) for each in operations if each.dimension == "app"]
    if not rows:
        return []
    lines = ["", "## Service and cost", ""]
    lines.append(
        "| app | calls | failed | p95 latency | p95 first token | 1,000 calls cost | 1,000 good answers cost |"
    )
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        cells = [f"{c['now']}{f' (before: {b})' if (b := c['before']) else ''}" for c in row["cells"]]
        lines.append(f"| {escape(row['slice'])} | {' | '.join(cells)} |")
    return lines


def _agreements(summary: Summary) -> list[str]:
    lines = ["", "## Judges and people", ""] if summary.agreements else []
    for each in summary.agreements:
        found = each.now
        kappa = "kappa is not known" if found.kappa is None else f"Cohen's kappa {found.kappa:.2f}"
        why = f"; informs only: {found.reason}" if found.reason else ""
        lines.append(f"- {escape(each.scorer)}: {kappa}, {found.labels} calls judged by both{why}")
    return lines


def _table(summary: Summary) -> list[str]:
    lines = ["", "## Scores", "", "| scorer | slice | mean | 95 % interval | change | n | effective n | coverage |"]
    lines.append("|---|---|--:|---|---|--:|--:|--:|")
    lines += [_line(line) for line in summary.lines if line.now.n or line.dimension == "all"]
    if summary.left_out:
        lines += ["", f"{summary.left_out} small slices are left out."]
    return lines


def _line(line: Line) -> str:
    now = line.now
    where = "all calls" if line.dimension == "all" else f"{line.dimension} {escape(line.slice, 80)}"
    interval = f"{now.low:.3f} to {now.high:.3f}" if now.low is not None and now.high is not None else ""
    mean = line.note if now.mean is None else f"{now.mean:.3f}"
    cells = [escape(line.scorer), where, mean, interval, _change(line), str(now.n), f"{now.effective_n:.0f}"]
    return f"| {' | '.join(cells)} | {100 * now.coverage:.0f} % |"


def _change(line: Line) -> str:
    if line.change is None:
        return "" if line.now.mean is None else line.note or NO_BASELINE
    mark = (" ▼" if line.change.value < 0 else " ▲") if line.significant else ""
    against = f" against {escape(line.against, 60)}" if line.against else ""
    return f"{line.change.value:+.3f} ({line.change.low:+.3f} to {line.change.high:+.3f}){mark}{against}"


def _coverage(summary: Summary) -> list[str]:
    found = summary.coverage
    lines = ["", "## What the numbers stand for", ""]
    lines.append(
        f"{found.sampled} calls were drawn out of {found.calls} ({found.with_text} with texts) in {found.strata} "
        "strata. Means are weighted by the inverse of the probability of inclusion."
    )
    if found.shadow:
        lines.append(f"- {found.shadow} of the drawn calls are of shadow and canary variants, and in no total")
    lines += [
        f"- {escape(name)}: {count} calls could not be judged" for name, count in found.not_judgeable.items() if count
    ]
    lines += [f"- {escape(name)}: the scorer failed at {count} calls" for name, count in found.errors.items() if count]
    return lines + [f"- missing: {text}" for text in summary.missing]


def _worst(summary: Summary, texts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not summary.worst:
        return []
    lines = ["", "## Worst calls"]
    for call in summary.worst:
        lines += ["", *_call(call, texts.get(call.call_id, {}))]
    return lines


def _call(call: WorstCall, text: Mapping[str, Any]) -> list[str]:
    failed = "; ".join(f"{escape(name)} {value:.2f} {escape(why, 80)}".strip() for name, value, why in call.failed)
    lines = [f"- `{call.call_id}` {escape(call.app)} {escape(call.model or '')}: {failed}"]
    for name, key in (("asked", "input_text"), ("answered", "output_text")):
        if text.get(key):
            lines.append(f"  - {name}: {escape(str(text[key]))}")
    for doc in (text.get("retrieval_docs") or ())[:3]:
        if doc.get("text"):
            lines.append(f"  - retrieved: {escape(doc['text'])}")
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value
