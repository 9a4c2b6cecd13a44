"""The line that a phone shows: 120 characters with severity, app, what, size, since when, who. Golden messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipelines.notify import phone
from pipelines.notify.channels.slack import payload
from pipelines.notify.digest import digest
from pipelines.notify.format import unmentioned
from pipelines.notify.plain import plain
from schemas.alerts import Alert, Cause, Impact

AT = 1_782_900_160_000_000  # 2026-07-01T10:02:40Z
DAY = 86_400_000_000
GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "messages.json").read_text(encoding="utf-8"))
Make = Callable[..., Alert]


@pytest.mark.parametrize("message", GOLDEN, ids=[each["name"] for each in GOLDEN])
def test_the_message_of_each_detector_is_as_it_was_read_and_found_good(message: dict[str, Any]) -> None:
    alert = msgspec.convert(message["alert"], Alert)
    assert phone.line(alert, AT) == message["phone"]
    title, body = plain(alert, AT)
    assert (title, body.split("\n")) == (unmentioned(message["phone"]), message["body"])
    slack = payload(alert, AT)
    assert slack["text"] == message["phone"]
    assert slack["attachments"][0]["fallback"] == message["phone"]  # type: ignore[index]


@pytest.mark.parametrize("message", GOLDEN, ids=[each["name"] for each in GOLDEN])
def test_it_holds_severity_app_size_and_time_in_120_characters(message: dict[str, Any]) -> None:
    alert, line = msgspec.convert(message["alert"], Alert), message["phone"]
    assert len(line) <= phone.MOST
    assert f" · {alert.severity} · " in line
    assert alert.series.get("app", "")[:20] in line
    assert "since 10:00 UTC" in line or "lasted 2 min" in line


def test_names_without_end_leave_room_for_what_and_when(make_alert: Make) -> None:
    series = {"app": "a" * 500, "tenant": "t" * 500}
    alert = make_alert(series=series, title=f"app {'a' * 500} tenant {'t' * 500}: cost 9.00 USD, 3.0x the usual")
    line = phone.line(alert, AT)
    assert len(line) <= phone.MOST
    assert "cost 9.00 USD" in line
    assert "since 10:00 UTC" in line


@pytest.mark.parametrize(
    ("changed", "who"),
    [
        ({"series": {"app": "shop", "user": "u-1"}}, "user u-1"),
        ({"series": {"app": "shop"}, "cause": (Cause("user", "u-9", 0.9, "", named=True),)}, "user u-9"),
        ({"series": {"app": "shop"}, "impact": Impact(users=1)}, "1 user"),
        ({"series": {"app": "shop"}, "impact": Impact(users=1214)}, "1,214 users"),
        ({"series": {"app": "shop", "feature": "chat"}}, "feature chat"),
        ({"series": {"app": "shop"}, "cause": (Cause("topic", "a prompt", 0.9, "", named=True),)}, "whole app"),
        ({"series": {"app": "shop"}}, "whole app"),
        ({"series": {"topic": "llm.events"}}, "topic llm.events"),
        ({"series": {}}, ""),
    ],
)
def test_who_is_the_user_else_how_many_else_the_narrowest_series(
    make_alert: Make, changed: dict[str, Any], who: str
) -> None:
    assert phone.who(make_alert(**changed)) == who


def test_one_of_another_day_has_its_day(make_alert: Make) -> None:
    assert "since 01 Jul 10:00 UTC" in phone.line(make_alert(), AT + DAY)
    assert "since 01 Jul 10:00 UTC" in phone.line(make_alert())


def test_one_that_was_found_in_a_backlog_says_so(make_alert: Make) -> None:
    assert "since 01 Jul 10:00 UTC, found late" in phone.line(make_alert(late=True), AT + DAY)
    assert "lasted 60 s, found late" in phone.line(make_alert(late=True, state="resolved"), AT + DAY)


def test_a_hostile_title_is_one_line_without_controls(make_alert: Make) -> None:
    line = phone.line(make_alert(title="x\n\x1b[31m\u202e <!channel> " * 40, series={"app": "s\x00hop"}), AT)
    assert line.isprintable()
    assert len(line) <= phone.MOST
    text = payload(make_alert(title="<!channel> &", series={"app": "<@U1>"}), AT)["text"]
    assert "<" not in str(text)


def test_a_digest_is_cut_to_the_same_length(make_alert: Make) -> None:
    states = [make_alert(state="resolved", start=i, late=True) for i in range(3)]
    line = phone.line(digest(states), AT)
    assert line.startswith("🕓 DIGEST · critical · 3 incidents of the past")
    assert len(line) <= phone.MOST
