"""The book of what is owed: order, retries, limits, restarts. No clock, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from pipelines.notify.outcome import Outcome, RetryPolicy
from pipelines.notify.state import NO_CHANNEL, Book, ChannelRules, Item
from schemas.alerts import Alert, Delivery

S = 1_000_000
DAY = 86_400 * S
T0 = 1_760_000_000 * S
OK = Outcome("delivered", "HTTP 200")
BUSY = Outcome("retry", "HTTP 503")

Make = Callable[..., Alert]


def rules(parallel: int = 4, *, coalesces: bool = False, refusal: str = "") -> ChannelRules:
    return ChannelRules(lambda _: refusal, parallel, coalesces)


def book(known: Iterable[Delivery] = (), **channels: ChannelRules) -> Book:
    return Book(channels or {"hook": rules()}, RetryPolicy(1.0, 120.0, 86_400.0), known)


def admit(b: Book, alert: Alert, at: int = T0) -> list[Delivery]:
    return b.admit(alert, alert.to_json(), at, at)


def keys(items: Iterable[Item]) -> list[tuple[str, int, str]]:
    return [(i.alert.id, i.alert.seq, i.delivery.channel) for i in items]


def test_every_channel_is_owed_every_state_once(make_alert: Make) -> None:
    b = book(hook=rules(), slack=rules())
    alert = make_alert()
    assert [(d.channel, d.state) for d in admit(b, alert)] == [("hook", "pending"), ("slack", "pending")]
    assert admit(b, alert) == []
    jobs, _ = b.due(T0)
    assert {i.delivery.channel for i in jobs} == {"hook", "slack"}
    assert b.due(T0) == ([], [])
    (record,) = b.record_outcome(jobs[0], OK, T0)
    assert (record.state, record.attempts, record.detail) == ("delivered", 1, "HTTP 200")
    assert admit(b, alert) == []


def test_resolved_waits_for_firing_and_nothing_else_waits(make_alert: Make) -> None:
    b = book()
    first, other = make_alert(), make_alert(rule="tokens")
    resolved = make_alert(seq=1, state="resolved")
    for alert in (resolved, first, other):
        admit(b, alert)
    jobs, _ = b.due(T0)
    assert {(i.alert.rule, i.alert.seq) for i in jobs} == {("cost", 0), ("tokens", 0)}
    b.record_outcome(next(i for i in jobs if i.alert.rule == "cost"), BUSY, T0)
    assert keys(b.due(T0)[0]) == []
    (again,) = b.due(T0 + 2 * S)[0]
    assert again.alert.seq == 0
    b.record_outcome(again, OK, T0 + 2 * S)
    (last,) = b.due(T0 + 2 * S)[0]
    assert last.alert.seq == 1


def test_a_failing_channel_holds_up_no_other(make_alert: Make) -> None:
    b = book(bad=rules(1), good=rules(1))
    for n in range(20):
        admit(b, make_alert(rule=f"r{n}"))
    delivered, now = set(), T0
    for _ in range(20):
        jobs, _ = b.due(now)
        for item in jobs:
            b.record_outcome(item, OK if item.delivery.channel == "good" else BUSY, now)
            if item.delivery.channel == "good":
                delivered.add(item.alert.rule)
    assert len(delivered) == 20
    assert b.counts()["messages_waiting"] == b.counts()["retrying"] == 20


def test_no_more_attempts_are_under_way_than_the_channel_bears(make_alert: Make) -> None:
    b = book(hook=rules(3))
    for n in range(10):
        admit(b, make_alert(rule=f"r{n}"))
    jobs, _ = b.due(T0)
    assert len(jobs) == 3
    b.record_outcome(jobs[0], OK, T0)
    assert len(b.due(T0)[0]) == 1


def test_a_rate_limit_holds_the_whole_channel_for_at_least_that_long(make_alert: Make) -> None:
    b = book(slack=rules(1), hook=rules(1))
    for n in range(3):
        admit(b, make_alert(rule=f"r{n}"))
    jobs, _ = b.due(T0)
    slack = next(i for i in jobs if i.delivery.channel == "slack")
    (record,) = b.record_outcome(slack, Outcome("retry", "HTTP 429", 30.0), T0)
    assert record.retry_at is not None
    assert record.retry_at >= T0 + 30 * S
    assert [i.delivery.channel for i in b.due(T0 + 30 * S - 1)[0]] == []
    assert [i.delivery.channel for i in b.due(T0 + 30 * S)[0]] == ["slack"]


def test_after_a_day_it_is_failed_and_says_what_was_last(make_alert: Make) -> None:
    b = book()
    admit(b, make_alert())
    now, attempts = T0, 0
    ended: list[Delivery] = []
    while not ended:
        jobs, ended = b.due(now)
        for item in jobs:
            attempts += 1
            b.record_outcome(item, BUSY, now)
        now += 60 * S
    assert ended[0].state == "failed"
    assert ended[0].detail == "not delivered within 24 h; last: HTTP 503"
    assert T0 + DAY <= now <= T0 + DAY + 120 * S
    assert 700 < attempts < 1500


@pytest.mark.parametrize("asked_s", [1e12, 86_400.0])
def test_a_retry_after_of_more_than_an_hour_is_cut_to_an_hour_and_says_so(make_alert: Make, asked_s: float) -> None:
    b = book()
    admit(b, make_alert(rule="first"))
    ((item,), _) = b.due(T0)
    (record,) = b.record_outcome(item, Outcome("retry", "HTTP 429", asked_s), T0)
    assert record.retry_at == T0 + 3600 * S
    assert record.detail == f"HTTP 429; Retry-After {asked_s:.0f} s is cut to 3600 s"
    admit(b, make_alert(rule="second"))
    assert b.due(T0 + 3600 * S - 1) == ([], [])
    assert {i.alert.rule for i in b.due(T0 + 3600 * S)[0]} == {"first", "second"}


def test_410_ends_all_that_waits_and_all_that_comes_for_that_channel(make_alert: Make) -> None:
    b = book(hook=rules(1), other=rules(1))
    for n in range(3):
        admit(b, make_alert(rule=f"r{n}"))
    jobs, _ = b.due(T0)
    hook = next(i for i in jobs if i.delivery.channel == "hook")
    ended = b.record_outcome(hook, Outcome("gone", "HTTP 410"), T0)
    assert [(d.state, d.channel) for d in ended] == [("failed", "hook")] * 3
    assert [d.attempts for d in ended] == [1, 0, 0]
    later = admit(b, make_alert(rule="later"))
    assert {d.channel: d.state for d in later} == {"hook": "failed", "other": "pending"}
    assert b.disabled() == ["hook"]
    assert all(i.delivery.channel == "other" for i in b.due(T0)[0])


def test_an_attempt_under_way_when_the_channel_is_disabled_is_not_tried_again(make_alert: Make) -> None:
    b = book(hook=rules(2))
    admit(b, make_alert(rule="a"))
    admit(b, make_alert(rule="b"))
    (one, two), _ = b.due(T0)
    assert len(b.record_outcome(one, Outcome("gone", "HTTP 410"), T0)) == 1
    assert b.record_outcome(two, BUSY, T0)[0].state == "failed"
    assert b.busy == 0


def test_people_get_the_newest_update_and_programs_get_all(make_alert: Make) -> None:
    b = book(slack=rules(1, coalesces=True), hook=rules(1))
    states = ["firing", "update", "update", "update", "resolved"]
    for seq, state in enumerate(states):
        admit(b, make_alert(seq=seq, state=state))
    sent: dict[str, list[int]] = {"slack": [], "hook": []}
    silenced = []
    for _ in range(6):
        jobs, dropped = b.due(T0)
        silenced += dropped
        for item in jobs:
            sent[item.delivery.channel].append(item.alert.seq)
            b.record_outcome(item, OK, T0)
    assert sent == {"slack": [0, 4], "hook": [0, 1, 2, 3, 4]}
    assert [(d.seq, d.state) for d in silenced] == [(1, "silenced"), (2, "silenced"), (3, "silenced")]


def test_after_a_restart_what_is_settled_is_passed_over_and_what_is_owed_goes_on(make_alert: Make) -> None:
    before = book()
    done, owed, retried = (make_alert(rule=r) for r in ("done", "owed", "retried"))
    log = [d for a in (done, owed, retried) for d in admit(before, a)]
    for item in before.due(T0)[0]:
        if item.alert.rule != "owed":
            log += before.record_outcome(item, OK if item.alert.rule == "done" else BUSY, T0)
    last = {d.key(): d for d in log}
    after = book(last.values())
    assert [d for a in (done, owed, retried) for d in admit(after, a)] == []
    assert [i.alert.rule for i in after.due(T0)[0]] == ["owed"]
    ((again,), _) = after.due(T0 + 2 * S)
    assert (again.alert.rule, again.delivery.attempts) == ("retried", 1)


def test_a_channel_added_later_is_not_flooded_with_old_alerts(make_alert: Make) -> None:
    old, unseen = make_alert(rule="old"), make_alert(rule="unseen")
    known = admit(book(), old)
    b = book(known, hook=rules(), slack=rules())
    assert [(d.channel, d.state) for d in admit(b, old)] == [("slack", "silenced")]
    assert {d.channel: d.state for d in admit(b, unseen)} == {"hook": "pending", "slack": "pending"}


def test_with_no_channel_it_is_written_that_nobody_was_told(make_alert: Make) -> None:
    b = Book({}, RetryPolicy())
    (record,) = admit(b, make_alert())
    assert (record.channel, record.state) == (NO_CHANNEL, "silenced")
    assert admit(b, make_alert()) == []
    assert admit(Book({}, RetryPolicy(), [record]), make_alert()) == []
    assert admit(book([record]), make_alert())[0].state == "silenced"


def test_what_is_not_for_a_channel_is_written_down_as_silenced_with_the_reason(make_alert: Make) -> None:
    b = book(hook=rules(refusal="below warning"))
    (record,) = admit(b, make_alert())
    assert (record.state, record.detail) == ("silenced", "below warning")
    assert b.due(T0) == ([], [])


def test_alerts_too_old_to_help_are_failed_not_sent(make_alert: Make) -> None:
    b = book()
    alert = make_alert()
    b.admit(alert, alert.to_json(), T0, T0 + 2 * DAY)
    jobs, ended = b.due(T0 + 2 * DAY)
    assert jobs == []
    assert ended[0].detail == "not delivered within 24 h"


@pytest.mark.parametrize("total", [20_000])
def test_memory_is_given_back_after_the_alerts_retention(make_alert: Make, total: int) -> None:
    known = [Delivery(alert_id=f"a{n}", seq=0, channel="hook", state="delivered", at=T0) for n in range(total)]
    b = book(known)
    b.due(T0 + 32 * DAY)
    assert b._records.by_key == {}
    assert b._records.states == set()


def test_a_reopened_alert_is_delivered_once_more_under_its_id(make_alert: Make) -> None:
    """detect reopens an incident: firing, resolved, firing, resolved, each with the next seq."""
    b = book(slack=rules(coalesces=True))
    states = ("firing", "resolved", "firing", "update", "resolved")
    alerts = [make_alert(seq=seq, state=state) for seq, state in enumerate(states)]
    sent = []
    for alert in alerts[:3]:
        admit(b, alert)
        (job,) = b.due(T0)[0]
        sent.append((job.alert.seq, job.alert.state))
        b.record_outcome(job, OK, T0)
    for alert in alerts[3:]:
        admit(b, alert)
    (job,), (dropped,) = b.due(T0)
    assert [*sent, (job.alert.seq, job.alert.state)] == [(0, "firing"), (1, "resolved"), (2, "firing"), (4, "resolved")]
    assert (dropped.seq, dropped.state) == (3, "silenced"), "overtaken, as every update that waits"
    b.record_outcome(job, OK, T0)
    assert [record for alert in alerts for record in admit(b, alert)] == []


def test_people_get_a_note_and_not_its_end_and_machines_get_both(make_alert: Make) -> None:
    b = book(slack=rules(coalesces=True), hook=rules())
    for severity in ("info", "warning"):
        admit(b, make_alert(rule=severity, severity=severity))
    for item in b.due(T0)[0]:
        b.record_outcome(item, OK, T0)
    for severity in ("info", "warning"):
        admit(b, make_alert(rule=severity, severity=severity, seq=1, state="resolved"))
    ends = {(i.alert.rule, i.delivery.channel) for i in b.due(T0)[0]}
    assert ends == {("info", "hook"), ("warning", "slack"), ("warning", "hook")}


def test_the_end_of_a_note_that_was_not_sent_yet_goes_on_as_any_other(make_alert: Make) -> None:
    b = book(slack=rules(coalesces=True))
    admit(b, make_alert(severity="info"))
    (end,) = admit(b, make_alert(severity="info", seq=1, state="resolved"))
    assert end.state == "pending"
