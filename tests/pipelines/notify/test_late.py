"""Alerts of the past: one digest, also after a crash at any moment; what is still open is an alert."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.notify.backlog import Lateness
from pipelines.notify.digest import digest, digest_id
from pipelines.notify.item import Item
from pipelines.notify.outcome import Outcome, RetryPolicy
from pipelines.notify.plain import plain
from pipelines.notify.state import NOT_SENT_LATE, Book, ChannelRules
from pipelines.notify.storm import StormRules
from schemas.alerts import Alert, Cause, Delivery, Impact, Window

S = 1_000_000
T0 = 1_760_000_000 * S
OK = Outcome("delivered", "HTTP 200")
POLICY = Lateness(quiet_s=30.0, longest_s=600.0, most=50, few=0)

Make = Callable[..., Alert]


@dataclass
class Run:
    """A book that is asked every second, and all that it had written and sent."""

    channels: dict[str, ChannelRules]
    policy: Lateness = POLICY
    storm: StormRules = field(default_factory=StormRules)
    records: list[Delivery] = field(default_factory=list)
    sent: list[tuple[str, Alert]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    now: int = T0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """What a new process has: the newest record of every key."""
        known = {d.key(): d for d in self.records}.values()
        self.book = Book(self.channels, RetryPolicy(), known, lateness=self.policy, storm=self.storm)

    def admit(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self.records += self.book.admit(alert, alert.to_json(), T0, self.now)

    def step(self, answer: Outcome = OK) -> list[Item]:
        jobs, written = self.book.due(self.now)
        self.records += written
        for item in jobs:
            self.sent.append((item.delivery.channel, item.alert))
            self.bodies.append(item.body)
            self.records += self.book.record_outcome(item, answer, self.now)
        return jobs

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.now += S
            self.step()

    def states(self) -> dict[tuple[str, int, str], str]:
        return {(d.alert_id, d.seq, d.channel): d.state for d in self.records}


def rules(**channels: ChannelRules) -> dict[str, ChannelRules]:
    return channels or {"hook": ChannelRules(lambda _: "")}


def past(make_alert: Make, rule: str, *, late: bool = True, **fields: Any) -> list[Alert]:
    """Firing and resolved of one incident."""
    common = {"rule": rule, "late": late, **fields}
    return [make_alert(**common), make_alert(**common, seq=1, state="resolved")]


def test_incidents_that_are_over_go_out_as_one_digest_and_the_one_still_open_as_an_alert(make_alert: Make) -> None:
    run = Run(rules())
    for n in range(41):
        run.admit(past(make_alert, f"r{n}"))
    run.admit([make_alert(rule="open", late=True)])
    run.seconds(29)
    assert run.sent == [], "the backlog may go on"
    assert run.records == []
    assert run.book.counts()["late"] == 83
    run.seconds(2)
    assert sorted((a.rule, a.state) for _, a in run.sent) == [("late_digest", "resolved"), ("open", "firing")]
    made = next(a for _, a in run.sent if a.rule == "late_digest")
    assert (made.observed, made.late, made.severity) == (41.0, True, "critical")
    assert {s for s in run.states().values()} == {"delivered"}
    assert len(run.states()) == 41 * 2 + 2
    members = [d for d in run.records if d.digest and d.state == "delivered"]
    assert {d.digest for d in members} == {made.id}
    assert {d.detail for d in members} == {f"in digest {made.id[:8]}"}
    counts = {"messages_waiting": 0, "retrying": 0, "late": 0, "storm": 0, "delivered": 84, "failed": 0, "silenced": 0}
    assert run.book.counts() == counts
    run.admit(past(make_alert, "r0"))
    run.seconds(60)
    assert len(run.sent) == 2, "read again from the start, nothing is sent twice"


def test_a_live_alert_does_not_wait_for_a_backlog(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([*past(make_alert, "old"), make_alert(rule="live")])
    run.step()
    assert [a.rule for _, a in run.sent] == ["live"]


def test_an_end_that_is_not_late_still_ends_what_was_gathered(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([make_alert(late=True), make_alert(seq=1, state="resolved")])
    run.seconds(31)
    assert [a.rule for _, a in run.sent] == ["late_digest"]


def test_an_update_that_is_not_late_shows_that_it_is_open_now(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([make_alert(late=True), make_alert(seq=1, state="update")])
    run.seconds(2)
    assert [(a.seq, a.state) for _, a in run.sent] == [(0, "firing"), (1, "update")]


def test_the_late_end_of_an_incident_that_people_know_is_sent_as_its_end(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([make_alert()])
    run.step()
    run.admit([make_alert(seq=1, state="resolved", late=True)])
    run.step()
    assert [a.state for _, a in run.sent] == ["firing", "resolved"]
    run.restart()
    run.admit([make_alert(seq=2, late=True)])
    run.step()
    assert [a.seq for _, a in run.sent] == [0, 1, 2], "reopened: it goes on as it began, also after a restart"


def test_switched_off_it_sends_what_is_open_and_nothing_that_is_over(make_alert: Make) -> None:
    run = Run(rules(), policy=replace(POLICY, send=False))
    run.admit([*past(make_alert, "over"), make_alert(rule="open", late=True)])
    run.seconds(31)
    assert [a.rule for _, a in run.sent] == ["open"]
    kept = [d for d in run.records if d.state == "silenced"]
    assert [(d.seq, d.detail) for d in kept] == [(0, NOT_SENT_LATE), (1, NOT_SENT_LATE)]


def ended(make_alert: Make, rule: str, minutes_ago: int) -> list[Alert]:
    """An incident that ended so long before T0, 2025-10-09T08:53:20Z."""
    end = datetime.fromtimestamp(T0 / S, UTC) - timedelta(minutes=minutes_ago)
    return past(make_alert, rule, window=Window("2025-10-09T06:00:00Z", end.isoformat()))


def test_a_few_that_ended_just_now_are_news_and_are_sent_by_themselves(make_alert: Make) -> None:
    people = ChannelRules(lambda _: "", coalesces=True)
    run = Run(rules(hook=ChannelRules(lambda _: ""), slack=people), policy=replace(POLICY, few=5))
    run.admit([a for n in range(5) for a in ended(make_alert, f"new{n}", 20)])
    run.admit([a for n in range(40) for a in ended(make_alert, f"old{n}", 70 + n * 60)])
    run.seconds(60)
    hook = [a for channel, a in run.sent if channel == "hook"]
    assert sorted((a.rule[:4], a.state) for a in hook) == sorted(
        [("late", "resolved"), *((f"new{n}", s) for n in range(5) for s in ("firing", "resolved"))]
    )
    slack = [a for channel, a in run.sent if channel == "slack"]
    assert sorted(a.rule for a in slack) == ["late_digest", *(f"new{n}" for n in range(5))]
    assert {a.state for a in slack} == {"resolved"}, "people get one message of each: it is over"
    assert [a.observed for a in slack if a.rule == "late_digest"] == [40.0]


def test_many_that_ended_just_now_are_a_storm_and_go_into_the_digest(make_alert: Make) -> None:
    run = Run(rules(), policy=replace(POLICY, few=5))
    run.admit([a for n in range(6) for a in ended(make_alert, f"new{n}", 20)])
    run.seconds(31)
    assert [a.observed for _, a in run.sent] == [6.0]


def test_a_backlog_that_does_not_end_is_cut_by_number_and_by_age(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([make_alert(rule="open", late=True)])
    for n in range(700):  # one incident a second, for longer than anything may be gathered
        run.admit(past(make_alert, f"r{n}"))
        run.seconds(1)
    digests = [a for _, a in run.sent if a.rule == "late_digest"]
    assert [a.observed for a in digests[:-1]] == [50.0] * (len(digests) - 1)
    assert len(digests) == 14
    assert [a.state for _, a in run.sent if a.rule == "open"] == ["firing"]
    slow = Run(rules())
    for n in range(70):  # one every 20 s
        slow.admit(past(make_alert, f"r{n}"))
        slow.seconds(20)
    assert [a.observed for _, a in slow.sent] == [30.0, 30.0]


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 6, 8, 9])
def test_a_crash_at_any_record_sends_the_same_digest_or_gathers_it_anew(make_alert: Make, cut: int) -> None:
    """``cut``: how many of the 10 records (4 members and the digest, pending and final) were written."""
    alerts = [a for n in range(2) for a in past(make_alert, f"r{n}")]
    whole = Run(rules())
    whole.admit(alerts)
    whole.seconds(31)
    assert [d.state for d in whole.records] == ["pending"] * 5 + ["delivered"] * 5
    after = Run(rules(), records=whole.records[:cut])
    after.admit(alerts)
    after.seconds(31)
    if cut < 6:  # it was owed, or not even that: it goes out, once, the very same
        assert after.bodies == whole.bodies
    else:
        assert after.bodies == []
    assert after.states() == whole.states()
    after.admit(alerts)
    after.seconds(31)
    assert len(after.bodies) == (cut < 6)


def test_after_a_restart_a_digest_whose_alerts_are_partly_gone_goes_out_with_the_rest(make_alert: Make) -> None:
    alerts = [a for n in range(2) for a in past(make_alert, f"r{n}")]
    before = Run(rules())
    before.admit(alerts)
    before.seconds(31)
    after = Run(rules(), records=before.records[:5])
    after.admit(alerts[:2])
    after.seconds(31)
    assert [(a.id, a.observed) for _, a in after.sent] == [(before.sent[0][1].id, 1.0)]


def test_a_digest_is_retried_and_given_up_like_any_message_and_its_members_with_it(make_alert: Make) -> None:
    run = Run(rules())
    run.admit(past(make_alert, "r"))
    run.now += 31 * S
    run.step(Outcome("retry", "HTTP 503"))
    assert {d.state for d in {d.key(): d for d in run.records}.values()} == {"pending", "retry"}
    run.seconds(3)
    assert len(run.sent) == 2
    assert run.bodies[0] == run.bodies[1]
    lost = Run(rules())
    lost.admit(past(make_alert, "r"))
    lost.now += 31 * S
    lost.step(Outcome("failed", "HTTP 400"))
    assert set(lost.states().values()) == {"failed"}
    assert len(lost.states()) == 3


def test_a_channel_that_is_gone_gives_up_what_it_gathers(make_alert: Make) -> None:
    run = Run(rules())
    run.admit([make_alert(rule="live"), *past(make_alert, "old")])
    run.step(Outcome("gone", "HTTP 410"))
    assert set(run.states().values()) == {"failed"}
    run.seconds(60)
    assert len(run.sent) == 1


def test_each_channel_gets_a_digest_of_its_own_part(make_alert: Make) -> None:
    loud = ChannelRules(lambda a: "" if a.severity == "critical" else "below critical", coalesces=True)
    run = Run(rules(hook=ChannelRules(lambda _: ""), loud=loud))
    run.admit([*past(make_alert, "a"), *past(make_alert, "b", severity="info")])
    run.seconds(31)
    assert sorted((channel, a.observed) for channel, a in run.sent) == [("hook", 2.0), ("loud", 1.0)]


def test_a_clock_that_is_set_neither_ends_a_backlog_nor_holds_it_up(make_alert: Make) -> None:
    for by in (-3600 * S, 3600 * S):
        run = Run(rules())
        run.admit(past(make_alert, "r"))
        run.now += by
        run.book.shift(by)
        run.seconds(29)
        assert run.sent == []
        run.seconds(2)
        assert len(run.sent) == 1


def incident(make_alert: Make, app: str, detector: str, n: int, **fields: Any) -> Alert:
    window = Window(f"2026-07-01T{10 + n % 10:02}:00:00Z", f"2026-07-01T{10 + n % 10:02}:30:00.500Z")
    series = {"app": app, "user": f"u-{n}"}
    usual = {"series": series, "detector": detector, "rule": f"{detector}_cost", "window": window, "score": float(n)}
    return make_alert(
        **usual | {"late": True, "state": "resolved", "seq": 1, "title": f"over: {app} rose {n}"} | fields
    )


def test_a_digest_counts_and_names_the_greatest_of_each_app_and_detector(make_alert: Make) -> None:
    states = [incident(make_alert, "shop", "spike", n, impact=Impact(calls=10, usd_so_far=2.0)) for n in range(8)]
    states += [incident(make_alert, "shop", "surge", 3, severity="warning", title="")]
    states += [incident(make_alert, "help", "spike", n, severity="info") for n in range(2)]
    made = digest(states)
    assert made == digest(states[::-1])
    assert made.id == digest_id((a.id, a.seq) for a in states)
    assert made.window == Window("2026-07-01T10:00:00Z", "2026-07-01T17:30:00.500Z")
    assert (made.impact.calls, made.impact.usd_so_far) == (80, 16.0)
    assert [c.text.split(";")[0] for c in made.cause] == ["shop, spike: 8", "shop, surge: 1", "help, spike: 2"]
    assert made.cause[0].text == (
        "shop, spike: 8; greatest: shop rose 7; in all $12.40, expected $3.10 (×4); "
        "lasted 30 min, 2026-07-01 17:00:00 to 17:30:00 UTC"
    )
    assert made.title == "11 incidents of the past in 2 apps, all over, found late in a backlog"
    title, body = plain(made, 1_782_990_000_000_000)
    assert title == (
        "🕓 DIGEST · critical · 11 incidents of the past in 2 apps, all over, found late in… · "
        "2026-07-01 10:00:00 to 17:30:00 UTC"
    )
    assert f"`tailrace alerts list --digest {made.id[:8]}`" in body
    assert "By app and detector:\n- shop, spike: 8; greatest" in body


def test_a_digest_of_many_groups_names_ten_and_counts_the_rest(make_alert: Make) -> None:
    made = digest([incident(make_alert, f"app-{n:02}", "spike", n) for n in range(30)])
    assert len(made.cause) == 11
    assert made.cause[-1].text == "20 more in 20 other groups of app and detector"


def test_a_digest_holds_no_text_of_a_prompt(make_alert: Make) -> None:
    cause = (Cause("topic", "canary", 0.9, "grew: e.g. “canary”"),)
    made = digest([incident(make_alert, "shop", "drift", 1, cause=cause, title="shop: inputs are like “canary”")])
    assert b"canary" not in made.to_json()
