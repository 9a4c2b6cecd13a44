"""Apprise: real plug-ins against a real server; disarmed text; bounded in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.notify.channels import Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard, UnreachableError
from pipelines.notify.spec import parse_channels
from schemas.alerts import Alert
from schemas.errors import SettingsError

Make = Callable[..., Alert]


def made(url: str, guard: Guard, deadline_s: float = 5.0) -> Any:
    (spec,) = parse_channels([{"kind": "apprise", "url": url}])
    return build(spec, Poster(guard, deadline_s=deadline_s))


def send(url: str, alert: Alert, deadline_s: float = 5.0) -> Any:
    channel = made(url, Guard.allowing(["127.0.0.1"]), deadline_s)
    return channel.send(Message(alert, alert.to_json(), 1_760_000_000_000_000))


def nowhere(host: str, port: int, timeout_s: float) -> tuple[str, ...]:
    raise UnreachableError("the host name does not resolve")


def test_a_plug_in_delivers_title_and_text_with_names_disarmed(receiver: Any, make_alert: Make) -> None:
    outcome = send(f"gotify://{receiver.host}/canarytoken", make_alert(series={"tenant": "@everyone <@U1>"}))
    assert outcome.kind == "delivered"
    sent = json.loads(receiver.got[0].body)
    assert "FIRING" in sent["title"]
    body = sent["message"]
    assert "tenant=@\u200beveryone ‹@\u200bU1›" in body
    assert "@everyone" not in body
    assert "<@U1>" not in body


def test_a_redirect_is_not_followed(start_receiver: Callable[..., Any], make_alert: Make) -> None:
    elsewhere = start_receiver()
    receiver = start_receiver().always(307, headers=(("location", elsewhere.url()),))
    outcome = send(f"gotify://{receiver.host}/token", make_alert())
    assert outcome.kind == "retry"
    assert elsewhere.got == []


def test_what_takes_too_long_is_left_behind(receiver: Any, make_alert: Make) -> None:
    receiver.always(200, hold_s=20.0)
    began = time.monotonic()
    outcome = send(f"gotify://{receiver.host}/token", make_alert(), deadline_s=0.4)
    assert (outcome.kind, outcome.detail) == ("retry", "Apprise took longer than 0.4 s")
    assert time.monotonic() - began < 15.0


@pytest.mark.parametrize("scheme", ["json", "jsons", "xml", "xmls", "form", "forms", "JSON"])
def test_the_schemes_that_would_pass_the_guard_by_are_refused(scheme: str, make_alert: Make) -> None:
    with pytest.raises(SettingsError, match="past the guard"):
        send(f"{scheme}://127.0.0.1/x", make_alert())


@pytest.mark.parametrize(
    "url",
    [",json://127.0.0.1:1/x", " ; jsons://example.org/x", "gotify://h/abcdefghijklmno json://169.254.169.254/a"],
)
def test_nor_do_they_pass_behind_what_apprise_skips_or_splits(url: str) -> None:
    with pytest.raises(SettingsError, match="past the guard"):
        made(url, Guard.allowing(["127.0.0.1", "169.254.169.254", "example.org"]))


@pytest.mark.parametrize("option", ["keyfile", "subfile"])
def test_a_url_among_the_options_is_refused_because_apprise_would_fetch_it(option: str) -> None:
    with pytest.raises(SettingsError, match="fetch past the guard"):
        made(f"vapid://me@example.org/bob@example.org?{option}=http://127.0.0.1:1/key", Guard(resolver=nowhere))


def test_a_url_that_names_two_services_is_refused() -> None:
    with pytest.raises(SettingsError, match="names 2 services"):
        made("gotify://a.example/abcdefghijklmno, gotify://b.example/abcdefghijklmno", Guard(resolver=nowhere))


INNER = [
    "gotify://{}/abcdefghijklmno",
    "ntfy://{}/topic",
    "apprise://{}/token",
    "mmost://{}/3ccdd113474722377935511fc85d3dd4",
    "mailto://user:password@{}?from=me@example.org&to=you@example.org",
    "mailto://user:password@example.org?smtp={}",
    "rsyslog://{}/",
    "zulip://bot@{}/a6k4ABnck26zDhA8gnweMDjP92Tq8oKT",
    "nostr://" + "a" * 64 + "/?relay=ws://{}",
]


@pytest.mark.parametrize("url", INNER)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.100.100.200"])
def test_an_inner_address_is_refused_at_the_start_wherever_a_url_can_name_it(url: str, address: str) -> None:
    with pytest.raises(SettingsError, match="refused: a"):
        made(url.format(address), Guard(resolver=nowhere))


@pytest.mark.parametrize("url", INNER)
def test_so_is_a_name_that_leads_to_one_and_an_allowed_one_is_not_but_for_metadata(url: str) -> None:
    url = url.format("inner.example")
    with pytest.raises(SettingsError, match="private"):
        made(url, Guard(resolver=lambda *_: ("10.0.0.1",)))
    made(url, Guard(frozenset({"inner.example"}), lambda *_: ("10.0.0.1",)))
    with pytest.raises(SettingsError, match="metadata"):
        made(url, Guard(frozenset({"inner.example"}), lambda *_: ("169.254.169.254",)))


@pytest.mark.parametrize(
    "url",
    [
        "discord://123456789/abcdef",
        "ntfy://2130706433?mode=cloud",
        "wechat://corp:secret@1000002/",
        "gotify://nobody.example/abcdefghijklmno",
        "mailto://user:password@example.org?smtp=mail.example.org",
    ],
)
def test_tokens_topics_and_names_that_do_not_resolve_now_are_no_reason_to_refuse(url: str) -> None:
    made(url, Guard(resolver=nowhere))


def test_a_name_that_leads_inside_later_is_not_called(receiver: Any, make_alert: Make) -> None:
    answers = ["8.8.8.8", "127.0.0.1"]
    channel = made(f"gotify://localhost:{receiver.port}/abcdefghijklmno", Guard(resolver=lambda *_: (answers.pop(0),)))
    alert = make_alert()
    outcome = channel.send(Message(alert, alert.to_json(), 1_760_000_000_000_000))
    assert (outcome.kind, outcome.detail) == ("retry", "an address that is loopback, private or reserved")
    assert receiver.got == []


def test_a_template_behind_a_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="template"):
        made("discord://123456789/abcdef?template=http://169.254.169.254/latest", Guard(resolver=nowhere))


def test_a_matrix_server_names_no_other_host_to_speak_to() -> None:
    """Its .well-known may name any: only with TLS would Apprise ask, so what it would do is asked of the plug-in."""
    channel = made("matrixs://user:secret@matrix.example.org/#room", Guard.allowing([]))
    (plug_in,) = channel._service
    assert plug_in.secure
    assert plug_in.server_discovery() == ""
