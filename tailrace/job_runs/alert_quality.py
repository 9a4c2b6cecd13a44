"""The verdicts on the alerts of the last weeks, from the lake: precision by rule, proposals, and their back-test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from jobs.alert_quality import AlertQuality, Incident, Proposal, Tried, cost, effect, incidents_between, precisions
from jobs.alert_quality.report import proposals
from schemas.alerts import Alert
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.job_runs.run_detectors_again import beginning, processes_for, rollup_rows, run_detectors_again
from tailrace.times import moment
from warehouse.query.readonly import ReadOnlyLake

DAYS = 28
"""Days of alerts that a precision is made of: a week has too few verdicts."""
BACKTEST_DAYS = 13
"""Days that are judged again: ticks are kept for 14."""
MOST_ROWS = 1_500_000
"""Rows of rollups that a report judges again for one proposal; above that it names the command."""
MOST_PROPOSALS = 3
_DAY_US = 86_400_000_000


def alert_quality(
    here: Context, lake: ReadOnlyLake, until: date, *, now: int, backtest: bool, most_rows: int = MOST_ROWS
) -> AlertQuality:
    """Return how good the alerts of the weeks up to the day ``until`` were.

    Args:
        here: for the rules that hold.
        lake: that is read.
        until: last day.
        now: µs UTC.
        backtest: whether proposals are judged again here, where that is not too much.
        most_rows: of rollups, that are judged again for a proposal.
    """
    since = until - timedelta(days=DAYS - 1)
    incidents = incidents_between(lake.query, _start(since), _start(until + timedelta(days=1)))
    found, none = proposals(incidents, current(here))
    days = _Days(here, lake, now)
    most = most_rows if backtest else 0
    tried = tuple(_tried(days, proposal, most) for proposal in found[:MOST_PROPOSALS])
    return AlertQuality(since, until, precisions(incidents), tried, tuple(none))


class _Days:
    """The last days of which ticks are kept, and what the rules as they are find in them."""

    def __init__(self, here: Context, lake: ReadOnlyLake, now: int) -> None:
        self._lake, self._until = lake, now
        self.rules = wiring.detect_rules(here.settings)
        self.first, self.since = now - BACKTEST_DAYS * _DAY_US, f"{BACKTEST_DAYS}d"
        try:
            self._begin = beginning(lake, self.first, self.first - _DAY_US)
        except SettingsError:  # the lake is newer than that, or keeps its ticks for a shorter time
            self._begin = self.first = _first_tick(lake)
            self.since = f"{datetime.fromtimestamp(self.first / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"

    @cached_property
    def rows(self) -> int:
        """Rows of rollups that one back-test judges."""
        return rollup_rows(self._lake, self._begin, self._until)

    @cached_property
    def judged(self) -> list[Incident]:
        """What the detectors of the stream emitted, with the verdicts on it."""
        from pipelines.detect.detectors import DETECTORS

        names = {detector.name for detector in DETECTORS}
        return [i for i in incidents_between(self._lake.query, self.first, self._until) if i.first.detector in names]

    @cached_property
    def as_they_are(self) -> list[Alert]:
        """Alerts by the rules that hold."""
        return self.alerts(self.rules)

    def alerts(self, rules: Mapping[str, Mapping[str, Any]]) -> list[Alert]:
        """Return the alerts by ``rules``; what is found while the detectors learn is left out."""
        found = run_detectors_again(self._lake, rules, self._begin, self._until, processes=processes_for(self.rows))
        return [alert for alert in found if moment(alert.detected_at, 0) >= self.first]


def _tried(days: _Days, proposal: Proposal, most_rows: int) -> Tried:
    command = f"tailrace backtest --from {days.since} --set {proposal.setting} --verdicts"
    if days.rows > most_rows:
        return Tried(proposal, None, command, cost(days.rows))
    then = {**days.rules, proposal.detector: {**days.rules.get(proposal.detector, {}), proposal.field: proposal.then}}
    return Tried(proposal, effect(days.judged, days.as_they_are, days.alerts(then)), command, cost(days.rows))


def current(here: Context) -> dict[str, dict[str, float]]:
    """Return detector -> field -> number that holds by the settings."""
    from pipelines.detect.detectors import configure

    found: dict[str, dict[str, float]] = {}
    for detector in configure(wiring.detect_rules(here.settings)):
        values = {f.name: getattr(detector, f.name) for f in fields(detector)}  # type: ignore[arg-type]
        found[detector.name] = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return found


def _first_tick(lake: ReadOnlyLake) -> int:
    from pipelines.detect import backtest

    return (backtest.firsts(lake.query)[1] or 0) + 1_000_000


def _start(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
