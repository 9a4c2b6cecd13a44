"""A Slack incoming webhook: one message per state, laid out for the one who is on call.

The blocks are slack-sdk's models. Its client is not used to send: it follows the proxies of the environment and
looks the host up again, so the request would leave the guard.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec
from slack_sdk.models.attachments import BlockAttachment
from slack_sdk.models.blocks import Block, ContextBlock, MarkdownTextObject, SectionBlock

from pipelines.notify import format as words
from pipelines.notify import phone
from pipelines.notify.channels.base import Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import ChannelSpec
from schemas.alerts import Alert

_TEXT_MAX = 2_900  # Slack: 3,000 a section
_FIELD_MAX = 1_900  # Slack: 2,000 a field
_SQL_MAX = 2_000
_ERRORS = frozenset(
    b"action_prohibited channel_is_archived channel_not_found invalid_payload invalid_token no_active_hooks no_service "
    b"no_service_id no_team no_text posting_to_general_channel_denied team_disabled too_many_attachments "
    b"user_not_found".split()
)
"""Errors of Slack's incoming webhooks (docs.slack.dev). Other texts could contain the URL, so they are not shown."""


class SlackChannel:
    """Posts to one incoming webhook, which allows about one message a second."""

    kind: ClassVar[str] = "slack"
    parallel: ClassVar[int] = 1
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        self._target = poster.guard.target(spec.url)
        self._poster = poster

    def send(self, message: Message) -> Outcome:
        """Post the message of this state."""
        return self._post(payload(message.alert, message.at), message)

    def send_report(self, report: Report) -> Outcome:
        """Post the report's title and lines. An incoming webhook takes no file: the picture is left out."""
        return self._post(report_payload(report), report)

    def _post(self, content: dict[str, object], message: Message | Report) -> Outcome:
        headers = {"content-type": "application/json", "webhook-id": message.id}
        outcome, text = self._poster.outcome(self._target, msgspec.json.encode(content), headers, message.at)
        if outcome.kind in ("failed", "gone") and text in _ERRORS:
            return Outcome(outcome.kind, f"{outcome.detail} {text.decode()}")
        return outcome


def payload(alert: Alert, at: int | None = None) -> dict[str, object]:
    """Return the message in Slack's form: one line for phones, and the coloured rest. ``at``: now, µs UTC."""
    look = words.look(alert)
    line = _fit(phone.line(alert, at), 500)
    attachment = BlockAttachment(blocks=_blocks(alert, at), color=words.COLOURS[look], fallback=line)
    return {"text": line, "attachments": [attachment.to_dict()], "unfurl_links": False, "unfurl_media": False}


def report_payload(report: Report) -> dict[str, object]:
    """Return the report of a job in Slack's form: the title for notifications, and its lines as a list."""
    title = _fit(words.clean(report.title), 500)
    lines = "\n".join(f"• {words.clean(line, 500)}" for line in report.lines)
    blocks: list[Block] = [_section(f"*{title}*")]
    if lines:
        blocks.append(_section(_fit(lines, _TEXT_MAX)))
    return {
        "text": title,
        "blocks": [block.to_dict() for block in blocks],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _blocks(alert: Alert, at: int | None) -> list[Block]:
    title = _fit(words.clean(alert.title), 500)
    blocks: list[Block] = [_section(f"*{title}*")] if title else []
    blocks.append(SectionBlock(fields=_fields(alert, at)))
    lists = (
        (words.cause_title(alert), words.causes(alert)),
        ("Changes", words.changes(alert)),
        ("What to do", words.steps(alert)),
    )
    for title, entries in lists:
        if entries:
            blocks.append(_section(f"*{title}*\n" + _fit("\n".join(f"• {entry}" for entry in entries), _TEXT_MAX - 40)))
    if alert.children:
        blocks.append(_section(_fit(f"Also part of it: {len(alert.children)} series below this one", _TEXT_MAX)))
    if alert.evidence.call_ids:
        ids = ", ".join(words.clean(i, 64) for i in alert.evidence.call_ids[:10])
        blocks.append(_section("*Calls*\n" + _fit(ids, _TEXT_MAX - 40)))
    if alert.evidence.sql:
        sql = words.clean(alert.evidence.sql, _SQL_MAX, lines=True)
        blocks.append(_section(f"*Evidence*\n```{_fit(sql, _TEXT_MAX - 40)}```"))
    links = " · ".join(_link(name, url) for name, url in list(alert.links.items())[:5])
    text = f"{words.source(alert)} · alert {alert.id} · seq {alert.seq} · {alert.detector}/{alert.rule}"
    foot = _fit(words.clean(text), 400)
    blocks.append(ContextBlock(elements=[_text(f"{links} · {foot}" if links else foot)]))
    return blocks


def _fields(alert: Alert, at: int | None) -> list[MarkdownTextObject]:
    shown = [
        ("Series", words.series(alert)),
        ("Measure", words.comparison(alert)),
        ("When", words.when(alert, at)),
    ]
    if touched := words.impact(alert):
        shown.append(("Impact", touched))
    return [_text(f"*{name}*\n{_fit(value, _FIELD_MAX)}") for name, value in shown]


def _section(text: str) -> SectionBlock:
    return SectionBlock(text=_text(text))


def _text(escaped: str) -> MarkdownTextObject:
    # verbatim: Slack must not look for links, channels or mentions of its own in our values
    return MarkdownTextObject(text=escaped, verbatim=True)


def _fit(text: str, limit: int) -> str:
    """Escape and cut; a value cannot open or close a code block either."""
    return words.slack_cut(words.slack_escape(text.replace("```", "'''")), limit)


def _link(name: str, url: str) -> str:
    label = _fit(words.clean(name, 60), 80)
    if not re.fullmatch(r"https?://[!#-;=?-_a-{}~]{1,1500}", url):  # printable ASCII without " < > | and backtick
        return label
    return f"<{words.slack_escape(url)}|{label}>"
