"""A postmortem as Markdown: in the order of time, with shares, and no text of a stranger that becomes markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from schemas.alerts import Alert, Cause, Change, Evidence, Impact, Window
from tailrace.cli.render.postmortem import Postmortem, Touched, markdown
from tests.tailrace.alerts import alert

EVIL = "a | b ``` <img src=x> [x](http://evil) `; rm` \u202e\x1b[31m @here"
FIRST = alert(
    {"app": "shop", "user": EVIL},
    title=f"shop {EVIL}: cost 9 USD",
    cause=(Cause("user", EVIL, 0.9, f"user {EVIL}: 90% of the rise"),),
    children=({"app": "shop", "rule": "surge_errors"},),
    evidence=Evidence("SELECT '```' AS observed", ("c-1",)),
    impact=Impact(calls=10, usd_so_far=9.0),
    runbook=("Open a call (`tailrace call c-1`): is it one user?", "A tick ` that is not closed"),
)
LAST = replace(
    FIRST,
    seq=1,
    state="resolved",
    window=Window("2026-07-01T10:00:00Z", "2026-07-01T10:30:00Z"),
    detected_at="2026-07-01T10:32:00Z",
)


def at(hour: int, minute: int) -> datetime:
    return datetime(2026, 7, 1, hour, minute, tzinfo=UTC)


def made(*states: Alert) -> str:
    return markdown(
        Postmortem(
            states=states,
            touched=Touched(50, 1, 2, 3, Decimal("9.5"), 4, 200, Decimal("19")),
            changes=[
                Change("2026-07-01T09:57:00Z", "release", f"release 2.4.1 {EVIL}"),
                Change("2026-06-20T09:57:00Z", "known_good", "last known good: release 2.3"),
            ],
            evidence="It returns 9 now.",
            deliveries=[
                {"channel": "on|call", "seq": 0, "state": "delivered", "detail": "HTTP 200", "at": at(10, 2)},
                {"channel": "hook", "seq": 0, "state": "silenced", "detail": "below critical", "at": at(10, 2)},
            ],
            acknowledged=[{"actor": EVIL, "acknowledged_at": at(10, 5), "why": EVIL}],
            silences=[
                {"actor": "lee", "starts_at": at(10, 6), "ends_at": at(11, 6), "why": "", "matchers": {"app": "shop"}}
            ],
            verdict={"actor": "kim", "verdict": "useful", "given_at": at(12, 0), "why": "real"},
            made_at=1_782_900_000_000_000,
        )
    )


def test_the_time_line_is_in_the_order_of_time_and_holds_what_was_sent_and_decided() -> None:
    lines = made(FIRST, LAST).split("## Time line")[1].split("## Impact")[0].splitlines()
    rows = [line.split(" | ", 1) for line in lines if line.startswith("| 2026")]
    assert [row[0][13:18] for row in rows] == [
        *("09:57", "10:00", "10:01", "10:02", "10:05", "10:06", "10:30", "10:32", "12:00"),
    ]
    assert "release 2.4.1" in rows[0][1]
    assert rows[1][1] == "**it began** (event time) |"
    assert "on\\|call" in rows[3][1]
    assert "hook" not in "\n".join(lines), "what was not sent is not in the time line"


def test_impact_has_calls_users_money_and_the_share_of_the_app() -> None:
    text = made(FIRST, LAST)
    assert "made 50 calls of 1 user in 2 sessions; 3 failed." in text
    assert "It cost USD 9.50, without the 4 calls that have no price." in text
    assert "That is 25 % of the calls and 50 % of the cost of its app" in text


def test_decisions_and_runbook_are_whole() -> None:
    text = made(FIRST, LAST)
    assert "lee silenced `app=shop`" in text
    assert "kim judged it useful: real" in text
    assert "1. Open a call \\(`tailrace call c-1`\\)\\: is it one user?" in text
    assert "2. A tick \\` that is not closed" in text
    assert "| verdict | useful |" in text
    assert "| over | 2026-07-01 10:30:00 UTC, after 30 min |" in text


def test_no_text_of_a_stranger_is_markup() -> None:
    text = made(FIRST, LAST)
    outside = re.sub(r"````sql\n.*?\n````", "", text, flags=re.DOTALL)
    assert "````sql" in text, "a fence in the SQL does not end its block"
    assert not re.search(r"(?<!\\)<img", re.sub(r"`[^`\n]*`", "", outside))
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]", re.sub(r"`[^`\n]*`", "", outside))
    assert "\x1b" not in text
    assert "\u202e" not in text
    for line in outside.splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line


def test_one_that_is_open_and_of_which_little_is_known_says_so() -> None:
    bare = alert({"topic": "llm.events"}, cause=(), title="")
    text = markdown(Postmortem([bare], None, [], "", [], [], [], None, 0))
    for part in (
        "# Postmortem: spike\\_cost",
        "| over | not yet |",
        "| verdict | none yet |",
        "The calls of its series cannot be counted in the lake.",
        "No cause is named.",
        "Nothing is known.",
        "Nobody decided anything.",
        "The alert carries none.",
    ):
        assert part in text, text
