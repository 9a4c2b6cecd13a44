"""One message for a backlog or a storm: how many incidents, when, the greatest of each app and detector. Pure."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from pipelines.notify import times
from pipelines.notify.content import without_texts
from pipelines.notify.format import amount, comparison, when
from pipelines.notify.spec import SEVERITIES
from schemas.alerts import CONTENT, LATE_DIGEST, STORM_DIGEST, Alert, Cause, Impact, Window, fingerprint

_GROUPS = 10
"""Groups of app and detector that are named; the rest is counted."""
_NAMESPACE = uuid.UUID("b4b1a0a4-7b0e-5d0c-9a52-0d2f6f1a7c55")


def digest_id(states: Iterable[tuple[str, int]]) -> str:
    """Return the id of the digest of these (alert id, seq): the same for the same states, in any order."""
    return str(uuid.uuid5(_NAMESPACE, ",".join(f"{alert}/{seq}" for alert, seq in sorted(states))))


def digest(states: Sequence[Alert]) -> Alert:
    """Return the digest of ``states``: all states of some incidents, in any order.

    It has the fields of an alert, so that a receiver of alerts can read it. Its rule is ``late_digest`` where nothing
    in it is open and all was found late, else ``storm_digest``; its state is ``resolved`` where nothing in it is open.
    ``observed`` is the number of incidents, and of a storm ``expected`` that of those which are over.
    """
    ordered = sorted(states, key=lambda a: (a.id, a.seq))
    newest = [without_texts(a) for a in {a.id: a for a in ordered}.values()]
    over = sum(a.state == "resolved" for a in newest)
    late = over == len(newest) and {a.id for a in ordered if a.late} == {a.id for a in newest}
    rule = LATE_DIGEST if late else STORM_DIGEST
    apps = sorted({a.series.get("app", "") for a in newest} - {""})
    shared = [] if late else _shared(newest)
    begin, end = _span(newest)
    identity = digest_id((a.id, a.seq) for a in ordered)
    calls = [a.impact.calls for a in newest if a.impact.calls is not None]
    spent = [a.impact.usd_so_far for a in newest if a.impact.usd_so_far is not None]
    return Alert(
        id=identity,
        seq=0,
        fingerprint=fingerprint(rule, {}),
        detector="notify",
        rule=rule,
        severity=max((a.severity for a in newest), key=SEVERITIES.index),
        state="resolved" if over == len(newest) else "firing",
        series={"app": apps[0]} if len(apps) == 1 else {},
        window=Window(begin, end),
        observed=float(len(newest)),
        expected=0.0 if late else float(over),
        score=0.0,
        unit="incidents",
        impact=Impact(calls=sum(calls) if calls else None, usd_so_far=round(sum(spent), 6) if spent else None),
        cause=(*shared, *_groups(newest, by_app=late or len(apps) <= _GROUPS)),
        runbook=(
            f"`tailrace alerts list --digest {identity[:8]}` lists them, `tailrace alerts show ID` shows one",
            "`tailrace status` shows whether a stage is still behind, and why it was"
            if late
            else "Look for what they share: a provider (its status page), a release (`tailrace release list`)",
        ),
        late=late,
        detected_at=max(a.detected_at for a in newest),
        title=_title(len(newest), over, apps, late=late) + "".join(f"; {c.dimension} {c.value}" for c in shared),
    )


def _title(count: int, over: int, apps: Sequence[str], *, late: bool) -> str:
    where = f" in {apps[0] if len(apps) == 1 else f'{len(apps):,} apps'}" if apps else ""
    number = f"{count:,} incident{'' if count == 1 else 's'}"
    if late:
        return f"{number} of the past{where}, all over, found late in a backlog"
    if over == count:
        return f"{number}{where} that began in a storm {'is' if count == 1 else 'are'} over"
    return f"{number} began at once{where}" + (f", {over:,} of them over" if over else "")


def _shared(newest: Sequence[Alert]) -> list[Cause]:
    """The value of a dimension below the app that at least half of the incidents are about, or name as their cause."""
    counts = Counter[tuple[str, str]]()
    for alert in newest:
        named = {(c.dimension, c.value) for c in alert.cause if c.named and c.dimension not in CONTENT and c.dimension}
        counts.update({pair for pair in alert.series.items() if pair[0] != "app"} | named)
    if not counts:
        return []
    (dimension, value), count = max(counts.items(), key=lambda item: (item[1], item[0]))
    if 2 * count < len(newest):
        return []
    text = f"{dimension} {value}: in {count:,} of {len(newest):,} incidents"
    return [Cause(dimension, value, round(count / len(newest), 4), text)]


def _groups(newest: Sequence[Alert], *, by_app: bool) -> tuple[Cause, ...]:
    """Return one entry per app and detector, or per detector where there are many apps, the most severe first."""
    dimension = "app,detector" if by_app else "detector"
    groups: dict[tuple[str, str], list[Alert]] = {}
    for alert in newest:
        groups.setdefault((alert.series.get("app", "") if by_app else "", alert.detector), []).append(alert)
    ranked = sorted(groups.items(), key=lambda g: (-SEVERITIES.index(_greatest(g[1]).severity), -len(g[1]), g[0]))
    named = [
        Cause(
            dimension,
            f"{app},{detector}" if by_app else detector,
            round(len(alerts) / len(newest), 4),
            _group(app, detector, alerts) if by_app else _of_detector(detector, alerts),
        )
        for (app, detector), alerts in ranked[:_GROUPS]
    ]
    if rest := ranked[_GROUPS:]:
        count = sum(len(alerts) for _, alerts in rest)
        text = f"{count} more in {len(rest)} other groups of {dimension.replace(',', ' and ')}"
        named.append(Cause(dimension, "", round(count / len(newest), 4), text))
    return tuple(named)


def _of_detector(detector: str, alerts: Sequence[Alert]) -> str:
    apps = len({a.series.get("app", "") for a in alerts})
    return f"{detector}: {len(alerts):,} in {apps:,} apps; greatest: {_example(alerts)}"


def _group(app: str, detector: str, alerts: Sequence[Alert]) -> str:
    return f"{app or 'no app'}, {detector}: {len(alerts)}; greatest: {_example(alerts)}"


def _example(alerts: Sequence[Alert]) -> str:
    first = _greatest(alerts)
    what = first.title.removeprefix("over: ") or f"{first.rule} {amount(first.observed, first.unit)}"
    return f"{what}; {comparison(first)}; {when(replace(first, late=False))}"


def _greatest(alerts: Sequence[Alert]) -> Alert:
    return max(alerts, key=lambda a: (SEVERITIES.index(a.severity), a.score, a.id))


def _span(alerts: Sequence[Alert]) -> tuple[str, str]:
    """Event time from the first onset to the last end, as the alerts write it; "" where none can be read."""
    begins = [(t, a.window.start) for a in alerts if (t := times.parsed(a.window.start))]
    ends = [(t, a.window.end) for a in alerts if (t := times.parsed(a.window.end))]
    first: tuple[datetime, str] | None = min(begins, default=None)
    last: tuple[datetime, str] | None = max(ends, default=None)
    return first[1] if first else "", last[1] if last else ""
