from dataclasses import replace

import pytest

from tailrace.supervisor.restarts import (
    Action,
    Child,
    Observation,
    Suspension,
    back_off,
    decide,
    last_heartbeat,
    silent_for_s,
    start,
)

GONE = Observation(alive=False, exit_code=1, silent_s=0)
WELL = Observation(alive=True, exit_code=None, silent_s=1)


def test_a_new_child_is_started_at_once_and_not_counted_as_a_restart():
    child, action = decide(Child(), GONE, now=5, stall_after_s=60)
    assert action is Action.START
    assert start(child, 5).restarts == 0


def test_a_dead_child_waits_twice_as_long_after_each_failure():
    child, pauses = start(Child(), 0), []
    now = 0.0
    for _ in range(4):
        child, action = decide(child, GONE, now, 60)
        assert action is Action.WAIT
        pauses.append(child.next_start - now)
        now = child.next_start
        child, action = decide(child, GONE, now, 60)
        assert action is Action.START
        child = start(child, now)
    assert pauses == [0.5, 1, 2, 4]
    assert child.restarts == 4
    assert back_off(50) == 20


def test_a_minute_of_health_forgets_earlier_failures():
    child = replace(start(Child(), 0), failures=5)
    child, _ = decide(child, GONE, now=61, stall_after_s=60)
    assert child.failures == 1


@pytest.mark.row(39)
def test_a_silent_child_is_killed_and_its_long_life_does_not_count_as_health():
    child = replace(start(Child(), 0), failures=2)
    child, action = decide(child, Observation(alive=True, exit_code=None, silent_s=61), now=100, stall_after_s=60)
    assert action is Action.KILL
    child, _ = decide(child, GONE, now=100, stall_after_s=60)
    assert child.failures == 3


def test_a_fatal_exit_is_tried_again_at_the_slowest_pace():
    child, _ = decide(start(Child(), 0), Observation(alive=False, exit_code=2, silent_s=0), now=1, stall_after_s=60)
    assert child.next_start - 1 == 20


def test_a_living_child_is_left_alone():
    child = start(Child(), 0)
    assert decide(child, WELL, now=1000, stall_after_s=60) == (child, Action.WAIT)


def test_a_supervisor_that_stood_still_gives_its_children_a_fresh_stall_period():
    heartbeat, awake = last_heartbeat(None, 7, 1000, now=0), Suspension(0, 0)
    for now in range(1, 50):
        awake = awake.look(now)
    assert silent_for_s(heartbeat, awake, 49) == 49
    awake = awake.look(49 + 8 * 3600)
    assert silent_for_s(heartbeat, awake, 49 + 8 * 3600) == 0
    later = 49 + 8 * 3600
    for now in range(later, later + 61):
        awake = awake.look(now)
    assert silent_for_s(heartbeat, awake, later + 60) == 60, "who does not speak after the wake-up is killed after all"


def test_a_slow_look_is_no_sleep():
    awake = Suspension(0, 0)
    for now in (4.9, 9.8, 14.7):
        awake = awake.look(now)
    assert awake.since == 0


def test_a_jump_of_the_wall_clock_neither_kills_nor_saves():
    heartbeat = last_heartbeat(None, 7, 1_000_000, now=0)
    backwards = last_heartbeat(heartbeat, 7, 400, now=1)
    assert backwards.at == 1, "the beat changed: it lives"
    still = last_heartbeat(backwards, 7, 400, now=90)
    assert silent_for_s(still, Suspension(0, 90), 90) == 89, "an hour behind, and silent all the same"


def test_what_a_dead_process_said_is_not_its_successors_beat():
    heartbeat = last_heartbeat(last_heartbeat(None, 7, 1000, now=0), 8, None, now=5)
    assert (heartbeat.pid, heartbeat.at) == (8, 5)
    assert last_heartbeat(heartbeat, 8, None, now=9).at == 5
    assert last_heartbeat(heartbeat, 8, 2000, now=9).at == 9


def test_a_stall_is_counted_once_however_long_the_kill_takes():
    child = start(Child(), 0)
    for now in (70, 70.2, 70.4):
        child, action = decide(child, Observation(alive=True, exit_code=None, silent_s=now), now, 60)
        assert action is Action.KILL
    child, _ = decide(child, GONE, 70.6, 60)
    assert child.stalls == 1


def test_a_child_gets_a_minute_for_its_first_word():
    child = start(Child(), 0)
    mute = Observation(alive=True, exit_code=None, silent_s=59, has_reported=False)
    assert decide(child, mute, 59, stall_after_s=8)[1] is Action.WAIT
    assert decide(child, replace(mute, silent_s=61), 61, stall_after_s=8)[1] is Action.KILL
    assert decide(child, replace(mute, silent_s=61), 61, stall_after_s=120)[1] is Action.WAIT
