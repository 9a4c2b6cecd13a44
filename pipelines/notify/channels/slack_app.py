"""A Slack app with a bot token: the same messages as an incoming webhook, and pictures beside reports.

Needs the scopes ``chat:write`` and ``files:write``. A picture takes three requests
(https://docs.slack.dev/messaging/working-with-files): ask for an address, upload, share in the channel.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec

from pipelines.notify.channels.base import Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.channels.slack import payload, report_payload
from pipelines.notify.guard import RefusedTargetError, Target, UnreachableError
from pipelines.notify.outcome import Outcome, judge
from pipelines.notify.spec import ChannelSpec
from schemas.errors import UNREADABLE, SettingsError

_ERRORS = frozenset(
    (
        *("account_inactive", "channel_not_found", "internal_error", "invalid_auth", "is_archived", "missing_scope"),
        *("msg_too_long", "no_text", "not_allowed_token_type", "not_authed", "not_in_channel", "ratelimited"),
        *("rate_limited", "token_expired", "token_revoked", "invalid_blocks", "file_not_found", "fatal_error"),
    )
)
"""Errors of Slack that may be shown. Anything else could repeat what was sent."""
_MAY_PASS = frozenset(("internal_error", "ratelimited", "rate_limited", "fatal_error"))


class SlackAppChannel:
    """Posts to one channel by Slack's Web API."""

    kind: ClassVar[str] = "slack_app"
    parallel: ClassVar[int] = 1
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        """Read the URL ``https://slack.com/api#CHANNEL_ID``; the token is the channel's ``secret``."""
        base, _, self._channel = spec.url.partition("#")
        if not self._channel or len(spec.secrets) != 1:
            wanted = 'url = "https://slack.com/api#CHANNEL_ID" and secret = "xoxb-..." or secret_file'
            raise SettingsError(
                f"channel {spec.name}", "the id of a Slack channel or the token is missing", f"set {wanted}"
            )
        self._base = base.rstrip("/")
        self._poster = poster
        self._token = spec.secrets[0]
        self._target("chat.postMessage")

    def send(self, message: Message) -> Outcome:
        """Post the message of this state."""
        return self._message(payload(message.alert, message.at), message.at)

    def send_report(self, report: Report) -> Outcome:
        """Post the title and the lines; then the picture. A picture that fails does not send the words again."""
        outcome = self._message(report_payload(report), report.at)
        if outcome.kind != "delivered" or not report.image:
            return outcome
        problem = self._picture(report)
        return Outcome("delivered", f"{outcome.detail}; without the picture: {problem}" if problem else outcome.detail)

    def _message(self, content: dict[str, object], at: int) -> Outcome:
        body = msgspec.json.encode({**content, "channel": self._channel})
        return self._call(self._target("chat.postMessage"), body, "application/json; charset=utf-8", at)[0]

    def _picture(self, report: Report) -> str:
        """Upload and share; return what went wrong, or nothing."""
        form = urlencode({"filename": "quality.png", "length": len(report.image)}).encode()
        asked, answer = self._call(
            self._target("files.getUploadURLExternal"), form, "application/x-www-form-urlencoded", report.at
        )
        url, file_id = answer.get("upload_url"), answer.get("file_id")
        if asked.kind != "delivered" or not isinstance(url, str) or not isinstance(file_id, str):
            return asked.detail
        try:
            target = self._poster.guard.target(url)
        except RefusedTargetError as error:
            return error.reason
        # the address is Slack's own and needs no token; it is not given to other hosts
        uploaded, _ = self._poster.outcome(target, report.image, {"content-type": "image/png"}, report.at)
        if uploaded.kind != "delivered":
            return uploaded.detail
        share = {"files": [{"id": file_id, "title": report.title[:200]}], "channel_id": self._channel}
        body, kind = json.dumps(share).encode(), "application/json; charset=utf-8"
        shared, _ = self._call(self._target("files.completeUploadExternal"), body, kind, report.at)
        return "" if shared.kind == "delivered" else shared.detail

    def _target(self, method: str) -> Target:
        return self._poster.guard.target(f"{self._base}/{method}")

    def _call(self, target: Target, body: bytes, kind: str, at: int) -> tuple[Outcome, dict[str, Any]]:
        """Call one method. Slack answers 200 to errors as well; ``ok`` counts."""
        headers = {"content-type": kind, "authorization": f"Bearer {self._token}"}
        try:
            reply = self._poster.post(target, body, headers)
        except (RefusedTargetError, UnreachableError) as error:
            return Outcome("retry", error.reason), {}
        outcome = judge(reply.status, reply.retry_after, at)
        try:
            answer = json.loads(reply.body) if outcome.kind == "delivered" else {}
        except UNREADABLE:
            answer = None
        if outcome.kind != "delivered":
            return outcome, {}
        if not isinstance(answer, dict):
            return Outcome("retry", "Slack's answer is not JSON"), {}
        if answer.get("ok") is True:
            return outcome, answer
        code = answer.get("error")
        shown = code if isinstance(code, str) and code in _ERRORS else "an unknown error"
        return Outcome("retry" if shown in _MAY_PASS else "failed", f"Slack: {shown}"), {}
