"""What every alert channel keeps: names, kinds, outcomes for values, no exception, no URL told."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.notify.channels import CHANNELS, Channel, Message, Report, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels
from schemas.alerts import Alert, Evidence, Window, alert_id, fingerprint
from schemas.errors import SettingsError

HOSTILE = "<!channel> @everyone <@U1> \x00\u202e```{{7*7}}"
SERIES = {"app": HOSTILE, HOSTILE: "x"}
ALERT = Alert(
    id=alert_id("cost", SERIES, 0), seq=2, fingerprint=fingerprint("cost", SERIES), detector="spike", rule="cost",
    severity="warning", state="update", series=SERIES, window=Window("2026-07-01T10:00:00Z", "2026-07-01T10:01:00Z"),
    observed=1.0, expected=0.0, score=1.0, unit="usd", evidence=Evidence("SELECT 1", (HOSTILE,)), title=HOSTILE,
    runbook=(HOSTILE,), links={HOSTILE: HOSTILE}, detected_at="2026-07-01T10:01:00Z",
)  # fmt: skip
SECRET = "whsec_Y2FuYXJ5LXRva2VuLXRoYXQtaXMtYS1zZWNyZXQ="
MESSAGE = Message(ALERT, ALERT.to_json(), 1_760_000_000_000_000)


class Stub(ThreadingHTTPServer):
    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(self.server.status)
        self.send_header("content-length", "11")
        self.end_headers()
        self.wfile.write(b'{"ok":true}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(channel: type[Channel], port: int) -> str:
    scheme = "gotify" if channel.kind == "apprise" else "http"
    return f"{scheme}://127.0.0.1:{port}/canary-path-that-is-a-secret"


def made(channel: type[Channel], port: int, deadline_s: float = 5.0) -> Channel:
    app = channel.kind == "slack_app"
    entry = {"url": f"{url(channel, port)}#C1", "secret": SECRET} if app else {"url": url(channel, port)}
    (spec,) = parse_channels([{"name": "it", "kind": channel.kind, **entry}])
    return build(spec, Poster(Guard.allowing(["127.0.0.1"]), deadline_s=deadline_s))


def test_kinds_are_words_and_unlike() -> None:
    kinds = [channel.kind for channel in CHANNELS]
    assert len(set(kinds)) == len(kinds) >= 3
    assert all(kind.isidentifier() for kind in kinds)
    assert all(channel.parallel >= 1 for channel in CHANNELS)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
def test_a_message_full_of_hostile_text_arrives_once_for_one_send(channel: type[Channel], stub: Stub) -> None:
    assert made(channel, stub.server_port).send(MESSAGE).kind == "delivered"
    (body,) = stub.bodies
    if channel.kind != "webhook":  # programs get the JSON as it is; people get nothing that Slack or others act on
        text = body.decode()
        assert "<!channel>" not in text
        assert "<@U1>" not in text


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
def test_a_report_full_of_hostile_text_arrives_once_for_one_send(channel: type[Channel], stub: Stub) -> None:
    report = Report("evals-1", HOSTILE, (HOSTILE, "groundedness fell by 7.6 points"), b'{"type":"evals"}', MESSAGE.at)
    assert made(channel, stub.server_port).send_report(report).kind == "delivered"
    (body,) = stub.bodies
    text = body.decode()
    assert ("7.6 points" in text) == (channel.kind != "webhook")
    assert "<!channel>" not in text
    assert "<@U1>" not in text


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_refusal_is_an_outcome_and_never_an_exception(channel: type[Channel], stub: Stub, status: int) -> None:
    stub.status = status
    outcome = made(channel, stub.server_port).send(MESSAGE)
    assert outcome.kind in ("retry", "failed")
    assert "canary" not in outcome.detail


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
def test_silence_of_the_receiver_ends_at_the_deadline_and_is_tried_again(channel: type[Channel]) -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(8)
        outcome = made(channel, hole.getsockname()[1], deadline_s=0.4).send(MESSAGE)
    assert outcome.kind == "retry"
    assert "canary" not in outcome.detail


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
def test_nobody_there_is_tried_again(channel: type[Channel], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert made(channel, 1).send(MESSAGE).kind == "retry"
    assert "canary" not in caplog.text


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.kind)
def test_a_url_of_another_world_is_refused_at_the_start_without_being_shown(channel: type[Channel]) -> None:
    (spec,) = parse_channels([{"name": "it", "kind": channel.kind, "url": "file:///etc/canary#C1", "secret": SECRET}])
    with pytest.raises(SettingsError) as caught:
        build(spec, Poster(Guard()))
    assert "canary" not in str(caught.value)
