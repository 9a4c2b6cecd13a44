"""The signed webhook: what it signs, and that others' verifiers agree."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from pipelines.notify.channels import Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels
from schemas.alerts import Alert

OLD = "whsec_" + base64.b64encode(b"old-old-old-old-old-old!").decode()
NEW = "whsec_" + base64.b64encode(b"new-new-new-new-new-new!").decode()
OTHER = "whsec_" + base64.b64encode(b"somebody else's secret!!").decode()

Make = Callable[..., Alert]


def send(
    receiver: Any, alert: Alert, *, secrets: tuple[str, ...] = (), at: int | None = None, body: bytes = b""
) -> Any:
    (spec,) = parse_channels([{"url": receiver.url(), "secrets": list(secrets)}])
    channel = build(spec, Poster(Guard.allowing([receiver.host])))
    outcome = channel.send(Message(alert, body or alert.to_json(), at or time.time_ns() // 1000))
    assert outcome.kind == "delivered"
    return receiver.got[-1]


def test_the_body_is_the_alert_byte_for_byte_and_verifies(receiver: Any, make_alert: Make) -> None:
    alert = make_alert(title="Ünïcode — 漢字 🔥")
    body = b"  " + alert.to_json() + b"\n"
    got = send(receiver, alert, secrets=(OLD,), body=body)
    assert got.body == body
    assert Webhook(OLD).verify(got.body, got.headers) == json.loads(body)
    assert got.headers["content-type"] == "application/json"


def test_the_signature_is_the_one_the_standard_describes(receiver: Any, make_alert: Make) -> None:
    at = 1_760_000_000_500_000
    got = send(receiver, make_alert(), secrets=(OLD,), at=at)
    assert got.headers["webhook-timestamp"] == "1760000000"
    signed = f"{got.headers['webhook-id']}.1760000000.".encode() + got.body
    expected = base64.b64encode(hmac.new(b"old-old-old-old-old-old!", signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"


def test_while_a_secret_is_rotated_both_verify(receiver: Any, make_alert: Make) -> None:
    got = send(receiver, make_alert(), secrets=(NEW, OLD))
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        Webhook(secret).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(got.body, got.headers)


def test_a_changed_body_an_old_time_or_a_missing_header_does_not_verify(receiver: Any, make_alert: Make) -> None:
    got = send(receiver, make_alert(), secrets=(OLD,))
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(got.body.replace(b"12.4", b"12.5"), got.headers)
    for header in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(got.body, {k: v for k, v in got.headers.items() if k != header})
    stale = send(receiver, make_alert(), secrets=(OLD,), at=(time.time_ns() // 1000) - 400_000_000)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(stale.body, stale.headers)


def test_the_id_is_that_of_the_state_and_the_time_that_of_the_attempt(receiver: Any, make_alert: Make) -> None:
    alert = make_alert(seq=3)
    first = send(receiver, alert, secrets=(OLD,), at=1_760_000_000_000_000)
    second = send(receiver, alert, secrets=(OLD,), at=1_760_000_060_000_000)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{alert.id}-3"
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.body == second.body


def test_with_no_secret_there_is_no_signature(receiver: Any, make_alert: Make) -> None:
    got = send(receiver, make_alert())
    assert "webhook-signature" not in got.headers
    assert got.headers["webhook-id"]


def test_the_sample_in_the_docs_does_what_it_says(receiver: Any, make_alert: Make) -> None:
    page = (Path(__file__).parents[4] / "docs" / "reference" / "alert-channels.md").read_text(encoding="utf-8")
    sample = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "def verify_signature" in block)
    names: dict[str, Any] = {}
    exec(compile(sample, "docs/reference/alert-channels.md", "exec"), names)
    verify = names["verify_signature"]
    alert = make_alert()
    got = send(receiver, alert, secrets=(NEW, OLD))
    assert verify(got.body, got.headers, [OLD])["id"] == alert.id
    assert verify(got.body, got.headers, [OTHER, NEW])["id"] == alert.id
    for body, secrets in ((got.body + b" ", [OLD]), (got.body, [OTHER]), (got.body, [])):
        with pytest.raises(ValueError, match="signature"):
            verify(body, got.headers, secrets)
    unsigned = send(receiver, alert)
    with pytest.raises(ValueError, match="signature"):
        verify(unsigned.body, unsigned.headers, [OLD])
