"""When a job is due and what follows: whole days of looking, told as values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jobs.due import Due, JobAction, decide, due, latest, trigger
from jobs.schedule import Job
from tailrace.batch_jobs import JOBS
from warehouse.claims import Claim

HOUR, MINUTE = 3_600_000_000, 60_000_000
HOURLY = Job("hourly", "17 * * * *", "", grace_s=3600)
WEEKLY = Job("weekly", "30 4 * * mon", "", grace_s=2 * 86_400)
OWNER = "laptop"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def text(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1e6, UTC):%Y-%m-%d %H:%M}"


def taken(due_at: str, *, job: Job = HOURLY, owner: str = OWNER, attempt: int = 1, ended: bool = True) -> Claim:
    begun = at(due_at)
    return Claim(job.name, begun, attempt, owner, begun, begun + job.limit_s * 1_000_000, begun + 1 if ended else None)


@pytest.mark.parametrize(
    ("cron", "now", "expected"),
    [
        ("17 * * * *", "2026-11-21 16:40", "2026-11-21 16:17"),
        ("17 * * * *", "2026-11-21 16:17", "2026-11-21 16:17"),
        ("17 * * * *", "2026-11-21 16:16:59.999999", "2026-11-21 15:17"),
        ("* * * * *", "2026-11-21 16:40:30", "2026-11-21 16:40"),
        ("0 3 * * *", "2026-03-01 02:59", "2026-02-28 03:00"),
        ("30 4 * * mon", "2026-11-21 16:40", "2026-11-16 04:30"),
        ("0 0 31 * *", "2026-11-30 12:00", "2026-10-31 00:00"),
        ("0 0 1 1 *", "2026-12-31 23:59", "2026-01-01 00:00"),
        ("59 23 last * *", "2028-03-01 00:00", "2028-02-29 23:59"),
        ("0 12 29 2 *", "2104-02-29 11:59", "2096-02-29 12:00"),
        ("*/20 9-10 * jan *", "2026-11-21 16:40", "2026-01-31 10:40"),
    ],
)
def test_the_latest_due_time_is_found_over_ends_of_hours_months_and_leap_years(cron, now, expected):
    assert text(latest(Job("one", cron, "", 60), at(now))) == expected


def test_what_is_never_due_is_said_and_does_not_search_for_ever():
    with pytest.raises(ValueError, match="never due"):
        latest(Job("never", "0 0 30 2 *", "", 60), at("2026-11-21"))


def test_of_many_missed_due_times_one_is_made_up_the_latest():
    assert due(HOURLY, at("2026-11-21 08:17"), at("2026-11-21 16:40")) == Due(at("2026-11-21 16:17"), late=False)
    assert due(WEEKLY, at("2026-10-05 04:30"), at("2026-11-17 04:30")) == Due(at("2026-11-16 04:30"), late=False)


def test_a_due_time_found_after_its_grace_is_late():
    impatient = replace(HOURLY, grace_s=600)
    assert due(impatient, at("2026-11-21 15:17"), at("2026-11-21 16:27")) == Due(at("2026-11-21 16:17"), late=False)
    assert due(impatient, at("2026-11-21 15:17"), at("2026-11-21 16:28")) == Due(at("2026-11-21 16:17"), late=True)


def looking(job: Job, moments: list[int]) -> list[JobAction]:
    """Look at each moment as one scheduler does, and end at once what began; return what it did."""
    claim, turns = None, []
    for now in moments:
        action = decide(job, claim, now, owner=OWNER)
        if action:
            turns.append(action)
            claim = Claim(job.name, action.due_at, action.attempt, OWNER, now, now, now)
    return turns


def test_a_job_seen_for_the_first_time_waits_for_its_next_due_time():
    first = at("2026-11-21 16:40")
    turns = looking(HOURLY, [first + n * MINUTE for n in range(120)])
    assert [(t.kind, text(t.due_at)[-5:]) for t in turns] == [("begin", "16:17"), ("run", "17:17"), ("run", "18:17")]


@pytest.mark.row(61)
@pytest.mark.parametrize("job", [HOURLY, Job("minutely", "* * * * *", "", 60)], ids=lambda job: job.name)
def test_after_eight_hours_asleep_a_job_runs_once(job):
    evening = at("2026-11-20 23:40:10")
    slept = [evening, evening + MINUTE, evening + 8 * HOUR, evening + 8 * HOUR + 1_000_000]
    before, after = looking(job, slept[:2]), looking(job, slept)
    assert [(t.kind, t.due_at) for t in after[len(before) :]] == [("run", latest(job, slept[2]))]


@pytest.mark.row(62)
def test_a_clock_that_jumps_back_an_hour_takes_no_due_time_twice():
    noon = at("2026-11-21 12:00")
    minutes = [noon + n * MINUTE for n in (*range(90), *range(30, 200))]
    times = [t.due_at for t in looking(HOURLY, minutes)]
    assert times == sorted(set(times))
    assert len(times) == 1 + 4  # its first look, and 12:17 to 15:17


def test_an_unfinished_run_of_another_holds_until_its_time_is_over():
    theirs = taken("2026-11-21 16:17", owner="server", ended=False)
    assert decide(HOURLY, theirs, theirs.lease_until - 1, owner=OWNER) is None
    assert decide(HOURLY, theirs, theirs.lease_until, owner=OWNER) == JobAction("run", theirs.due_at, 2)


def test_an_unfinished_run_of_another_holds_the_next_due_time_too():
    slow = replace(HOURLY, limit_s=2 * 3600)
    theirs = taken("2026-11-21 16:17", job=slow, owner="server", ended=False)
    assert decide(slow, theirs, at("2026-11-21 17:20"), owner=OWNER) is None
    assert decide(slow, theirs, theirs.lease_until, owner=OWNER) == JobAction("run", at("2026-11-21 18:17"), 1)


def test_who_died_in_the_same_home_is_made_up_at_once_and_three_times_at_most():
    for attempt, expected in (
        (1, JobAction("run", at("2026-11-21 16:17"), 2)),
        (3, JobAction("give_up", at("2026-11-21 16:17"), 3)),
    ):
        mine = taken("2026-11-21 16:17", attempt=attempt, ended=False)
        assert decide(HOURLY, mine, at("2026-11-21 16:18"), owner=OWNER) == expected


def test_what_was_killed_before_a_newer_due_time_gives_way_to_it():
    mine = taken("2026-11-21 14:17", ended=False)
    assert decide(HOURLY, mine, at("2026-11-21 16:18"), owner=OWNER) == JobAction("run", at("2026-11-21 16:17"), 1)


def test_what_was_killed_longer_ago_than_its_grace_is_given_up():
    mine = taken("2026-11-16 04:30", job=WEEKLY, ended=False)
    assert decide(WEEKLY, mine, at("2026-11-19 04:30"), owner=OWNER) == JobAction("give_up", mine.due_at, 1)


@pytest.mark.parametrize("owner", [OWNER, "server"])
def test_what_was_handed_back_is_begun_at_once_by_anybody_and_used_up_no_attempt(owner):
    theirs = replace(taken("2026-11-21 16:17", owner=owner, ended=False), attempt=2, lease_until=at("2026-11-21 16:20"))
    assert decide(HOURLY, theirs, at("2026-11-21 16:20"), owner=OWNER) == JobAction("run", theirs.due_at, 3)


def test_a_run_that_ended_is_not_begun_again_however_it_ended():
    assert decide(HOURLY, taken("2026-11-21 16:17"), at("2026-11-21 17:16"), owner=OWNER) is None


@pytest.mark.parametrize("job", [each.line for each in JOBS], ids=lambda job: job.name)
def test_every_line_of_the_timetable_can_be_kept(job):
    assert latest(job, at("2026-11-21")) > at("2025-11-20")
    # APScheduler's 0 is Monday, crontab's Sunday: only names mean the same to both
    assert not any(c.isdigit() for c in job.cron.split()[4])
    following = trigger(job).get_next_fire_time(None, datetime(2026, 11, 21, tzinfo=UTC))
    assert following.utcoffset().total_seconds() == 0
    assert job.limit_s >= 60
    assert job.grace_s >= 60
