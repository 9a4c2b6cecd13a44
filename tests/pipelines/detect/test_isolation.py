"""A detector that raises is left out from that record on; what the others say is what they would say without it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.isolation import ALL, APPS, DetectorError, Isolation, Isolations, checked
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from schemas.alerts import Alert
from schemas.records import Record
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, Incident, Stream

TOPIC = "rollups-1"


@dataclass
class Broken:
    """``inner``, which raises at a call of one of its methods."""

    inner: Any
    method: str
    at: int
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        self.name = self.inner.name  # type: ignore[misc]
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if name != self.method:
            return value

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls >= self.at:
                raise AttributeError("a bug of the thousandth record")
            return value(*arguments)

        return call


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """An hour of history, then an incident of a user, with its end."""
    incident = Incident(T0 + 20 * SECOND, T0 + 45 * SECOND, user="u-77", rate=9)
    stream = Stream(11, partitions=1, incidents=(incident,))
    past = list(stream.records(T0 - HOUR, T0, live=False, batch_s=120))
    return past + list(stream.records(T0, T0 + 150 * SECOND, live=True, batch_s=2))


def told(alerts: Iterable[Alert]) -> list[tuple[str, int, str, str]]:
    return [(a.id, a.seq, a.state, a.rule) for a in alerts]


def staged(records: list[Record], detectors: tuple[Any, ...], isolations: Isolations, *, every: int = 7) -> list[Alert]:
    """What the stage does: judge, checkpoint, and after a `DetectorError` go on from the last checkpoint."""
    saved, at, restarts = dump(PartitionState(topic=TOPIC)), 0, 0
    alerts: dict[tuple[str, int], Alert] = {}
    state = load(saved)
    while at < len(records):
        record = records[at]
        judge = Judge(checked(detectors), isolations=isolations)
        try:
            for found in judge.slices(state, record):
                alerts |= {(a.id, a.seq): a for a in found}
        except DetectorError as error:
            cause = type(error.cause).__name__
            isolations.add(Isolation(TOPIC, record.partition, record.offset, error.app, error.detector, cause))
            state, restarts = load(saved), restarts + 1
            assert restarts <= len(DETECTORS)
            at = next(i for i, each in enumerate(records) if each.offset >= state.position)
            continue
        at += 1
        if at % every == 0:
            saved = dump(state)
    return list(alerts.values())


@pytest.mark.representatives(3)
@pytest.mark.parametrize("method", ["step", "scan", "bound", "observe"])
@pytest.mark.parametrize("broken", ["surge", "ceiling", "spike"])
def test_the_others_say_what_they_say_without_it(records, tmp_path, method, broken):
    others = tuple(d for d in DETECTORS if d.name != broken)
    whole = told(Judge().run(records, PartitionState(topic=TOPIC)))
    without = told(Judge(others).run(records, PartitionState(topic=TOPIC)))
    detectors = tuple(Broken(d, method, 5) if d.name == broken else d for d in DETECTORS)
    isolations = Isolations(tmp_path / "isolated.json", code="1")
    found = told(staged(records, detectors, isolations))
    if not isolations.all:  # the method is not called so often
        assert found == whole
        return
    assert {i.detector for i in isolations.all} == {broken}
    if broken != "spike":  # whose incident may be open when it is left out
        assert found == without == whole


def test_every_record_before_is_judged_with_it(records, tmp_path):
    whole = told(Judge().run(records, PartitionState(topic=TOPIC)))
    assert [rule for *_, rule in whole]
    spike = next(d for d in DETECTORS if d.name == "spike")
    isolations = Isolations(tmp_path / "isolated.json", code="1")
    found = staged(records, (Broken(spike, "on_resolved", 1), *[d for d in DETECTORS if d is not spike]), isolations)
    assert told(found)[0] == whole[0]
    assert [i.detector for i in isolations.all] == ["spike"]
    assert isolations.all[0].cause == "AttributeError"


def test_without_any_detector_records_are_passed_over(records, tmp_path):
    detectors = tuple(Broken(d, "scan", 1) for d in DETECTORS)
    isolations = Isolations(tmp_path / "isolated.json", code="1")
    assert staged(records, detectors, isolations) == []
    assert {i.detector for i in isolations.all} == {d.name for d in DETECTORS}


def test_what_is_left_out_is_kept_for_the_same_code_only(tmp_path):
    path = tmp_path / "state" / "isolated.json"
    first = Isolations(path, code="1")
    first.add(Isolation(TOPIC, 0, 12, "bot", "spike", "ValueError"))
    assert Isolations(path, code="1").without(TOPIC, 0, 12, "bot") == {"spike"}
    for other in ((TOPIC, 0, 11, "bot"), (TOPIC, 1, 12, "bot"), ("rollups-2", 0, 12, "bot"), (TOPIC, 0, 12, "b")):
        assert first.without(*other) == frozenset()
    assert Isolations(path, code="2").all == ()
    path.write_text("{")
    assert Isolations(path, code="1").all == ()


def test_a_detector_that_raises_for_many_apps_is_left_out_for_all(tmp_path):
    isolations = Isolations(tmp_path / "isolated.json", code="1")
    for n in range(APPS):
        kept = isolations.add(Isolation(TOPIC, 0, n, f"app-{n}", "surge", "ValueError"))
    assert kept.app == ALL
    assert isolations.without(TOPIC, 0, APPS, "another") == {"surge"}
    assert "left out for all apps since llm.rollups[0]@2" in kept.text()


def test_the_code_of_this_folder_is_the_same_twice(tmp_path):
    path = tmp_path / "isolated.json"
    Isolations(path).add(Isolation(TOPIC, 0, 1, "a", "spike", "E"))
    assert len(Isolations(path).all) == 1
