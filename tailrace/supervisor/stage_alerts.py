"""Alerts about the stages themselves: sent by the supervisor, straight to the channels.

No stage, no Kafka and no lake is needed for them, so they also arrive where notify is the stage that fails. What was
sent and what is still to be sent is kept in the home: a restarted supervisor sends what is left, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from pipelines.backoff import exponential_s
from schemas.alerts import Alert, Cause, Window, alert_id, fingerprint
from schemas.errors import UNREADABLE, SettingsError

if TYPE_CHECKING:
    from pipelines.notify.spec import ChannelSpec
    from pipelines.notify.stage import NotifyConfig
    from tailrace.home.layout import Home

log = structlog.get_logger()
RULE = "up.stage_failing"
RECOVERED_AFTER_S = 60.0
"""A stage that runs for as long again is healthy; one that fails at the next record continues the same incident."""
_FILE = "stage_alerts"
_BASE_S, _CAP_S, _GIVE_UP_S = 2.0, 60.0, 86_400.0


class DeadLetter(msgspec.Struct):
    """One state of one alert, and the channels that have not accepted it yet."""

    alert: Alert
    channels: list[str]
    since: int
    """When it was put here, µs UTC."""
    attempts: int = 0
    next_at: int = 0


class Journal(msgspec.Struct):
    """What the home keeps."""

    last: dict[str, Alert] = {}
    """Stage -> the newest state of its newest alert."""
    well_since: dict[str, int] = {}
    """Stage whose alert is open -> since when it has run again, µs UTC."""
    outbox: list[DeadLetter] = []


class StageAlerts:
    """One supervisor's alerts about its stages."""

    def __init__(self, home: Home, config: Callable[[], NotifyConfig], now: Callable[[], int]) -> None:
        """``config`` is called only when there is something to send, because it imports all channels."""
        self._home, self._config, self._now = home, config, now
        self._journal = _read(home)

    def step(self, failing: Mapping[str, Mapping[str, Any]], well: Collection[str]) -> None:
        """Raise, resolve and deliver what is due.

        Args:
            failing: stage -> position, ends, since and cause, as the supervisor's run file has them; or a part of a
                stage, with its own title and runbook.
            well: stages that run.
        """
        before = msgspec.json.encode(self._journal)
        now = self._now()
        for stage, facts in failing.items():
            self._journal.well_since.pop(stage, None)
            last = self._journal.last.get(stage)
            if last is None or last.state == "resolved":
                self._put(stage, firing(stage, facts, last, now), now)
        for stage, last in list(self._journal.last.items()):
            if last.state == "resolved" or stage in failing or stage not in well:
                continue
            if now - self._journal.well_since.setdefault(stage, now) >= RECOVERED_AFTER_S * 1e6:
                del self._journal.well_since[stage]
                self._put(stage, resolved(last, now), now)
        self._deliver(now)
        if msgspec.json.encode(self._journal) != before:
            self._home.write_run(_FILE, msgspec.to_builtins(self._journal))

    def _put(self, stage: str, alert: Alert, now: int) -> None:
        self._journal.last[stage] = alert
        log.error("stage_alert", alert=alert.id, seq=alert.seq, state=alert.state, title=alert.title)
        self._journal.outbox.append(DeadLetter(alert, [spec.name for spec in _addressed(self._config())], now))

    def _deliver(self, now: int) -> None:
        """Attempt what is due; what is behind an earlier state for the same channel waits for it."""
        waiting: set[str] = set()
        for delivery in self._journal.outbox:
            for channel in [c for c in delivery.channels if c not in waiting]:
                if delivery.next_at <= now and self._attempt(delivery, channel, now):
                    delivery.channels.remove(channel)
                else:
                    waiting.add(channel)
            if delivery.channels and delivery.next_at <= now:
                delivery.attempts += 1
                delivery.next_at = now + int(exponential_s(delivery.attempts, first_s=_BASE_S, longest_s=_CAP_S) * 1e6)
        self._journal.outbox = [delivery for delivery in self._journal.outbox if delivery.channels]

    def _attempt(self, delivery: DeadLetter, channel: str, now: int) -> bool:
        """Send once; whether nothing is left to be done for this channel."""
        from pipelines.notify.stage import send_once

        config = self._config()
        specs = tuple(spec for spec in config.channels if spec.name == channel)
        if not specs:
            return True  # it is not among the settings any more
        try:
            (outcome,) = send_once(replace(config, channels=specs), delivery.alert).values()
        except SettingsError as error:
            log.error("stage_alert_not_sent", channel=channel, cause=str(error))
            return True
        log.info("stage_alert_attempted", alert=delivery.alert.id, channel=channel, outcome=outcome.kind)
        return outcome.kind != "retry" or now - delivery.since > _GIVE_UP_S * 1e6


def firing(stage: str, facts: Mapping[str, Any], last: Alert | None, now: int) -> Alert:
    """Return the alert that ``stage`` fails; the id is that of the stage and its position.

    It holds no text of a record or an error, because it is sent to external services.
    """
    where, cause, ends = str(facts["position"]), str(facts["cause"]), int(facts["ends"])
    series = {"stage": stage}
    name = alert_id(f"{RULE}@{where}", series, 0)
    return Alert(
        id=name,
        seq=last.seq + 1 if last and last.id == name else 0,
        fingerprint=fingerprint(RULE, series),
        detector="up",
        rule=RULE,
        severity="critical",
        state="firing",
        series=series,
        window=Window(_moment(facts.get("since") or now), _moment(now)),
        observed=float(ends),
        expected=0.0,
        score=float(ends),
        unit="restarts",
        cause=(Cause("stage", stage, 1.0, cause),),
        runbook=facts.get("runbook")
        or (
            "`tailrace status` shows the position, why the stage ended and how far it is behind",
            f"the end of logs/{stage}.log in the home has the error and, after a hang, the stacks of its threads",
            "nothing is lost while the topics keep their records: the stage is started again every 20 s from there",
        ),
        detected_at=_moment(now),
        title=facts.get("title") or f"stage {stage} is failing at {where}: {cause}",
    )


def resolved(last: Alert, now: int) -> Alert:
    """Return the end of the incident that ``last`` is the newest state of."""
    return msgspec.structs.replace(
        last,
        seq=last.seq + 1,
        state="resolved",
        window=Window(last.window.start, _moment(now)),
        runbook=(),
        detected_at=_moment(now),
        title=f"{last.series['stage'] if ':' in last.series['stage'] else 'stage ' + last.series['stage']} runs again",
    )


def _addressed(config: NotifyConfig) -> tuple[ChannelSpec, ...]:
    """Channels without a route; a route picks apps, and a stage works for all of them. Where all have one: all."""
    return tuple(spec for spec in config.channels if not spec.route) or config.channels


def _read(home: Home) -> Journal:
    try:
        return msgspec.convert(home.read_run(_FILE) or {}, Journal)
    except UNREADABLE as error:
        log.warning("stage_alerts_unreadable", cause=str(error))
        return Journal()


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()
