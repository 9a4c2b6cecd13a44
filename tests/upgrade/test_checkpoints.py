"""Checkpoints with open incidents, written by commit 73e158d (v0.1.0 and its states of version 1): they go on.

Made by that version's own judge and watch from the streams below, up to ``T0 + 60 s`` and 420 texts; the plain one
without incident.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from pipelines.detect.judge import Judge
from pipelines.detect.snapshot import dump, load
from pipelines.drift.strata import ReferenceConfig
from pipelines.drift.watch import Watch, WatchConfig
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream
from tests.pipelines.drift.conftest import make

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOOP = Incident(T0 + 20 * SECOND, T0 + 60 * SECOND, user="u-3", rate=6, context=20.0)
SURGE = Incident(T0 + 20 * SECOND, T0 + 90 * SECOND, guardrail="pii", share=0.7)
STEADY = {topic: 1.0 for topic in range(8)}


@pytest.mark.extended
def test_incidents_that_an_earlier_detect_left_open_are_resolved_once_under_their_ids() -> None:
    state = load((FIXTURES / "detect-state-73e158d.msgpack").read_bytes())
    open_ = {family: incident.id for family, incident in state.apps["bot"].life.open.items()}
    assert open_.keys() == {"spend", "guardrail:pii"}
    app = App(rate=0.5, users=8, features=(1.0,))
    stream = Stream(5, apps=(app,), partitions=1, incidents=(LOOP, SURGE))
    records = [*stream.records(T0 - HOUR, T0, live=False, batch_s=600)]
    records += stream.records(T0, T0 + 5400 * SECOND, live=True, batch_s=2)
    judge, emitted = Judge(), []
    for i, record in enumerate(records):
        state, alerts = judge.step(load(dump(state)) if i % 100 == 0 else state, record)
        emitted += alerts
    ended = [(a.state, a.id) for a in emitted if a.state != "update"]
    assert sorted(ended) == sorted(("resolved", alert_id) for alert_id in open_.values())
    assert {a.id for a in emitted} == set(open_.values())


def test_an_app_without_a_guardrail_is_judged_on_from_an_earlier_state() -> None:
    # of the arrays that v0.1.0 did not have, those of this version's width were widened once more: every record failed
    state = load((FIXTURES / "detect-plain-73e158d.msgpack").read_bytes())
    spike = Incident(T0 + 120 * SECOND, T0 + 180 * SECOND, user="u-3", rate=6, context=20.0)
    plain = App(rate=0.5, users=8, features=(1.0,), guardrails=())
    stream = Stream(5, apps=(plain,), partitions=1, incidents=(spike,))
    records = [*stream.records(T0 - HOUR, T0, live=False, batch_s=600)]
    records += stream.records(T0, T0 + 400 * SECOND, live=True, batch_s=2)
    emitted = [alert.state for alert in Judge().run(records, state)]
    assert emitted[0] == "firing"
    assert state.position == len(records)


def test_a_shift_that_an_earlier_drift_left_open_is_resolved_once_under_its_id() -> None:
    config = WatchConfig(reference=ReferenceConfig(size=80), window=60)
    watch = Watch.restore(zlib.decompress((FIXTURES / "drift-watch-73e158d.msgpack.zlib").read_bytes()), config)
    assert watch.incident is not None
    alert_id = watch.incident.id
    still = make(1, {**STEADY, 20: 12.0}, 120, start=420)
    assert watch.step(still) == [], "it goes on"
    emitted = watch.step(make(1, STEADY, 400, start=540))
    assert [(a.state, a.seq, a.id) for a in emitted] == [("resolved", 1, alert_id)]
