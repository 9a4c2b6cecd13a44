"""One run over all apps of the lake. The same lake at the same moment gives the same alerts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import structlog

from jobs.alert_report import AlertReport
from jobs.landed_alerts import newest_alerts
from jobs.novelty import alerts
from jobs.novelty.alerts import DETECTOR, SKEW, EarlierNotes
from jobs.novelty.compare import compare, evidence
from jobs.novelty.decide import Change, NewValue, Settings, changes, is_due_for_note, new_values
from jobs.novelty.pairs import AllowedPairs, Skew, skews
from jobs.novelty.values import values
from schemas.alerts import Alert
from warehouse.query.readonly import ReadOnlyLake

__all__ = ["DETECTOR", "NoveltyReport", "novelty"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NoveltyReport(AlertReport):
    """What one run found."""

    new: tuple[str, ...]
    """Every new value of the last two days in words, with or without an alert."""
    alerts: tuple[Alert, ...]
    """State changes, to be published."""
    took_s: float
    problem: str = ""
    """Why nothing was judged."""

    @property
    def counts(self) -> str:
        """What was judged, in words."""
        return f"{len(self.new)} new values in two days"

    def text(self) -> str:
        """Return the run in words, with every new value."""
        new = () if self.problem else self.new
        return "\n".join([super().text(), *(f"  new: {each}" for each in new)])


def novelty(
    lake: ReadOnlyLake,
    now: datetime,
    settings: Settings,
    pairs: AllowedPairs | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> NoveltyReport:
    """Return the notes on what is new; nothing is sent.

    Args:
        lake: what has landed, the alerts of earlier runs included.
        now: what landed later is not looked at.
        settings: what is a note.
        pairs: which models a prompt version may run on.
        stop: ends the run early.

    Raises:
        LakeUnavailableError: the catalog or a file does not answer.
    """
    began = time.monotonic()
    earlier = EarlierNotes.of(newest_alerts(lake, DETECTOR), now)
    new = new_values(values(lake, now, settings.kinds), settings)
    left = [value for value in new if not earlier.has_note(value)]
    states = [*_closed(lake, earlier, now), *_joined(left, earlier, now, settings)]
    rest = [value for value in left if earlier.joins(value, settings) is None]
    due = [change for change in changes(rest, settings) if is_due_for_note(change, now, settings)]
    states += _found(lake, due, earlier, now, settings, stop)
    states += _skewed(skews(lake, pairs or AllowedPairs(), now), earlier, now, settings)
    took_s = round(time.monotonic() - began, 3)
    log.info("novelty_judged", new=len(new), alerts=len(states), took_s=took_s)
    return NoveltyReport(tuple(map(_words, new)), tuple(states), took_s)


def _closed(lake: ReadOnlyLake, earlier: EarlierNotes, now: datetime) -> Iterator[Alert]:
    for alert in earlier.alerts.values():
        if alert.state == "resolved" or alert.rule == SKEW:
            continue
        if now - datetime.fromisoformat(alert.window.start) < alerts.OPEN_FOR:
            continue
        value = alerts.value_of(alert)
        if value is None:
            yield alerts.closed(alert, now)
        else:
            yield alerts.closed(alert, now, compare(lake, value, now), evidence(value, now))


def _joined(left: Sequence[NewValue], earlier: EarlierNotes, now: datetime, settings: Settings) -> Iterator[Alert]:
    found: dict[str, tuple[Alert, list[NewValue]]] = {}
    for value in left:
        alert = earlier.joins(value, settings)
        if alert is not None and value.calls >= settings.least_calls:
            found.setdefault(alert.id, (alert, []))[1].append(value)
    for alert, mine in found.values():
        yield alerts.joined(alert, mine, now)


def _found(
    lake: ReadOnlyLake,
    due: Iterable[Change],
    earlier: EarlierNotes,
    now: datetime,
    settings: Settings,
    stop: Callable[[], bool],
) -> Iterator[Alert]:
    for app, mine in groupby(due, key=lambda change: change.values[0].app):
        room = max(settings.most_a_day - len(earlier.open(app)), 0)
        waiting = list(mine)
        for change in waiting[:room]:
            if stop():
                return
            value = change.values[0]
            before = earlier.alerts.get(alerts.id_of(alerts.rule_of(value.kind), value.series))
            compared = compare(lake, value, now)
            if compared.after.calls:
                yield alerts.found(change, compared, before, now, settings)
        if waiting[room:] and not stop():
            yield alerts.many(app, waiting[room:], now, settings)


def _skewed(found: Iterable[Skew], earlier: EarlierNotes, now: datetime, settings: Settings) -> Iterator[Alert]:
    still = set()
    for skew in found:
        mine = alerts.id_of(SKEW, skew.series)
        before = earlier.alerts.get(mine)
        still.add(mine)
        if skew.app not in settings.ignore and (before is None or before.state == "resolved"):
            yield alerts.skewed(skew, before, now, settings)
    for alert in earlier.alerts.values():
        if alert.rule == SKEW and alert.state != "resolved" and alert.id not in still:
            yield alerts.closed(alert, now)


def _words(value: NewValue) -> str:
    where = " ".join(f"{name} {each}" for name, each in value.series.items())
    return f"{where}, first {value.first:%Y-%m-%d %H:%M} UTC, {value.calls:,} calls"
