"""Alertmanager: its API v2 (https://prometheus.io/docs/alerting/latest/alerts_api/), and the webhook that it sends.

Alertmanager identifies an alert by its labels, so the labels are those of the fingerprint, and the severity for its
routes. A severity may change while an alert is open: with every state the other two are sent as ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pipelines.notify import format as words
from pipelines.notify import times
from pipelines.notify.channels.base import Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.content import show
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import SEVERITIES, ChannelSpec
from schemas.alerts import Alert

OPEN_FOR = timedelta(days=30)
"""An alert whose end is never sent stays open for this time; without an end Alertmanager closes it in 5 minutes."""
REPORT_FOR = timedelta(hours=1)
_API = "/api/v2/alerts"
_NAME = re.compile(r"[^a-zA-Z0-9_]")
_TAKEN = frozenset({"alertname", "detector", "severity"})
_HEADERS = {"content-type": "application/json"}
Entry = dict[str, Any]


class AlertmanagerChannel:
    """Posts to the API v2 of an Alertmanager. The URL is its base address, or ends in ``/api/v2/alerts``."""

    kind: ClassVar[str] = "alertmanager"
    parallel: ClassVar[int] = 4
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        base = spec.url.rstrip("/")
        self._target = poster.guard.target(base if base.endswith(_API) else base + _API)
        self._poster = poster

    def send(self, message: Message) -> Outcome:
        """POST the state of the alert."""
        return self._post(entries(message.alert, message.at), message.at)

    def send_report(self, report: Report) -> Outcome:
        """POST the report as an alert of severity info that ends in an hour."""
        return self._post([_report(report)], report.at)

    def _post(self, body: list[Entry], at: int) -> Outcome:
        outcome, _ = self._poster.outcome(self._target, json.dumps(body).encode(), _HEADERS, at)
        return outcome


class AlertmanagerWebhookChannel:
    """Posts what Alertmanager's own webhook receiver posts, version 4, to any receiver of that format.

    https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """

    kind: ClassVar[str] = "alertmanager_webhook"
    parallel: ClassVar[int] = 4
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        self._target = poster.guard.target(spec.url)
        self._poster, self._receiver = poster, spec.name

    def send(self, message: Message) -> Outcome:
        """POST the alert as a group of one."""
        return self._post(entries(message.alert, message.at)[0], message.alert.fingerprint, message.at)

    def send_report(self, report: Report) -> Outcome:
        """POST the report as an alert of severity info."""
        return self._post(_report(report), report.id, report.at)

    def _post(self, entry: Entry, fingerprint: str, at: int) -> Outcome:
        status = "resolved" if entry["endsAt"] <= _text(at) else "firing"
        alert = {**entry, "status": status, "fingerprint": fingerprint}
        if status == "firing":
            alert["endsAt"] = "0001-01-01T00:00:00Z"  # as Alertmanager has it
        labels, annotations = entry["labels"], entry["annotations"]
        body = {
            **{"version": "4", "groupKey": fingerprint, "truncatedAlerts": 0, "status": status},
            **{"receiver": self._receiver, "externalURL": "", "alerts": [alert]},
            **{"groupLabels": labels, "commonLabels": labels, "commonAnnotations": annotations},
        }
        outcome, _ = self._poster.outcome(self._target, json.dumps(body).encode(), _HEADERS, at)
        return outcome


def entries(alert: Alert, at: int) -> list[Entry]:
    """Return the alerts of API v2: the state itself, then the same alert under the other severities, ended.

    Args:
        alert: to be shown.
        at: time of the delivery, µs UTC.
    """
    start = times.parsed(alert.window.start) or datetime.fromtimestamp(at / 1e6, UTC)
    resolved = alert.state == "resolved"
    end = _text(at) if resolved else _text(at, OPEN_FOR)
    begin = min(f"{start.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", _text(at))
    found = [
        {"labels": alert_labels(alert), "annotations": alert_annotations(alert, at), "startsAt": begin, "endsAt": end}
    ]
    for severity in SEVERITIES:
        if severity != alert.severity:
            other = {**alert_labels(alert), "severity": severity}
            found.append({"labels": other, "annotations": {}, "startsAt": begin, "endsAt": _text(at)})
    return found


def alert_labels(alert: Alert) -> dict[str, str]:
    """Return what identifies the alert: rule, detector, severity and series; names as Prometheus allows them."""
    series: dict[str, str] = {}
    for name, value in alert.series.items():
        plain = _label_name(name)
        series[f"series_{plain}" if plain in _TAKEN else plain] = _plain(value)
    return {
        "alertname": _plain(alert.rule),
        "detector": _plain(alert.detector),
        "severity": alert.severity,
        **{name: value for name, value in series.items() if value},
    }


def alert_annotations(alert: Alert, at: int) -> dict[str, str]:
    """Return what people read."""
    found: Mapping[str, str] = {
        "summary": words.headline(alert, at),
        "description": ". ".join(filter(None, (words.comparison(alert), words.impact(alert), *words.causes(alert)))),
        "runbook": " ".join(f"{n}. {step}" for n, step in enumerate(words.steps(alert), 1)),
        "alert_id": alert.id,
        "command": show(alert),
    }
    return {name: _plain(text, 2000) for name, text in found.items() if text}


def _report(report: Report) -> Entry:
    return {
        "labels": {"alertname": "TailraceReport", "severity": "info", "report": _plain(report.id)},
        "annotations": {"summary": _plain(report.title), "description": _plain(" ".join(report.lines), 2000)},
        "startsAt": _text(report.at),
        "endsAt": _text(report.at, REPORT_FOR),
    }


def _label_name(name: str) -> str:
    plain = _NAME.sub("_", name)[:64]
    return plain if plain and not plain[0].isdigit() else f"_{plain}"


def _plain(text: str, limit: int = 300) -> str:
    return words.unmentioned(words.clean(text, limit))


def _text(at: int, more: timedelta = timedelta()) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC) + more:%Y-%m-%dT%H:%M:%S.%fZ}"
