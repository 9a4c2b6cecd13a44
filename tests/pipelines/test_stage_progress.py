from types import SimpleNamespace

from pipelines.stage_progress import StageProgress
from schemas.records import Records
from schemas.stage_facts import StageFacts

A, B = ("llm.events", 0), ("llm.events", 1)


def batch(*rows):
    partitions, offsets, times = (list(column) for column in zip(*rows, strict=True))
    nothing = [None] * len(rows)
    return Records("llm.events", partitions, offsets, times, nothing, nothing, [()] * len(rows))


def test_the_partition_that_is_farthest_behind_says_how_far_the_stage_has_worked():
    clock = SimpleNamespace(now=1000)
    reached = StageProgress(lambda: clock.now)
    assert reached.facts({A: 0}, {A: 5}).arrival_time is None, "nothing was read yet: not known"
    reached.work(batch((0, 7, 100), (1, 3, 300), (0, 8, 200)))
    assert reached.facts({A: 9, B: 4}, {A: 5, B: 6}) == StageFacts(
        lag=11,
        waiting={"llm.events[0]": 5, "llm.events[1]": 6},
        position={"llm.events[0]": 9, "llm.events[1]": 4},
        arrival_time=200,
        progress=1,
    )


def test_a_partition_that_was_quiet_for_hours_is_not_hours_behind_when_a_record_comes():
    clock = SimpleNamespace(now=1000)
    reached = StageProgress(lambda: clock.now)
    reached.work(batch((0, 7, 100)))
    clock.now = 9_000_000
    assert reached.facts({A: 8}, {A: 0}).arrival_time == 9_000_000
    clock.now = 9_000_500
    assert reached.facts({A: 8}, {A: 1}).arrival_time == 9_000_000
