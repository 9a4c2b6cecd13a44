"""What is new as alerts: detector ``novelty``, a rule a kind (``new_model``, ``new_tool`` ...). Pure.

A change gives one alert, which fires, and is closed a day later with the comparison of the whole day. The id depends
on the series alone, so that a run that is repeated after a crash gives the same one; a value that comes back after
``HISTORY_DAYS`` reopens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace as changed

from jobs.novelty.compare import Comparison, differences, evidence
from jobs.novelty.decide import Change, NewValue, Settings
from jobs.novelty.pairs import Skew
from jobs.novelty.values import HISTORY_DAYS, KINDS
from schemas.alerts import Alert, Evidence, Impact, Window, alert_id, fingerprint, time_text

DETECTOR = "novelty"
MANY, SKEW = "novelty_many", "prompt_model_skew"
OPEN_FOR = timedelta(days=1)
"""After the first call with the value the alert is closed."""
_LATE = timedelta(hours=6)
_NAMED = 5

Compare = Callable[[NewValue], Comparison]
_Series = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class EarlierNotes:
    """The alerts of earlier runs that have landed."""

    alerts: Mapping[str, Alert]
    """Newest state by id."""
    oldest: str
    """Start of the stored history: an alert that began earlier does not count."""

    @staticmethod
    def of(alerts: Iterable[Alert], now: datetime) -> EarlierNotes:
        """Return the alerts that are in the stored history at ``now``."""
        return EarlierNotes({alert.id: alert for alert in alerts}, time_text(now - timedelta(days=HISTORY_DAYS)))

    def has_note(self, value: NewValue) -> bool:
        """Whether an alert names the value, or limits the alerts of its app for a day."""
        mine = _key(value.series)
        for alert in self.alerts.values():
            if alert.state == "resolved" and alert.window.start < self.oldest:
                continue
            if alert.rule == MANY:
                until = datetime.fromisoformat(alert.window.start) + OPEN_FOR
                if alert.series.get("app") == value.app and value.first < until:
                    return True
            elif mine in (_key(alert.series), *map(_key, alert.children)):
                return True
        return False

    def joins(self, value: NewValue, settings: Settings) -> Alert | None:
        """Return the open alert whose change the value is part of: the run before did not have it yet."""
        span = timedelta(minutes=settings.group_min)
        for alert in self.open(value.app):
            began = datetime.fromisoformat(alert.window.start)
            if began <= value.first <= began + span:
                return alert
        return None

    def open(self, app: str) -> list[Alert]:
        """Return the notes on values of ``app`` that are not closed."""
        mine = [alert for alert in self.alerts.values() if alert.series.get("app") == app]
        return [alert for alert in mine if alert.state != "resolved" and alert.rule not in (MANY, SKEW)]


def rule_of(kind: str) -> str:
    """Return the rule of a kind of value."""
    return f"new_{kind}"


def id_of(rule: str, series: Mapping[str, str]) -> str:
    """Return the id of the note on ``series``: there is one, whenever it began."""
    return alert_id(rule, dict(series), 0)


def found(change: Change, compared: Comparison, before: Alert | None, now: datetime, settings: Settings) -> Alert:
    """Return the note on a change; ``before`` is the alert of the same series that was closed long ago."""
    value = change.values[0]
    rule, series = rule_of(value.kind), value.series
    children = tuple(each.series for each in change.values[1:])
    calls = float(compared.after.calls)
    return Alert(
        id=id_of(rule, series),
        seq=0 if before is None else before.seq + 1,
        fingerprint=fingerprint(rule, series),
        detector=DETECTOR,
        rule=rule,
        severity=settings.severity,
        state="firing",
        series=series,
        window=Window(time_text(change.first), time_text(now)),
        observed=calls,
        expected=0.0,
        score=calls,
        unit="calls",
        impact=Impact(calls=compared.after.calls),
        changes=differences(compared),
        evidence=Evidence(evidence(value, now)),
        runbook=_steps(value),
        late=now - change.first > _LATE,
        detected_at=time_text(now),
        title=_title(change, compared),
        children=children,
    )


def joined(alert: Alert, values: Sequence[NewValue], now: datetime) -> Alert:
    """Return the update of ``alert`` that names further values of the same change."""
    names = ", ".join(map(_name, values[:_NAMED]))
    return changed(
        alert,
        seq=alert.seq + 1,
        state="update",
        detected_at=time_text(now),
        children=(*alert.children, *(value.series for value in values)),
        title=f"{alert.title}; also new: {names}",
    )


def many(app: str, left_out: Sequence[Change], now: datetime, settings: Settings) -> Alert:
    """Return the note that an app has more new values than are alerted; the app gets no more notes for a day."""
    values = [value for change in left_out for value in change.values]
    series = {"app": app}
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return Alert(
        id=alert_id(MANY, series, int(midnight.timestamp()) * 1_000_000),
        seq=0,
        fingerprint=fingerprint(MANY, series),
        detector=DETECTOR,
        rule=MANY,
        severity=settings.severity,
        state="firing",
        series=series,
        window=Window(time_text(now), time_text(now)),
        observed=float(len(values)),
        expected=0.0,
        score=float(len(values)),
        unit="new values",
        runbook=(
            "See all of them: `tailrace job run novelty`.",
            "Where an app is meant to change so often: name it in novelty.ignore.",
        ),
        detected_at=time_text(now),
        title=(
            f"app {app}: more changes than the {settings.most_a_day} that are told a day: "
            f"{', '.join(map(_name, values[:_NAMED]))}{more}; nothing more is told of new values until tomorrow"
        ),
    )


def skewed(skew: Skew, before: Alert | None, now: datetime, settings: Settings) -> Alert:
    """Return the note on a prompt that runs on models that it may not run on."""
    pairs = [f"version {version or '-'} on {model} ({calls:,} calls)" for (version, model), calls in skew.pairs.items()]
    more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    return Alert(
        id=id_of(SKEW, skew.series),
        seq=0 if before is None else before.seq + 1,
        fingerprint=fingerprint(SKEW, skew.series),
        detector=DETECTOR,
        rule=SKEW,
        severity=settings.severity,
        state="firing",
        series=skew.series,
        window=Window(time_text(skew.first), time_text(now)),
        observed=float(skew.calls),
        expected=0.0,
        score=float(skew.calls),
        unit="calls",
        impact=Impact(calls=skew.calls),
        evidence=Evidence(skew.sql(now)),
        runbook=(
            "Find what chose the model: a router, a fallback, or a release that changed one of the two alone.",
            "Where the pair is meant to be: add it to the file of novelty.allowed_pairs.",
        ),
        detected_at=time_text(now),
        title=f"app {skew.app}: prompt {skew.prompt} ran on models it may not: {', '.join(pairs[:_NAMED])}{more}",
    )


def closed(alert: Alert, now: datetime, compared: Comparison | None = None, sql: str = "") -> Alert:
    """Return the end of a note, with the comparison of the whole day where there is one."""
    known: dict[str, Any] = (
        {} if compared is None else {"observed": float(compared.after.calls), "changes": differences(compared)}
    )
    return changed(
        alert,
        seq=alert.seq + 1,
        state="resolved",
        window=Window(alert.window.start, max(time_text(now), alert.window.start)),
        evidence=Evidence(sql or alert.evidence.sql),
        runbook=(),
        detected_at=time_text(now),
        title=f"over: {alert.title.removeprefix('over: ')}",
        **known,
    )


def value_of(alert: Alert) -> NewValue | None:
    """Return the value that an alert names; None for one that names none."""
    kind = KINDS.get(alert.rule.removeprefix("new_"))
    series: Mapping[str, str] = alert.series
    if kind is None or kind.name not in series or "app" not in series:
        return None
    first = datetime.fromisoformat(alert.window.start)
    within = series.get(kind.within_name) if kind.within_name else None
    return NewValue(series["app"], kind.name, within, series[kind.name], first, round(alert.observed))


def _key(series: Mapping[str, str]) -> _Series:
    return frozenset(series.items())


def _name(value: NewValue) -> str:
    return f"{KINDS[value.kind].words} {value.value}"


def _title(change: Change, compared: Comparison) -> str:
    value, before = change.values[0], compared.before.mostly
    was = f", before mostly {before}" if before and before != value.value else ""
    others = ", ".join(map(_name, change.values[1 : 1 + _NAMED]))
    also = f"; also new: {others}" if others else ""
    return f"app {value.app}: {_head(value)}{was}{also}"


def _head(value: NewValue) -> str:
    if value.kind == "response_model":
        return f"model {value.within} is answered by {value.value} now"
    if value.kind == "fingerprint":
        return f"model {value.within} answers with a new fingerprint, {value.value}"
    if value.kind == "prompt_version" and value.within:
        return f"first calls with version {value.value} of prompt {value.within}"
    return f"first calls with {_name(value)}"


def _steps(value: NewValue) -> tuple[str, ...]:
    first = {
        "response_model": "Ask the provider what changed: the app asked for the same model as before.",
        "fingerprint": "The provider changed what runs behind the same model: compare refusals and scores.",
    }.get(value.kind, "Ask the owner of the app whether this was released; `tailrace release list --app APP` has it.")
    return (
        first,
        "Compare before and after in this note; it is closed after a day with the numbers of the whole day.",
        "Where it was not meant: go back to the last known-good manifest (`tailrace release good --app APP`).",
    )
