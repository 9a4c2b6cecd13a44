"""Whether a Faust stage lives, on a clock of the test's own: busy inside one record is not hung."""

from types import SimpleNamespace

import pytest

from pipelines import liveness
from pipelines.liveness import LivenessMonitor, StallTimeouts
from schemas.stage_facts import StageFacts

TOPIC = "llm.rollups"
PATIENCE = StallTimeouts(stuck_s=30, start_s=90, partition_s=180)


class Stage:
    """A stage with two partitions that works inside the first record of partition 0."""

    def __init__(self):
        assigned = [SimpleNamespace(topic=TOPIC, partition=n) for n in (0, 1)]
        tables = SimpleNamespace(recovery=SimpleNamespace(active_offsets={}))
        self.app = SimpleNamespace(_assignment=assigned, rebalancing=False, tables=tables)
        self.moved, self.recovered, self.topic_id, self.trouble = 0.0, True, "", ""
        self.offsets = {0: 10, 1: 20}
        self.event_times = {0: 5, 1: None}

    def position(self, number):
        return self.offsets.get(number)


class Source:
    """A topic with records behind both positions, all of them readable."""

    topics = (TOPIC,)
    config = SimpleNamespace(on_wire=lambda topic: topic)

    def topic_id(self, topic):
        return "id"

    def partitions(self, topic):
        return {0: (0, 13), 1: (0, 25)}

    def assign(self, positions):
        pass

    def poll(self, wait_s):
        return [["a record"]]

    def positions(self):
        return {}


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(liveness, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


@pytest.fixture
def stage(clock):
    made = Stage()
    made.moved = clock.s
    return made


def seconds(clock, is_alive, count):
    """Return whether the stage was alive, for each of ``count`` seconds."""
    found = []
    for _ in range(count):
        clock.s += 1
        found.append(is_alive())
    return found


def test_ten_minutes_inside_one_record_are_no_hang_while_slices_get_done(clock, stage):
    watched = LivenessMonitor(stage, Source(), PATIENCE)
    slices = iter(range(10_000))
    assert all(seconds(clock, lambda: watched.is_alive(next(slices)), 600))


def test_the_same_without_a_slice_is_a_hang(clock, stage):
    watched = LivenessMonitor(stage, Source(), PATIENCE)
    assert all(seconds(clock, lambda: watched.is_alive(7), 25))
    assert not any(seconds(clock, lambda: watched.is_alive(7), 30)[10:])


def test_a_partition_that_is_forgotten_while_another_moves_is_found_although_slices_get_done(clock, stage):
    watched = LivenessMonitor(stage, Source(), PATIENCE)
    slices = iter(range(10_000))

    def is_alive():
        stage.offsets[0] = 10 + int(clock.s) % 2
        stage.moved = clock.s
        return watched.is_alive(next(slices))

    assert not all(seconds(clock, is_alive, 300))


def test_the_facts_name_position_and_records_of_each_partition(clock, stage):
    watched = LivenessMonitor(stage, Source(), PATIENCE)
    watched.is_alive(0)
    assert watched.measured(StageFacts(progress=7)) == StageFacts(
        progress=7,
        lag=6,
        waiting={"llm.rollups[0]": 2, "llm.rollups[1]": 4},
        position={"llm.rollups[0]": 10, "llm.rollups[1]": 20},
        event_times={"llm.rollups[0]": 5},
        event_time=5,
    )


def test_a_partition_with_nothing_to_read_is_not_behind_however_old_its_last_record_is(clock, stage):
    stage.event_times = {0: 5, 1: 900}
    watched = LivenessMonitor(stage, Source(), PATIENCE)
    watched.is_alive(0)
    assert watched.measured(StageFacts()).event_time == 5
    stage.offsets[0] = 12  # after it there is the marker of a transaction
    assert watched.measured(StageFacts()).event_time == 900
    stage.offsets[1] = 24
    assert watched.measured(StageFacts()).event_time == 900
    stage.event_times = {0: None, 1: None}
    assert watched.measured(StageFacts()).event_time is None
