"""More alerts begin at once than people read: one message for each channel of people, and one for their end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_

from pipelines.notify.backlog import Lateness
from pipelines.notify.digest import digest
from pipelines.notify.phone import line
from pipelines.notify.state import IN_STORM, ChannelRules
from pipelines.notify.storm import StormRules
from schemas.alerts import Alert, Cause
from tests.pipelines.notify.test_late import T0, Make, Outcome, Run, S

PEOPLE = ChannelRules(lambda _: "", coalesces=True)
LATENESS = Lateness(quiet_s=30.0, longest_s=600.0, most=50, few=5)


def team(name: str) -> ChannelRules:
    return replace(PEOPLE, refusal=lambda a: "" if a.series["team"] == name else "not routed here")


def begun(make_alert: Make, count: int, **fields: Any) -> list[Alert]:
    return [make_alert(rule=f"r{n}", **fields) for n in range(count)]


def test_a_storm_of_ten_thousand_series_is_one_message_for_each_owner(make_alert: Make) -> None:
    run = Run({name: team(name) for name in ("growth", "search", "ops")})
    for n in range(10_000):
        name = ("growth", "search")[n % 2] if n < 9_990 else "ops"
        run.admit([make_alert(rule=f"r{n}", series={"app": f"app-{n % 200}", "team": name}, detector="surge")])
        if n % 1_000 == 999:  # as the stage reads them
            run.now += S // 50
            run.step()
    run.seconds(40)
    storms = {channel: a for channel, a in run.sent if a.rule == "storm_digest"}
    assert {channel: a.observed for channel, a in storms.items()} == {"growth": 4_995.0, "search": 4_995.0}
    assert len(run.sent) == 2 + 10, "ten that begin at once go out by themselves"
    told = storms["growth"]
    assert (told.state, told.severity, told.late, told.expected) == ("firing", "critical", False, 0.0)
    assert told.title == "4,995 incidents began at once in 100 apps; team growth"
    shared, group = told.cause
    assert shared.text == "team growth: in 4,995 of 4,995 incidents"
    assert group.text.startswith("surge: 4,995 in 100 apps; greatest: ")
    assert line(told, T0).startswith("🔴 STORM · critical · 4,995 incidents began at once in 100 apps; team growth · ")
    assert {s for key, s in run.states().items() if key[2] == "growth" and key[0] == told.id} == {"delivered"}


def test_machines_get_each_alert_of_a_storm(make_alert: Make) -> None:
    run = Run({"hook": ChannelRules(lambda _: "", parallel=100), "slack": PEOPLE})
    run.admit(begun(make_alert, 50))
    run.seconds(10)
    assert len([1 for channel, _ in run.sent if channel == "hook"]) == 50
    assert [a.observed for channel, a in run.sent if channel == "slack"] == [50.0]


def test_the_first_ten_of_a_minute_go_out_by_themselves_and_later_ones_as_usual(make_alert: Make) -> None:
    run = Run({"slack": PEOPLE})
    for n in range(16):
        run.admit([make_alert(rule=f"r{n}")])
        run.seconds(1)
    run.seconds(10)
    assert [a.rule for _, a in run.sent] == [*(f"r{n}" for n in range(10)), "storm_digest"]
    assert run.sent[-1][1].title == "6 incidents began at once in shop; tenant acme"
    assert [c.text.split(";")[0] for c in run.sent[-1][1].cause][1:] == ["shop, spike: 6"]
    run.seconds(60)
    run.admit([make_alert(rule="later")])
    run.seconds(1)
    assert [a.rule for _, a in run.sent[11:]] == ["later"]


def test_one_more_alert_is_no_storm(make_alert: Make) -> None:
    run = Run({"slack": PEOPLE})
    run.admit(begun(make_alert, 10))
    run.seconds(10)
    run.admit([make_alert(rule="eleventh")])
    run.seconds(10)
    assert [a.rule for _, a in run.sent][10:] == ["eleventh"]


def test_a_storm_may_be_switched_off(make_alert: Make) -> None:
    run = Run({"slack": replace(PEOPLE, parallel=50)}, storm=StormRules(most=0))
    run.admit(begun(make_alert, 50))
    run.seconds(2)
    assert len(run.sent) == 50


def test_what_follows_of_a_member_is_not_sent_and_the_ends_are_one_message(make_alert: Make) -> None:
    run = Run({"slack": PEOPLE}, policy=LATENESS)
    run.admit(begun(make_alert, 40))
    run.seconds(10)
    run.admit(begun(make_alert, 40, seq=1, state="update"))
    run.seconds(5)
    assert len(run.sent) == 1
    assert {d.detail for d in run.records if d.seq == 1} == {IN_STORM}
    run.restart()
    run.admit(begun(make_alert, 40, seq=2, state="resolved"))
    run.seconds(40)
    assert [(a.rule, a.state, a.observed) for _, a in run.sent[1:]] == [("storm_digest", "resolved", 40.0)]
    assert run.sent[1][1].title == "40 incidents in shop that began in a storm are over; tenant acme"
    assert line(run.sent[1][1]).startswith("✅ DIGEST · critical · 40 incidents")
    run.admit(begun(make_alert, 3, seq=3))
    run.seconds(1)
    run.admit(begun(make_alert, 3, seq=4, state="resolved"))
    run.seconds(8)
    assert sorted((a.seq, a.state) for _, a in run.sent[2:]) == [*[(3, "firing")] * 3, *[(4, "resolved")] * 3]


def test_what_is_over_before_the_storm_is_told_is_counted_as_over(make_alert: Make) -> None:
    run = Run({"slack": PEOPLE})
    run.admit(begun(make_alert, 20))
    run.step()
    run.admit(begun(make_alert, 8, seq=1, state="resolved"))
    run.seconds(10)
    assert [a.title for _, a in run.sent] == ["20 incidents began at once in shop, 8 of them over; tenant acme"]
    run.admit(begun(make_alert, 8, seq=1, state="resolved"))
    run.seconds(60)
    assert len(run.sent) == 1


@pytest.mark.parametrize("cut", [0, 5, 12, 17, 24, 25, 26, 30, 38])
def test_a_crash_at_any_record_tells_of_each_incident_once(make_alert: Make, cut: int) -> None:
    """12 members owed, owed again under their digest, the digest, then the outcomes of all: 38 records."""
    alerts = begun(make_alert, 12)
    whole = Run({"slack": PEOPLE})
    whole.admit(alerts)
    whole.seconds(20)
    assert [d.state for d in whole.records] == ["pending"] * 25 + ["delivered"] * 13
    after = Run({"slack": PEOPLE}, records=whole.records[:cut])
    after.admit(alerts)
    after.seconds(60)
    assert after.bodies == (whole.bodies if cut < 26 else [])
    assert after.states() == whole.states()


def test_a_storm_in_the_quiet_hours_is_one_message_at_their_end(make_alert: Make) -> None:
    night = replace(PEOPLE, quiet=lambda now: now < T0 + 3600 * S)
    run = Run({"slack": night})
    for n in range(15):
        run.admit([make_alert(rule=f"r{n}", severity="warning")])
        run.seconds(200)
    assert run.sent == []
    run.admit([make_alert(rule="grave")])
    run.seconds(2)
    assert [a.rule for _, a in run.sent] == ["grave"], "what is critical does not wait, nor for others"
    run.seconds(700)
    assert [a.rule for _, a in run.sent[1:]] == ["storm_digest"]


def test_a_channel_that_is_gone_gives_up_its_storm(make_alert: Make) -> None:
    run = Run({"slack": PEOPLE})
    run.admit(begun(make_alert, 3))
    run.step(Outcome("retry", "HTTP 503"))
    run.admit([make_alert(rule=f"more{n}") for n in range(20)])
    run.step()
    assert run.book.counts()["storm"] > 0
    run.now += 2 * S
    jobs, _ = run.book.due(run.now)
    for item in jobs:
        run.records += run.book.record_outcome(item, Outcome("gone", "HTTP 410"), run.now)
    run.seconds(60)
    assert set(run.states().values()) <= {"failed", "delivered"}
    assert run.book.counts()["storm"] == 0


def test_a_storm_says_what_its_incidents_share(make_alert: Make) -> None:
    named = (Cause("provider", "openai", 0.9, "provider openai is 90 % of the rise", named=True),)
    apps = [make_alert(series={"app": f"a{n}"}, rule="errors", cause=named) for n in range(12)]
    others = [make_alert(series={"app": f"a{n}", "feature": f"f{n}"}, rule="cost") for n in range(8)]
    told = digest([*apps, *others])
    assert told.cause[0].text == "provider openai: in 12 of 20 incidents"
    texts = Cause("topic", "my password is", 1.0, "my password is", named=True)
    assert "password" not in repr(digest([replace_(a, cause=(texts,)) for a in apps]))
    assert [c.dimension for c in digest(others).cause] == ["app,detector"] * 8
