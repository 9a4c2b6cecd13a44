"""State that an earlier version wrote is read, and judging goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.detect.detectors.surge_state import ARRAYS
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from pipelines.detect.snapshot_v3 import widened
from schemas.alerts import Alert
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

FIRST = Path(__file__).parents[2] / "fixtures" / "detect-state-1.bin"
"""Written by version 1 in the middle of an incident: the 87 records of ``_stream`` before T0 + 70 s."""


@pytest.mark.extended
def test_a_state_of_version_1_goes_on_with_its_open_incident_and_repeats_nothing() -> None:
    incident = Incident(T0 + 30 * SECOND, T0 + 120 * SECOND, user="u-7", rate=8.0)
    stream = Stream(41, apps=(App(rate=0.4, users=12, cost=0.02),), partitions=1, incidents=(incident,))
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=300))
    records += stream.records(T0, T0 + 1200 * SECOND, live=True, batch_s=2)
    state = load(FIRST.read_bytes())
    assert (state.position, list(state.apps), state.poison) == (87, ["bot"], 0)
    (open_,) = state.apps["bot"].life.open.values()
    assert load(dump(state)) is not state
    assert dump(load(dump(state))) == dump(state)
    alerts = list(Judge().run(records, state))
    assert {a.id for a in alerts} == {open_.id}
    assert [a.state for a in alerts if a.state != "update"] == ["resolved"]
    whole = list(Judge().run(records))
    assert [a.id for a in whole if a.state == "firing"] == [open_.id]


def test_a_state_of_version_3_gets_the_columns_of_reported_costs_and_gives_the_same_alerts() -> None:
    """Sums and kinds are taken out, as version 3 had them, in the middle of an incident of a guardrail."""
    incident = Incident(T0 + 20 * SECOND, T0 + 90 * SECOND, guardrail="pii", share=0.7)
    stream = Stream(5, apps=(App(rate=0.5, users=8, features=(1.0,)),), partitions=1, incidents=(incident,))
    records = [*stream.records(T0 - HOUR, T0, live=False, batch_s=600)]
    records += stream.records(T0, T0 + 300 * SECOND, live=True, batch_s=2)
    judge, state, before = Judge(), PartitionState(), list[Alert]()
    for record in (r for r in records if r.kafka_time <= T0 + 75 * SECOND):
        state, alerts = judge.step(state, record)
        before += alerts
    judge.learn(state)
    assert [a.state for a in before] == ["firing"]
    whole = list(judge.run(records, load(dump(state))))
    old = load(dump(state))
    for app in old.apps.values():
        for slot in app.windows.slots.values():
            slot.merge()
            slot.sums = np.delete(slot.sums, [12, 13], axis=1)
        for open_ in app.life.open.values():
            for sums in (open_.total, open_.after):
                kept = {c - 2 * (c > 13): v for c, v in sums.items() if c not in (12, 13)}
                sums.clear()
                sums.update(kept)
        for name in ARRAYS:
            setattr(app.surge, name, np.delete(getattr(app.surge, name), 8, axis=1))
    assert list(judge.run(records, widened(old))) == whole
    assert [a.state for a in whole if a.state != "update"] == ["resolved"]
