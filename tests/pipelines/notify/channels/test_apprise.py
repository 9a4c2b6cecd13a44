"""Apprise: real plug-ins against a real server; disarmed text; bounded in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.notify.channels import Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels
from schemas.alerts import Alert
from schemas.errors import SettingsError

Make = Callable[..., Alert]


def send(url: str, alert: Alert, deadline_s: float = 5.0) -> Any:
    (spec,) = parse_channels([{"kind": "apprise", "url": url}])
    channel = build(spec, Poster(Guard(), deadline_s=deadline_s))
    return channel.send(Message(alert, alert.to_json(), 1_760_000_000_000_000))


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
