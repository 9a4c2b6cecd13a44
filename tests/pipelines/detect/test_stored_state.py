"""A new detector, or a field that one adds, leaves an old checkpoint as it is; what it cannot read it learns again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from pipelines.detect.stored_state import StoredState, read, store
from schemas.alerts import Alert
from tests.docs.test_how_to import blocks, module
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

OLD = Path(__file__).parents[2] / "fixtures" / "detect-plain-73e158d.msgpack"
"""Written by v0.1.0, see tests/upgrade/test_checkpoints.py."""


def stream(*incidents: Incident) -> list[Any]:
    made = Stream(8, apps=(App(rate=2.0, users=10),), partitions=1, incidents=incidents)
    return [
        *made.records(T0 - HOUR, T0, live=False, batch_s=300),
        *made.records(T0, T0 + 240 * SECOND, live=True, batch_s=2),
    ]


def run(judge: Judge, records: list[Any], state: PartitionState) -> list[Alert]:
    return list(judge.run(records, state))


@pytest.fixture
def flood(monkeypatch: pytest.MonkeyPatch) -> Any:
    (source,) = blocks("write-a-detector.md", "python")
    return module(source, "flood", monkeypatch).Flood(calls_a_minute=600.0)


def test_a_detector_that_is_added_goes_on_from_a_checkpoint_without_it(flood: Any) -> None:
    flooded = Incident(T0 + 60 * SECOND, T0 + 120 * SECOND, factor=20.0, app="bot")
    records = stream(flooded)
    half = [r for r in records if r.kafka_time <= T0]
    state = PartitionState()
    assert run(Judge(), half, state) == []
    old = load(dump(state))
    alone = run(Judge(), records, load(dump(state)))
    with_it = run(Judge((*DETECTORS, flood)), records, old)
    assert {a.detector for a in with_it} >= {"flood"}
    assert {a.id for a in with_it if a.detector != "flood"} <= {a.id for a in alone}
    assert load(dump(old)).apps["bot"].get(flood) == old.apps["bot"].get(flood)


def test_one_of_version_0_1_0_takes_a_new_detector_too(flood: Any) -> None:
    state = load(OLD.read_bytes())
    (name,) = state.apps
    learned = state.apps[name].spike.level.num.copy()
    assert state.apps[name].get(flood) == flood.initial_state()
    again = load(dump(state))
    assert np.array_equal(again.apps[name].spike.level.num, learned)
    assert again.apps[name].get(flood) == flood.initial_state()


def test_the_state_of_a_detector_that_is_not_there_is_kept_as_it_is(flood: Any) -> None:
    state = PartitionState()
    run(Judge((*DETECTORS, flood)), stream(), state)
    state.apps["bot"].get(flood).cut = 77
    once = load(dump(state))
    stored = once.apps["bot"].states["flood"]
    twice = load(dump(once))
    assert twice.apps["bot"].states["flood"] == stored
    assert twice.apps["bot"].get(flood).cut == 77


@dataclass
class Before:
    cut: int = 0


@dataclass
class More:
    cut: int = 0
    level: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(2))


@dataclass
class Other:
    VERSION = 2
    since: int = 0

    @classmethod
    def of_version(cls, version: int, fields: dict[str, Any]) -> Other:
        assert version == 1
        return cls(since=fields["cut"])


@dataclass
class Unlike:
    VERSION = 3
    names: list[str] = field(default_factory=list)


def test_a_field_that_is_added_has_its_default_and_the_others_are_kept() -> None:
    found = read(store(Before(cut=5)), More(), "x")
    assert (found.cut, found.level.tolist()) == (5, [0.0, 0.0])


def test_a_state_whose_meaning_changed_is_made_of_the_old_one() -> None:
    assert read(store(Before(cut=5)), Other(), "x") == Other(since=5)


@pytest.mark.parametrize(
    "stored", [store(Before(cut=5)), StoredState(3, b"\xc1"), StoredState(3, b"\x81\xa5names\x05")]
)
def test_what_a_detector_cannot_read_it_learns_again(stored: StoredState) -> None:
    initial = Unlike()
    assert read(stored, initial, "x") is initial


def test_the_others_keep_what_they_have_learned_where_one_cannot_be_read() -> None:
    state, whole = PartitionState(), stream()
    run(Judge(), whole, state)
    damaged = load(dump(state))
    app = damaged.apps["bot"]
    app.states["surge"] = replace_data(app.states["surge"])
    again = load(dump(damaged)).apps["bot"]
    assert again.surge.places == []
    assert np.array_equal(again.spike.level.num, state.apps["bot"].spike.level.num)


def replace_data(stored: StoredState) -> StoredState:
    return StoredState(stored.version, stored.data[: len(stored.data) // 2])
