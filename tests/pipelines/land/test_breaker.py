"""Most events bad: landing stops before the batch, never after."""

from __future__ import annotations

from pipelines.land.breaker import Breaker


def test_a_few_bad_events_at_the_start_do_not_open_it():
    assert not Breaker(limit=0.5, window=200).judge(10, 10)


def test_a_mostly_bad_window_opens_it_and_it_stays_open():
    breaker = Breaker(limit=0.5, window=200)
    assert not breaker.judge(199, 199)
    assert breaker.judge(1, 1)
    assert breaker.judge(10_000, 0)


def test_half_bad_does_not_open_it_and_one_more_does():
    assert not Breaker(limit=0.5, window=200).judge(200, 100)
    assert Breaker(limit=0.5, window=200).judge(200, 101)


def test_old_good_batches_leave_the_window():
    breaker = Breaker(limit=0.5, window=200)
    assert not breaker.judge(100_000, 0)
    assert not breaker.judge(100, 100)
    assert breaker.judge(100, 100)


def test_a_limit_of_one_never_opens():
    assert not Breaker(limit=1.0, window=1).judge(500, 500)
