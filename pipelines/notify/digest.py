"""One message for a whole backlog: how many incidents, when, and the greatest of each app and detector. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from pipelines.notify import times
from pipelines.notify.content import without_texts
from pipelines.notify.format import amount, comparison, when
from pipelines.notify.spec import SEVERITIES
from schemas.alerts import LATE_DIGEST, Alert, Cause, Impact, Window, fingerprint

_GROUPS = 10
"""Groups of app and detector that are named; the rest is counted."""
_NAMESPACE = uuid.UUID("b4b1a0a4-7b0e-5d0c-9a52-0d2f6f1a7c55")


def digest_id(states: Iterable[tuple[str, int]]) -> str:
    """Return the id of the digest of these (alert id, seq): the same for the same states, in any order."""
    return str(uuid.uuid5(_NAMESPACE, ",".join(f"{alert}/{seq}" for alert, seq in sorted(states))))


def digest(states: Sequence[Alert]) -> Alert:
    """Return the digest of ``states``: every state of every incident that is over, in any order.

    It has the fields of an alert, so that a receiver of alerts can read it. Its rule is ``late_digest``, and its state
    is resolved: nothing in it is still open.
    """
    ordered = sorted(states, key=lambda a: (a.id, a.seq))
    newest = [without_texts(a) for a in {a.id: a for a in ordered}.values()]
    apps = sorted({a.series.get("app", "") for a in newest} - {""})
    begin, end = _span(newest)
    number = f"{len(newest):,} incident{'' if len(newest) == 1 else 's'} of the past"
    where = f" in {apps[0] if len(apps) == 1 else f'{len(apps)} apps'}" if apps else ""
    identity = digest_id((a.id, a.seq) for a in ordered)
    calls = [a.impact.calls for a in newest if a.impact.calls is not None]
    spent = [a.impact.usd_so_far for a in newest if a.impact.usd_so_far is not None]
    return Alert(
        id=identity,
        seq=0,
        fingerprint=fingerprint(LATE_DIGEST, {}),
        detector="notify",
        rule=LATE_DIGEST,
        severity=max((a.severity for a in newest), key=SEVERITIES.index),
        state="resolved",
        series={"app": apps[0]} if len(apps) == 1 else {},
        window=Window(begin, end),
        observed=float(len(newest)),
        expected=0.0,
        score=0.0,
        unit="incidents",
        impact=Impact(calls=sum(calls) if calls else None, usd_so_far=round(sum(spent), 6) if spent else None),
        cause=_groups(newest),
        runbook=(
            f"`tailrace alerts list --digest {identity[:8]}` lists them, `tailrace alerts show ID` shows one",
            "`tailrace status` shows whether a stage is still behind, and why it was",
        ),
        late=True,
        detected_at=max(a.detected_at for a in newest),
        title=f"{number}{where}, all over, found late in a backlog",
    )


def _groups(newest: Sequence[Alert]) -> tuple[Cause, ...]:
    """Return one entry per app and detector, the most severe first."""
    groups: dict[tuple[str, str], list[Alert]] = {}
    for alert in newest:
        groups.setdefault((alert.series.get("app", ""), alert.detector), []).append(alert)
    ranked = sorted(groups.items(), key=lambda g: (-SEVERITIES.index(_greatest(g[1]).severity), -len(g[1]), g[0]))
    named = [_group(app, detector, alerts, len(newest)) for (app, detector), alerts in ranked[:_GROUPS]]
    if rest := ranked[_GROUPS:]:
        count = sum(len(alerts) for _, alerts in rest)
        text = f"{count} more in {len(rest)} other groups of app and detector"
        named.append(Cause("app,detector", "", round(count / len(newest), 4), text))
    return tuple(named)


def _group(app: str, detector: str, alerts: Sequence[Alert], total: int) -> Cause:
    first = _greatest(alerts)
    what = first.title.removeprefix("over: ") or f"{first.rule} {amount(first.observed, first.unit)}"
    span = when(replace(first, late=False))
    text = f"{app or 'no app'}, {detector}: {len(alerts)}; greatest: {what}; {comparison(first)}; {span}"
    return Cause("app,detector", f"{app},{detector}", round(len(alerts) / total, 4), text)


def _greatest(alerts: Sequence[Alert]) -> Alert:
    return max(alerts, key=lambda a: (SEVERITIES.index(a.severity), a.score, a.id))


def _span(alerts: Sequence[Alert]) -> tuple[str, str]:
    """Event time from the first onset to the last end, as the alerts write it; "" where none can be read."""
    begins = [(t, a.window.start) for a in alerts if (t := times.parsed(a.window.start))]
    ends = [(t, a.window.end) for a in alerts if (t := times.parsed(a.window.end))]
    first: tuple[datetime, str] | None = min(begins, default=None)
    last: tuple[datetime, str] | None = max(ends, default=None)
    return first[1] if first else "", last[1] if last else ""
