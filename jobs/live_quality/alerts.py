"""Alerts on labels that are worse: detector ``live_quality``, a rule a measure. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from jobs.live_quality import documents
from jobs.live_quality.documents import Vanished
from jobs.live_quality.judge import Masks, Settings, Verdict, worst
from jobs.live_quality.labels import BASELINE, RECENT, SLOT_S, Labels, Series, evidence
from schemas.alerts import Alert, Evidence, Impact, Window, alert_id, fingerprint, rfc3339, time_text

DETECTOR = "live_quality"
_PREFIX = "live_"
VANISHED = "documents_vanished"
_CHILDREN = 10
_WORDS: Mapping[str, str] = {
    "thumbs_down": "thumbs down in {now} of {n} thumbs",
    "edited": "{now} of {n} answers edited before they were used",
    "low_top_score": "top retrieval score low in {now} of {n} retrievals",
    "uncited": "no document cited in {now} of {n} answers with documents",
}


def rule_of(measure: str) -> str:
    """Return the rule of a measure."""
    return f"{_PREFIX}{measure}"


def masks(known: Iterable[Alert], until: datetime) -> Masks:
    """Return the times of earlier incidents by group of series; one that is open goes on until ``until``."""
    found: dict[tuple[str, str, str | None, str | None], list[tuple[int, int]]] = {}
    for alert in known:
        end = until if alert.state != "resolved" else datetime.fromisoformat(alert.window.end)
        span = (_second(alert.window.start) // 3600 * 3600, int(end.timestamp()) + SLOT_S)
        found.setdefault(group_of(alert), []).append(span)
    return found


def group_of(alert: Alert) -> tuple[str, str, str | None, str | None]:
    """Return the group of series that an alert is about."""
    series = alert.series
    measure = alert.rule.removeprefix(_PREFIX)
    scorer = series.get("index", "") if measure == "low_top_score" else series.get("scorer")
    version = series.get("version", "" if measure == "score" else None)
    return series.get("app", ""), measure, scorer, version


def states(
    verdicts: Sequence[Verdict], known: Iterable[Alert], labels: Labels, settings: Settings
) -> tuple[Alert, ...]:
    """Return the state changes.

    Args:
        verdicts: of all series.
        known: newest state of each alert of this detector.
        labels: what was judged.
        settings: when labels are worse.
    """
    labelled = [alert for alert in known if alert.rule != rule_of(VANISHED)]
    open_ = {group_of(alert): alert for alert in labelled if alert.state != "resolved"}
    changes = [
        _firing(verdict, others, labels)
        for verdict, others in worst(verdicts, settings)
        if verdict.series.group not in open_
    ]
    by_print = {fingerprint(rule_of(v.series.measure), v.series.pairs): v for v in verdicts}
    for alert in open_.values():
        verdict = by_print.get(alert.fingerprint)
        if verdict is not None and verdict.is_over(_bad(alert, alert.expected), settings):
            changes.append(_over(alert, verdict, labels))
        elif verdict is None or not verdict.last_labels:
            changes.append(_closed(alert, labels))
    return tuple(changes)


def _firing(verdict: Verdict, others: Sequence[Verdict], labels: Labels) -> Alert:
    series, rule = verdict.series.pairs, rule_of(verdict.series.measure)
    start = verdict.onset * 1_000_000
    return Alert(
        id=alert_id(rule, series, start),
        seq=0,
        fingerprint=fingerprint(rule, series),
        detector=DETECTOR,
        rule=rule,
        severity=verdict.severity,
        state="firing",
        series=series,
        window=Window(rfc3339(start), time_text(labels.until)),
        observed=_shown(verdict.series, verdict.share),
        expected=_shown(verdict.series, verdict.expected),
        score=verdict.evidence,
        unit="score" if verdict.series.measure == "score" else "share",
        impact=Impact(calls=verdict.labels),
        evidence=Evidence(evidence(verdict.series, labels, verdict.onset, known_at=labels.until)),
        runbook=_steps(verdict.series),
        detected_at=time_text(labels.until),
        title=title(verdict),
        children=tuple(each.series.pairs for each in others[:_CHILDREN]),
    )


def title(verdict: Verdict) -> str:
    """Return the title: series, measure, share with its interval, baseline and number of labels."""
    series = verdict.series
    who = f"app {series.app}" + (f", {series.dimension} {series.value}" if series.dimension else "")
    low, high = verdict.interval
    if series.measure == "score":
        return (
            f"{who}: {series.scorer} scores {1 - verdict.share:.2f} ({1 - high:.2f} to {1 - low:.2f}) over "
            f"{verdict.labels:,} labels, usually {1 - verdict.expected:.2f} over {verdict.baseline:,}"
        )
    what = _WORDS[series.measure].format(
        now=f"{verdict.share:.1%} ({100 * low:.1f} to {100 * high:.1f} %)", n=f"{verdict.labels:,}"
    )
    where = f" of index {series.scorer}" if series.measure == "low_top_score" and series.scorer else ""
    return f"{who}: {what}{where}, usually {verdict.expected:.1%} of {verdict.baseline:,}"


def document_states(found: Sequence[Vanished], known: Iterable[Alert], until: datetime) -> tuple[Alert, ...]:
    """Return the state changes of the alerts on documents that vanished."""
    rule = rule_of(VANISHED)
    open_ = {alert.fingerprint: alert for alert in known if alert.rule == rule and alert.state != "resolved"}
    changes = []
    for each in found:
        alert = open_.pop(fingerprint(rule, each.pairs), None)
        if alert is None and each.is_worse:
            changes.append(_vanished(each, until))
        elif alert is not None and each.is_over:
            changes.append(_ended(alert, until, f"{each.share:.0%} of the documents that are expected are missing"))
    return tuple(changes)


def _vanished(each: Vanished, until: datetime) -> Alert:
    series, rule = each.pairs, rule_of(VANISHED)
    start = until - timedelta(hours=each.hours)
    where = f" of index {each.index}" if each.index else ""
    return Alert(
        id=alert_id(rule, series, int(start.timestamp()) // 86_400 * 86_400_000_000),
        seq=0,
        fingerprint=fingerprint(rule, series),
        detector=DETECTOR,
        rule=rule,
        severity="warning",
        state="firing",
        series=series,
        window=Window(time_text(start), time_text(until)),
        observed=each.share,
        expected=each.usual,
        score=each.share / each.needed,
        unit="share",
        evidence=Evidence(documents.evidence(each, until)),
        runbook=(
            "Was the index rebuilt or filtered? Compare its number of documents with that of the day before.",
            "See which are missing: group the view `retrieved_docs` by doc_id and day.",
            "Where they were meant to go: the alert ends by itself when the two weeks before no longer hold them.",
        ),
        detected_at=time_text(until),
        title=(
            f"app {each.app}: {each.share:.0%} of {each.documents:,} documents{where} that come up all the time were "
            f"not retrieved for {each.hours} h, at most {each.usual:.0%} in any {each.hours} h of the two weeks before"
        ),
    )


def _over(alert: Alert, verdict: Verdict, labels: Labels) -> Alert:
    share = verdict.last_bad / verdict.last_labels
    now = f"{_shown(verdict.series, share):.2f}" if verdict.series.measure == "score" else f"{share:.1%}"
    return _ended(alert, labels.until, f"back at {now} over the newest {verdict.last_labels:,} labels")


def _closed(alert: Alert, labels: Labels) -> Alert:
    return _ended(alert, labels.until, f"closed without a verdict, no label for {RECENT.days} days")


def _ended(alert: Alert, until: datetime, why: str) -> Alert:
    head = alert.title.split(":")[0]
    return replace(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Window(alert.window.start, max(time_text(until), alert.window.start)),
        runbook=(),
        detected_at=time_text(until),
        title=f"over: {head}: {alert.rule.removeprefix(_PREFIX).replace('_', ' ')} {why}",
    )


def _steps(series: Series) -> tuple[str, ...]:
    first = {
        "low_top_score": "Was the index rebuilt, or its embedding model changed? Compare the view `retrieved_docs`.",
        "uncited": "Do the documents still answer the questions? Read `retrieved_docs` of a few calls.",
    }.get(series.measure, "Read a few of the calls with bad labels: `tailrace call ID` shows prompt and answer.")
    return (
        first,
        "See what changed: `tailrace alerts show` of this alert names releases and new values of the last 24 hours.",
        "If one model, prompt version or feature is named, the others are as before: roll that one back.",
        "Put the failures into the golden set, so that the gate sees them: `tailrace golden refresh`.",
    )


def _shown(series: Series, bad: float) -> float:
    return 1 - bad if series.measure == "score" else bad


def _bad(alert: Alert, value: float) -> float:
    return 1 - value if alert.unit == "score" else value


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


KNOWN_FOR = BASELINE + RECENT + timedelta(days=30)
"""How long alerts are looked back for: an incident of the baseline may have begun before it."""
