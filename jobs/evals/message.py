"""The weekly report as a message for channels: a title, a few sentences, JSON. Pure. No text of a call is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jobs.evals.decisions import Decision
from jobs.evals.lines import Line
from jobs.evals.summary import Summary
from pipelines.notify.channels import Report

TYPE = "report.quality"
_SCORERS = 8


def report_message(
    summary: Summary, *, where: str, image: bytes = b"", at: int = 0, more: Sequence[str] = ()
) -> Report:
    """Return the message.

    Args:
        summary: the numbers.
        where: how to see the whole report, in words.
        image: PNG of the scores.
        at: µs UTC.
        more: sentences about what is no score.
    """
    period = summary.period
    identity = f"quality-{period.run_id or f'{period.since}_{period.until}'}"
    title = f"Quality {period.since} to {period.until}: {_outcome(summary)}"
    lines = [*map(_decision, summary.decisions), *_scores(summary), *_rest(summary), *more, where]
    body = {"type": TYPE, "id": identity, "title": title, **_numbers(summary)}
    return Report(identity, title, tuple(lines), json.dumps(body, ensure_ascii=True).encode(), at, image)


def _outcome(summary: Summary) -> str:
    count = len(summary.decisions)
    if count:
        return f"{count} decision{'s' if count > 1 else ''} wanted"
    return "nothing needs a decision" if summary.baseline else "first week, no baseline yet"


def _decision(decision: Decision) -> str:
    return f"{decision.line.owner}: {decision.sentence}"


def _scores(summary: Summary) -> list[str]:
    whole = [line for line in summary.lines if line.dimension == "all" and line.now.mean is not None]
    if not whole:
        return ["No scorer has enough calls for a mean."]
    shown = ", ".join(_mean(line) for line in whole[:_SCORERS])
    more = len(whole) - _SCORERS
    return [f"Scores over all calls: {shown}{f' and {more} more' if more > 0 else ''}."]


def _mean(line: Line) -> str:
    text = f"{line.scorer} {100 * (line.now.mean or 0):.1f} %"
    return f"{text} ({100 * line.change.value:+.1f})" if line.change else text


def _rest(summary: Summary) -> list[str]:
    found = summary.coverage
    lines = [f"{found.sampled:,} of {found.calls:,} calls were scored."]
    if summary.compared:
        lines.append(f"{summary.unchanged} of {summary.compared} comparisons show no significant change.")
    return lines + [f"Missing: {text}." for text in summary.missing]


def _numbers(summary: Summary) -> dict[str, Any]:
    return {
        "from": summary.period.since.isoformat(),
        "to": summary.period.until.isoformat(),
        "run_id": summary.period.run_id,
        "calls": summary.coverage.calls,
        "sampled": summary.coverage.sampled,
        "compared": summary.compared,
        "unchanged": summary.unchanged,
        "decisions": [
            {"owner": d.line.owner, "sentence": d.sentence, "also": list(d.also), **_line(d.line)}
            for d in summary.decisions
        ],
        "scores": [_line(line) for line in summary.lines if line.dimension == "all"],
        "missing": list(summary.missing),
    }


def _line(line: Line) -> dict[str, Any]:
    now, change = line.now, line.change
    return {
        "scorer": line.scorer,
        "version": line.version,
        "dimension": line.dimension,
        "slice": line.slice,
        "mean": now.mean,
        "low": now.low,
        "high": now.high,
        "n": now.n,
        "effective_n": round(now.effective_n, 1),
        "change": change.value if change else None,
        "change_low": change.low if change else None,
        "change_high": change.high if change else None,
        "significant": line.significant,
    }
