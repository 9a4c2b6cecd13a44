"""What a stage reports: through a run file and back, also from other versions."""

import json

from schemas.stage_facts import TROUBLE, StageFacts, StageState, at

FACTS = StageFacts(
    state=StageState.HELD,
    error="its breaker is open",
    progress=7,
    lag=11,
    waiting={"llm.events[0]": 11},
    position={"llm.events[0]": 9},
    event_time=5,
    event_times={"llm.events[0]": 5},
    arrival_time=6,
    committed_at=8,
    repaired=("llm.events: retention.ms",),
    isolated=("surge",),
    numbers={"commits": 3, "dead_ratio": 0.25},
    details={"usage": {"calls": [["a", "m", 1]]}},
)


def test_facts_are_read_from_a_run_file_as_they_were_written():
    assert StageFacts.of(json.loads(json.dumps(FACTS.flat()))) == FACTS
    assert StageFacts.of(StageFacts().flat()) == StageFacts()


def test_what_is_missing_or_of_another_type_is_not_known():
    assert StageFacts.of(None) == StageFacts.of([]) == StageFacts.of({}) == StageFacts()
    found = StageFacts.of(
        {"lag": "3", "position": [1], "event_times": {"a": 1, "b": None}, "progress": True, "x": True}
    )
    assert found == StageFacts(event_times={"a": 1}, details={"x": True})


def test_words_of_another_version_are_a_stage_that_works():
    assert StageFacts.of({"state": "landing", "lag": 2}) == StageFacts(lag=2)
    assert StageFacts.of({"state": ["held"]}).state is StageState.RUNNING
    assert StageState.of("held") in TROUBLE


def test_a_report_of_the_state_alone_leaves_all_else_as_it_was_and_the_next_one_replaces_it():
    waiting = StageFacts(state=StageState.WAITING, error="no lake")
    held = waiting.after(FACTS)
    assert (held.state, held.error, held.lag, held.numbers) == (StageState.WAITING, "no lake", 11, FACTS.numbers)
    working = StageFacts(progress=8, lag=0)
    assert working.after(held) == working, "no error stays"


def test_a_partition_has_one_name():
    assert at(("llm.events", 3)) == "llm.events[3]"
