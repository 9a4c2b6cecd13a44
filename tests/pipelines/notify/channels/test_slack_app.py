"""A Slack app: Slack's answers decide, reports carry a picture, the token goes to Slack and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.notify.channels import Report, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.channels.slack_app import SlackAppChannel
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels
from schemas.errors import SettingsError

TOKEN = "canary-bot-token"
PNG = b"\x89PNG..."
REPORT = Report("evals-1", "Quality of the week", ("groundedness fell",), b"{}", 1_760_000_000_000_000, PNG)


def made(receiver: Any, **entry: Any) -> SlackAppChannel:
    table = {"name": "it", "kind": "slack_app", "url": f"{receiver.url('/api')}#C123", "secret": TOKEN, **entry}
    (spec,) = parse_channels([table])
    channel = build(spec, Poster(Guard.allowing([receiver.host]), deadline_s=5.0))
    assert isinstance(channel, SlackAppChannel)
    return channel


def answers(receiver: Any, *, share: dict[str, Any] | None = None, upload: int = 200) -> None:
    receiver.on("/api/chat.postMessage", body=b'{"ok":true}')
    address = json.dumps({"ok": True, "upload_url": receiver.url("/upload"), "file_id": "F1"}).encode()
    receiver.on("/api/files.getUploadURLExternal", body=address)
    receiver.on("/upload", upload)
    receiver.on("/api/files.completeUploadExternal", body=json.dumps(share or {"ok": True}).encode())


def test_a_report_is_words_and_then_its_picture(receiver: Any) -> None:
    answers(receiver)
    outcome = made(receiver).send_report(REPORT)
    assert (outcome.kind, outcome.detail) == ("delivered", "HTTP 200")
    said, asked, uploaded, shared = receiver.got
    assert json.loads(said.body)["channel"] == "C123"
    assert json.loads(said.body)["text"] == "Quality of the week"
    assert asked.body == b"filename=quality.png&length=7"
    assert uploaded.body == PNG
    assert json.loads(shared.body) == {"files": [{"id": "F1", "title": "Quality of the week"}], "channel_id": "C123"}
    assert [got.headers.get("authorization") for got in receiver.got] == [f"Bearer {TOKEN}"] * 2 + [
        None,
        f"Bearer {TOKEN}",
    ]


@pytest.mark.parametrize(
    ("share", "upload", "problem"),
    [({"ok": False, "error": "missing_scope"}, 200, "missing_scope"), (None, 403, "HTTP 403")],
)
def test_a_picture_that_fails_does_not_send_the_words_again(
    receiver: Any, share: Any, upload: int, problem: str
) -> None:
    answers(receiver, share=share, upload=upload)
    outcome = made(receiver).send_report(REPORT)
    assert outcome.kind == "delivered"
    assert problem in outcome.detail
    assert [got.path for got in receiver.got].count("/api/chat.postMessage") == 1


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        (b'{"ok":false,"error":"channel_not_found"}', "failed", "Slack: channel_not_found"),
        (b'{"ok":false,"error":"ratelimited"}', "retry", "Slack: ratelimited"),
        (b'{"ok":false,"error":"canary text of a prompt"}', "failed", "Slack: an unknown error"),
        (b'{"ok":false,"error":{"a":1}}', "failed", "Slack: an unknown error"),
        (b"<html>", "retry", "Slack's answer is not JSON"),
        (b"[1]", "retry", "Slack's answer is not JSON"),
    ],
)
def test_ok_counts_and_not_the_status(receiver: Any, body: bytes, kind: str, detail: str) -> None:
    receiver.always(body=body)
    outcome = made(receiver).send_report(REPORT)
    assert (outcome.kind, outcome.detail) == (kind, detail)
    assert len(receiver.got) == 1


def test_an_upload_address_inside_the_network_is_not_called(receiver: Any) -> None:
    answers(receiver)
    inside = json.dumps({"ok": True, "upload_url": "https://169.254.169.254/latest", "file_id": "F1"}).encode()
    receiver.on("/api/files.getUploadURLExternal", body=inside)
    outcome = made(receiver).send_report(REPORT)
    assert outcome.kind == "delivered"
    assert "without the picture" in outcome.detail


@pytest.mark.parametrize("wrong", [{"secret": ""}, {"url": "https://slack.com/api"}])
def test_a_channel_without_token_or_id_is_refused_at_the_start(receiver: Any, wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="the id of a Slack channel or the token is missing"):
        made(receiver, **wrong)
