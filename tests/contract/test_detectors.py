"""What every detector promises, over DETECTORS."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipelines.detect.detectors import DETECTORS, Detector, configure
from pipelines.detect.detectors.cold_start import ColdStart
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.kinds import MAX_KINDS
from pipelines.detect.snapshot import dump, load
from pipelines.detect.windows import MAX_SERIES
from schemas.errors import SettingsError
from schemas.records import Record
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

UNDER_TEST = [ColdStart(warm_up_s=1e9) if d.name == "cold_start" else d for d in DETECTORS]
"""The streams are an hour long: for all of it cold_start is to judge."""
each = pytest.mark.parametrize("detector", UNDER_TEST, ids=lambda d: d.name)
MIDDLE = T0 + 20 * SECOND


@pytest.fixture(scope="module")
def steady() -> list[Record]:
    return list(Stream(21, partitions=1).records(T0 - 2 * HOUR, T0, live=False, batch_s=600))


@pytest.fixture(scope="module")
def troubled() -> list[Record]:
    """A runaway user and a guardrail surge at once, and one call beyond any limit."""
    apps = (App(cost=0.01),)
    planted = (
        Incident(MIDDLE, MIDDLE + 20 * SECOND, user="u-5", rate=8, context=200.0),
        Incident(MIDDLE, MIDDLE + 20 * SECOND, guardrail="pii", share=0.5),
    )
    stream = Stream(22, apps=apps, partitions=1, incidents=planted)
    past = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    return past + list(stream.records(T0, T0 + 140 * SECOND, live=True, batch_s=2))


@pytest.fixture(scope="module")
def degraded() -> list[Record]:
    """Calls that take four times as long and of which the cache serves nothing, for three minutes."""
    incident = Incident(MIDDLE, MIDDLE + 180 * SECOND, slow=4.0, uncached=True)
    stream = Stream(22, partitions=1, incidents=(incident,))
    past = list(stream.records(T0 - 3 * HOUR, T0, live=False, batch_s=600))
    return past + list(stream.records(T0, T0 + 900 * SECOND, live=True, batch_s=5))


@pytest.fixture(scope="module")
def bloated() -> list[Record]:
    """Calls with three times the input tokens and cost, for ten minutes."""
    stream = Stream(22, partitions=1, incidents=(Incident(MIDDLE, MIDDLE + 600 * SECOND, bloat=3.0),))
    past = list(stream.records(T0 - 3 * HOUR, T0, live=False, batch_s=600))
    return past + list(stream.records(T0, T0 + 1500 * SECOND, live=True, batch_s=5))


@pytest.fixture
def told_of(detector: Detector, request: pytest.FixtureRequest) -> list[Record]:
    """The stream in which something is wrong that the detector is to find."""
    name = {"cache": "degraded", "latency": "degraded", "per_call": "bloated"}.get(detector.name, "troubled")
    found: list[Record] = request.getfixturevalue(name)
    return found


@each
def test_is_silent_on_a_steady_stream(detector: Detector, steady: list[Record]) -> None:
    assert list(Judge((detector,)).run(steady)) == []


@each
def test_speaks_when_something_is_wrong_and_says_when_it_is_over(detector: Detector, told_of: list[Record]) -> None:
    told = list(Judge((detector,)).run(told_of))
    assert [a.state for a in told if a.state != "update"] == ["firing", "resolved"]
    assert {a.detector for a in told} == {detector.name}
    assert all(a.title and a.runbook and a.evidence.sql for a in told)


@each
def test_snapshot_and_resume_equal_never_stopping(detector: Detector, told_of: list[Record]) -> None:
    judge, state, told = Judge((detector,)), PartitionState(), []
    for i, record in enumerate(told_of):
        state = load(dump(state)) if i % 7 == 0 else state
        state, alerts = judge.step(state, record)
        told += alerts
    assert told == list(Judge((detector,)).run(told_of))


@each
def test_a_record_seen_again_changes_nothing(detector: Detector, troubled: list[Record]) -> None:
    judge, state = Judge((detector,)), PartitionState()
    for record in troubled[:20]:
        state, _ = judge.step(state, record)
    before = dump(state)
    for record in troubled[:20]:
        state, alerts = judge.step(state, record)
        assert alerts == []
    assert dump(state) == before


def test_memory_is_bounded_by_series_and_kinds() -> None:
    app = App(rate=30, users=20_000, guardrails=tuple(f"g{i}" for i in range(40)))
    state, judge = PartitionState(), Judge()
    for record in Stream(23, apps=(app,), partitions=1).records(T0 - 600 * SECOND, T0, live=False, batch_s=300):
        state, _ = judge.step(state, record)
    windows = state.apps["bot"].windows
    assert len(windows.series) == MAX_SERIES
    assert len(windows.index) <= MAX_SERIES
    assert len(windows.kinds) <= MAX_KINDS + 1
    assert windows.own in windows.index
    assert len(dump(state)) < 4 * 1024 * 1024


def test_a_state_of_another_version_is_refused_by_name() -> None:
    import msgspec

    with pytest.raises(ValueError, match="version 99"):
        load(msgspec.msgpack.encode([99, b""]))
    with pytest.raises(ValueError, match="damaged"):
        load(b"\xc1")


def test_a_threshold_can_be_set_and_a_wrong_one_is_refused_by_name() -> None:
    spike = next(d for d in configure({"spike": {"ratio": 5}}) if d.name == "spike")
    assert spike.ratio == 5  # type: ignore[attr-defined]
    wrong: list[dict[str, dict[str, Any]]] = [{"spyke": {}}, {"spike": {"rato": 1}}, {"spike": {"ratio": "x"}}]
    for rules, problem in zip(wrong, ["spyke", "spike.rato", "spike.ratio"], strict=True):
        with pytest.raises(SettingsError, match=re.escape(problem)):
            configure(rules)
