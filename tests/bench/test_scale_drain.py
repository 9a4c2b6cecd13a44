"""The simulation of copies, on values that can be worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from _scale_drain import BACK_OFF_S, Stage, Work, drain

ONE_CORE = Work(fixed_s=1.0, fixed_cpu_s=1.0)
WAITS = Work(fixed_s=1.0)
"""A second in which no core is busy."""


def test_copies_up_to_the_cores_are_as_many_times_as_fast_and_more_of_them_are_not():
    stage = Stage(10, ONE_CORE, Work())
    seconds = [drain(stage, events=40, copies=n, cores=2).seconds for n in (1, 2, 4)]
    assert seconds == pytest.approx([4, 2, 2], abs=1e-6)


def test_a_phase_that_only_waits_is_not_slowed_down_by_others():
    stage = Stage(10, WAITS, Work())
    assert drain(stage, events=40, copies=4, cores=1).seconds == pytest.approx(1, abs=1e-6)


def test_a_phase_that_asks_for_more_cores_than_there_are_takes_as_much_longer():
    stage = Stage(10, Work(fixed_s=1, fixed_cpu_s=2), Work())
    assert drain(stage, events=10, copies=1, cores=1).seconds == pytest.approx(2, abs=1e-6)


def test_costs_of_an_event_count_for_the_last_smaller_batch_too():
    stage = Stage(10, Work(each_s=0.1, each_cpu_s=0.1), Work(fixed_s=0.5))
    found = drain(stage, events=25, copies=1, cores=1)
    assert (found.seconds, found.commits) == (pytest.approx(2.5 + 3 * 0.5, abs=1e-6), 3)


def test_exclusive_commits_that_overlap_are_made_one_after_the_other():
    free, exclusive = (Stage(10, Work(), WAITS, exclusive=e) for e in (False, True))
    assert drain(free, events=20, copies=2, cores=2).seconds == pytest.approx(1, abs=1e-6)
    found = drain(exclusive, events=20, copies=2, cores=2)
    assert (found.seconds, found.commits, found.retries) == (pytest.approx(2 + BACK_OFF_S, abs=1e-6), 2, 1)


def test_exclusive_commits_of_one_copy_are_never_repeated():
    assert drain(Stage(10, ONE_CORE, WAITS, exclusive=True), events=100, copies=1, cores=2).retries == 0


def test_commits_that_do_not_overlap_are_not_repeated():
    stage = Stage(10, Work(each_s=1.0, each_cpu_s=1.0), Work(fixed_s=0.5), exclusive=True)
    # 11 events: one copy has six, the other five; the second one's transaction begins after the first one's commit
    assert drain(stage, events=11, copies=2, cores=2).retries == 0


def test_no_events_take_no_time():
    assert drain(Stage(10, ONE_CORE, ONE_CORE), events=0, copies=2, cores=2).seconds == 0
