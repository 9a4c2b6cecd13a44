import pytest
from msgspec.structs import replace

from schemas.stage_facts import StageFacts
from tailrace.supervisor.failing import FAILING_AFTER, Mark, Track


def facts(offset, *, event_time=None, waiting=1):
    at = "llm.rollups[0]"
    times = {} if event_time is None else {at: event_time}
    return StageFacts(position={at: offset}, event_times=times, waiting={at: waiting})


def ended(track, times=1, cause="killed by SIGKILL"):
    for n in range(times):
        track = track.end(cause, at=n, stalled=False)
    return track


def test_a_stage_that_ends_three_times_at_one_position_is_failing_with_position_and_cause():
    track = Track().look(facts(1807), healthy=False)
    for life in range(FAILING_AFTER):
        assert not track.failing, life
        track = track.look(facts(1807), healthy=False).end("killed by SIGSEGV", at=life, stalled=False)
    assert track.failing
    assert (track.where, track.cause, track.since) == ("llm.rollups[0]@1807", "killed by SIGSEGV", 0)


@pytest.mark.parametrize(
    "step",
    [facts(1808), facts(1807, event_time=6)],
    ids=["the next record", "event time inside the record"],
)
def test_any_step_forward_makes_it_well_again(step):
    track = ended(Track().look(facts(1807, event_time=5), healthy=False), FAILING_AFTER)
    assert track.failing
    well = track.look(step, healthy=False)
    assert (well.failing, well.ends, well.since) == (False, 0, None)


def test_a_life_that_repeats_what_the_one_before_did_is_no_step():
    track = Track().look(facts(1807, event_time=40), healthy=False)
    for _ in range(FAILING_AFTER):
        for event_time in range(40):
            track = track.look(facts(1807, event_time=event_time), healthy=False)
        track = ended(track)
    assert track.failing


def test_one_partition_that_stands_through_three_ends_is_failing_however_far_the_others_get():
    track = Track()
    for life in range(FAILING_AFTER):
        for second in range(5):
            position = {"llm.rollups[0]": 1807, "llm.rollups[1]": life * 100 + second}
            waiting = {"llm.rollups[0]": 3, "llm.rollups[1]": 1}
            times = {"llm.rollups[1]": life * 100 + second}
            reported = StageFacts(position=position, waiting=waiting, event_times=times, event_time=life)
            track = track.look(reported, healthy=False)
        assert not track.failing
        track = ended(track)
    assert track.failing
    assert track.where == "llm.rollups[0]@1807"


def test_a_stage_that_gets_a_little_farther_each_time_is_not_failing():
    track = Track()
    for life in range(10):
        track = ended(track.look(facts(life), healthy=False))
    assert not track.failing


def test_reading_a_topic_from_its_start_again_is_no_step_before_the_old_position_is_passed():
    track = Track().look(facts(300), healthy=False)
    for _ in range(FAILING_AFTER):
        for offset in range(301):
            track = track.look(facts(offset), healthy=False)
        track = ended(track)
    assert track.failing
    assert not track.look(facts(301), healthy=False).failing


def test_a_stage_that_never_reports_a_position_fails_at_its_start():
    track = Track()
    for _ in range(FAILING_AFTER):
        track = ended(track.look(StageFacts(), healthy=False))
    assert track.failing
    assert track.where == "its start, before the first position"


def test_a_clock_that_goes_on_with_nothing_left_to_read_is_no_step():
    track = Track()
    for now in range(FAILING_AFTER):
        track = ended(track.look(replace(facts(1808, waiting=0), arrival_time=now), healthy=False))
    assert track.failing


def test_ends_far_apart_of_a_stage_with_nothing_to_read_do_not_add_up():
    track = Track()
    for _ in range(5):
        track = ended(track.look(facts(7, waiting=0), healthy=True))
    assert not track.failing


def test_where_it_stands_names_the_partitions_with_records_to_read_and_at_most_three():
    at = {f"llm.events[{n}]": n * 10 for n in range(6)}
    one = Track().look(StageFacts(position=at, waiting={"llm.events[4]": 3, "llm.events[5]": 0}), healthy=False)
    assert one.where == "llm.events[4]@40"
    idle = Track().look(StageFacts(position=at), healthy=False)
    assert idle.where == "llm.events[0]@0, llm.events[1]@10, llm.events[2]@20 and 3 more"


def test_after_each_stall_at_one_position_the_next_life_gets_twice_as_long():
    track, patience = Track().look(facts(1), healthy=False), []
    for _ in range(5):
        patience.append(track.stall_after_s(60))
        track = track.end("no progress", at=0, stalled=True)
    assert patience == [60, 120, 240, 480, 480]
    assert track.look(facts(2), healthy=False).stall_after_s(60) == 60


def test_facts_of_another_shape_are_not_known_and_stop_nobody():
    assert Mark.of(StageFacts.of({"position": [1], "event_times": "now"})) == Mark()
    assert Mark.of(StageFacts.of({"position": {"a": 1, "b": None, "c": "2"}})) == Mark({"a": 1})
