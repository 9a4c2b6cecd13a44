"""A generic webhook, signed by Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from standardwebhooks import Webhook

from pipelines.notify.channels.base import Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import ChannelSpec


class WebhookChannel:
    """Sends the alert's JSON. With no secret set it is not signed."""

    kind: ClassVar[str] = "webhook"
    parallel: ClassVar[int] = 4
    coalesces: ClassVar[bool] = False  # programs read it: they get every state

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        self._target = poster.guard.target(spec.url)
        self._poster = poster
        self._secrets = [Webhook(secret) for secret in spec.secrets]

    def send(self, message: Message) -> Outcome:
        """POST it; the id is the same at every attempt, the time and the signatures are those of this one."""
        outcome, _ = self._poster.outcome(self._target, message.body, self._headers(message), message.at)
        return outcome

    def send_report(self, report: Report) -> Outcome:
        """POST the report's JSON, signed like an alert."""
        outcome, _ = self._poster.outcome(self._target, report.body, self._headers(report), report.at)
        return outcome

    def _headers(self, message: Message | Report) -> dict[str, str]:
        seconds = message.at // 1_000_000
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(seconds),
        }
        if self._secrets:
            at, text = datetime.fromtimestamp(seconds, UTC), message.body.decode()
            # one signature per secret: while a secret is rotated, receivers may have either
            headers["webhook-signature"] = " ".join(s.sign(message.id, at, text) for s in self._secrets)
        return headers
