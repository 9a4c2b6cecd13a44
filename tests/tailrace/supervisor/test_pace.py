import pytest

from tailrace.supervisor.pace import SAMPLES, Sample, add, behind, done_in

DAY = 86_400.0


def test_nothing_waits_so_nothing_is_behind_whatever_the_last_records_time():
    assert behind(0, 1, 10_000_000) == 0


def test_behind_is_counted_in_event_time():
    assert behind(5, 1_000_000, 61_000_000) == 60
    assert behind(None, 1_000_000, 61_000_000) == 60, "a stage that does not run is as far behind as it was"


def test_what_is_not_known_stays_unknown():
    assert behind(5, None, 61_000_000) is None
    assert behind(None, None, 61_000_000) is None
    assert done_in([]) is None
    assert done_in([Sample(0, 5, None)]) is None
    assert done_in([Sample(0, None, None), Sample(5, None, None)]) is None


def test_the_end_of_a_record_of_two_weeks_is_foreseen_although_its_lag_stands_still():
    history = [Sample(0, 1, 14 * DAY), Sample(60, 1, 13 * DAY)]
    assert done_in(history) == pytest.approx(13 * 60)


def test_without_event_time_the_pace_is_that_of_the_records():
    assert done_in([Sample(0, 1000, None), Sample(10, 600, None)]) == pytest.approx(15)


def test_records_count_where_event_time_falls_back_all_the_same():
    assert done_in([Sample(0, 1000, 50), Sample(10, 600, 55)]) == pytest.approx(15)


def test_a_stage_that_falls_back_has_no_end_in_sight():
    assert done_in([Sample(0, 600, 50), Sample(10, 1000, 60)]) is None


def test_a_burst_after_a_quiet_time_is_measured_from_its_peak():
    history = [Sample(0, 0, 0.0), Sample(5, 0, 0.0), Sample(10, 5000, 100.0), Sample(15, 4000, 80.0)]
    assert done_in(history) == pytest.approx(20)


def test_who_is_a_moment_behind_is_done():
    assert done_in([Sample(0, 30, 4.0), Sample(5, 40, 6.0)]) == 0
    assert done_in([Sample(0, 30, None), Sample(5, 0, None)]) == 0


def test_the_history_is_a_minute_long_and_has_a_sample_every_five_seconds():
    history = ()
    for tenth in range(5000):
        history = add(history, Sample(tenth / 10, tenth, None))
    assert len(history) == SAMPLES
    assert history[-1].at - history[0].at == 60
