"""The Slack message: nothing in it can mention, link or break out; it fits; it tells the one on call what counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipelines.notify import format as words
from pipelines.notify.channels import Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.channels.slack import payload
from pipelines.notify.guard import Guard
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import parse_channels
from schemas.alerts import Alert, Cause, Change, Evidence, Impact, Parts, Window

HOSTILE = [
    "<!channel>",
    "<!here|x>",
    "<@U1>",
    "<#C1>",
    "<https://e|pay>",
    "&lt;!channel&gt;",
    "```<!everyone>```",
    "a\nb\x00\u202e",
]

Make = Callable[..., Alert]


def texts(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("text", "fallback") and isinstance(value, str):
                yield value
            else:
                yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


def full(make_alert: Make, value: str, **overrides: Any) -> Alert:
    fields: dict[str, Any] = {
        "series": {"app": value, value: "x"},
        "rule": value,
        "detector": value,
        "title": value,
        "unit": value,
        "window": Window(value, value),
        "detected_at": value,
        "cause": (Cause(value, value, 0.5, value), Cause(value, value, 0.4, "")),
        "changes": (Change(value, value, value),),
        "evidence": Evidence(value, (value,)),
        "runbook": (value,),
        "links": {value: "https://tailrace.example/a", "bad": value},
        "children": ({"app": value},),
        **overrides,
    }
    return make_alert(**fields)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_any_field_stays_literal_text(make_alert: Make, name: str) -> None:
    message = payload(full(make_alert, name))
    seen = list(texts(message))
    assert len(seen) > 10
    for text in seen:
        plain = text.replace("<https://tailrace.example/a|", "", 1)
        plain = plain.replace("> · ", " · ", 1) if plain != text else plain
        assert "<" not in plain
        assert ">" not in plain
        assert text.count("```") in (0, 2)
        assert "\u202e" not in text
        assert "\x00" not in text
    assert "link_names" not in message
    assert "parse" not in message
    assert all(b.get("verbatim") is True for b in _mrkdwn(message))


def _mrkdwn(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "mrkdwn":
            yield node
        for value in node.values():
            yield from _mrkdwn(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mrkdwn(value)


def test_names_arrive_as_what_they_are(make_alert: Make) -> None:
    message = payload(make_alert(series={"tenant": "<!channel> & <@U1>"}))
    fields = message["attachments"][0]["blocks"][1]["fields"]  # type: ignore[index]
    assert fields[0]["text"] == "*Series*\ntenant=&lt;!channel&gt; &amp; &lt;@U1&gt;"


@pytest.mark.parametrize("value", ["&" * 50_000, "<" * 50_000, "x" * 50_000, "漢" * 50_000])
def test_the_longest_values_fit_into_slacks_limits(make_alert: Make, value: str) -> None:
    alert = full(
        make_alert,
        value,
        cause=tuple(Cause(value, value, 0.1, value) for _ in range(100)),
        runbook=(value,) * 100,
        evidence=Evidence(value, (value,) * 1000),
        links={f"{value}{i}": f"https://e/{i}" for i in range(100)},
    )
    message: Any = payload(alert)
    (attachment,) = message["attachments"]
    assert len(message["text"]) <= 4000
    assert len(attachment["blocks"]) <= 50
    for text in texts(attachment["blocks"]):
        assert len(text) <= 3000
        assert not text.rstrip("…`").endswith(("&", "&a", "&am", "&l", "&g"))
    for field in attachment["blocks"][1]["fields"]:
        assert len(field["text"]) <= 2000
    assert len(json.dumps(message).encode()) < 100_000


def test_it_tells_what_happened_to_whom_why_and_what_to_do(make_alert: Make) -> None:
    alert = make_alert(
        impact=Impact(calls=1200, users=1, usd_per_hour=48.5),
        cause=(Cause("user", "u-17", 0.94, "user u-17: 94 % of the rise"),),
        changes=(Change("2026-07-01T09:58:00Z", "release", "release 2.4.1"),),
        links={"open": "https://tailrace.example/alerts/1"},
    )
    at = 1_782_900_160_000_000  # 2026-07-01T10:02:40Z
    message = payload(alert, at)
    told = "\n".join(texts(message))
    for part in (
        "🔴 FIRING · critical · shop · Cost of shop is 4 times what it is at this hour · since 10:00 UTC · tenant acme",
        "*Cost of shop is 4 times what it is at this hour*",
        "*When*\nsince 10:00:00 UTC, 2 min ago",
        f"tailrace alerts show {alert.id[:8]} · alert {alert.id}",
        "app=shop · tenant=acme",
        "observed $12.40, expected $3.10 (×4)",
        "1,200 calls, 1 user, $48.50 an hour",
        "user u-17: 94 % of the rise",
        "release 2.4.1",
        "• Rate-limit the user",
        "c-1, c-2",
        "```SELECT sum(cost_usd)",
        "<https://tailrace.example/alerts/1|open>",
    ):
        assert part in told
    assert message["attachments"][0]["color"] == "#d92d20"  # type: ignore[index]


def test_resolved_tells_how_long_and_how_much_and_leaves_the_runbook_out(make_alert: Make) -> None:
    ended = Window("2026-07-01T10:00:00.250Z", "2026-07-01T10:12:00.500Z")
    impact = Impact(calls=1, users=1, usd_per_hour=48.5, usd_so_far=9.3)
    alert = make_alert(state="resolved", seq=1, title="over: shop: cost 12.4 USD", window=ended, impact=impact)
    message = payload(alert, 1_782_900_900_000_000)
    assert message["text"] == "✅ RESOLVED · critical · shop · cost 12.4 USD · lasted 12 min · tenant acme"
    assert "*When*\nlasted 12 min, 10:00:00 to 10:12:00 UTC" in "\n".join(texts(message))
    told = "\n".join(texts(message))
    assert "*Measure*\nin all $12.40, expected $3.10 (×4)" in told
    assert "*Impact*\n1 call, 1 user, $9.30 above the expected in all" in told
    assert "What to do" not in told
    assert "Rate-limit" not in told
    assert message["attachments"][0]["color"] == "#12b76a"  # type: ignore[index]


def slack(receiver: Any) -> Any:
    (spec,) = parse_channels([{"kind": "slack", "url": receiver.url("/services/T0/B0/canary")}])
    return build(spec, Poster(Guard.allowing([receiver.host]), deadline_s=2.0))


def test_slacks_error_codes_are_told_and_nothing_else_it_says(receiver: Any, make_alert: Make) -> None:
    receiver.then(404, body=b"no_service").then(400, body=b"bad http://127.0.0.1/services/T0/B0/canary")
    receiver.then(429, headers=(("retry-after", "7"),), body=b"rate_limited")
    channel = slack(receiver)
    message = Message(make_alert(), make_alert().to_json(), 1_760_000_000_000_000)
    assert channel.send(message) == Outcome("failed", "HTTP 404 no_service")
    assert channel.send(message) == Outcome("failed", "HTTP 400")
    assert channel.send(message) == Outcome("retry", "HTTP 429", 7.0)
    assert channel.send(message) == Outcome("delivered", "HTTP 200")
    assert json.loads(receiver.got[0].body)["text"].startswith("🔴")


def test_a_cause_with_parts_is_one_line_of_the_message(make_alert: Make) -> None:
    text = "user u_812 is 91% of the rise; its calls went from 12 to 640 a minute, tokens per call unchanged"
    parts = Parts(volume=11.2, tokens_per_call=0.3)
    cause = Cause("user", "u_812", 0.91, text, named=True, normal=0.02, parts=parts)
    blocks = payload(make_alert(cause=(cause,), unit="USD"))["attachments"][0]["blocks"]  # type: ignore[index]
    assert [b["text"]["text"] for b in blocks if "*Cause*" in str(b)] == [f"*Cause*\n• {text}"]
    assert words.parts(make_alert(cause=(cause,), unit="USD")) == "volume $11.20, tokens per call $0.3"
    assert words.parts(make_alert(cause=(Cause("user", "u", 0.9, "of the version before"),))) == ""
