"""An app of ten minutes: absolute rules hold until something is learned, and the alert says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.detectors.cold_start import ColdStart
from pipelines.detect.detectors.spike import Spike
from pipelines.detect.judge import Judge, PartitionState, judge
from pipelines.detect.snapshot import dump, load
from schemas.alerts import Alert
from schemas.records import Record
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

MINUTE = 60 * SECOND
ONSET = T0 + 30 * SECOND
LOOP = Incident(ONSET, ONSET + 120 * SECOND, user="u-5", rate=8.0, context=100.0)
"""8 calls/s of 0.56 USD on average: 270 USD a minute."""


def records(*incidents: Incident, age_min: int = 10, live_s: int = 240, **app: float) -> Iterator[Record]:
    """An app whose first call is ``age_min`` minutes old, read as it was lived."""
    stream = Stream(41, apps=(App(**app),), partitions=1, incidents=incidents)  # type: ignore[arg-type]
    yield from stream.records(T0 - age_min * MINUTE, T0, live=True, batch_s=30)
    yield from stream.records(T0, T0 + 60 * SECOND, live=True, batch_s=2)
    yield from stream.records(T0 + 60 * SECOND, T0 + live_s * SECOND, live=True, batch_s=10)
    yield from stream.idle(T0 + live_s * SECOND, 60, every_s=10)


def test_a_runaway_user_of_a_new_app_is_found_at_once_and_named_and_the_alert_says_still_learning() -> None:
    firing, *updates, resolved = judge(records(LOOP))
    assert (firing.state, resolved.state) == ("firing", "resolved")
    assert (firing.detector, firing.rule, firing.severity) == ("cold_start", "cold_start_cost", "critical")
    assert firing.series == {"app": "bot", "user": "u-5"}
    assert firing.title.endswith("still learning what is usual")
    assert firing.cause[0].named
    assert firing.cause[0].text.startswith("user u-5 is 100% of the rise; ")
    assert firing.detected_at < "2026-09-21T14:00:50"
    assert (firing.impact.usd_per_hour or 0.0) > 5000
    assert resolved.observed > firing.observed
    assert {a.id for a in updates} <= {firing.id}


def test_most_calls_of_a_new_app_fail() -> None:
    alerts = list(judge(_failing(share=0.7)))
    firing = alerts[0]
    assert (firing.rule, firing.state, firing.unit) == ("cold_start_errors", "firing", "share")
    assert firing.observed > 0.5
    assert "still learning" in firing.title
    assert firing.evidence.sql


def test_a_new_app_with_fewer_errors_than_half_is_quiet() -> None:
    assert [a.title for a in judge(_failing(share=0.35))] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_new_app_that_grows_or_has_bursts_is_quiet(seed: int) -> None:
    stream = Stream(seed, apps=(App(rate=0.7, burst=0.8, cost=0.01),), partitions=1)
    found = Judge((ColdStart(warm_up_s=1e9),)).run(stream.records(T0 - 6 * HOUR, T0, live=False, batch_s=600))
    assert [a.title for a in found] == []


def test_nothing_is_said_while_nothing_was_seen_but_another_app_of_the_lake_is_a_measure() -> None:
    app = App(rate=2.0, cost=0.5)
    alone = Stream(43, apps=(app,), partitions=1)
    runner = Judge((ColdStart(),))
    assert list(runner.run(alone.records(T0, T0 + 200 * SECOND, live=True, batch_s=5))) == []
    small, state = App(name="small", rate=1.0), PartitionState()
    history = Stream(44, apps=(small,), partitions=1)
    found = list(runner.run(history.records(T0 - HOUR, T0, live=False, batch_s=300), state))
    assert state.highest_usd > 0
    both = replace(history, apps=(small, app), now=T0)
    both.rollup_offset, both.offsets, both.sources = history.rollup_offset, history.offsets, history.sources
    found += runner.run(both.records(T0, T0 + 200 * SECOND, live=True, batch_s=5), state)
    assert [(a.rule, a.series["app"]) for a in found if a.state == "firing"] == [("cold_start_cost", "bot")]


def test_the_incident_is_not_learned_by_the_detectors_that_take_over() -> None:
    whole = list(records(replace(LOOP, end=ONSET + 300 * SECOND), age_min=30, live_s=1500, rate=1.0))
    state = PartitionState()
    alerts = list(Judge().run(whole, state))
    assert [a.state for a in alerts if a.state != "update"] == ["firing", "resolved"]
    app = state.apps["bot"]
    usual = app.spike.level.num[0, 0] / app.spike.level.den
    assert usual < 0.5, "USD in ten seconds; the loop made 45"


def test_history_gives_the_same_incident_as_live_and_so_does_a_state_that_was_written_and_read() -> None:
    whole = list(records(LOOP))
    live = list(judge(whole))
    state, again = PartitionState(), list[Alert]()
    for i, record in enumerate(whole):
        state = load(dump(state)) if i % 7 == 0 else state
        state, alerts = Judge().step(state, record)
        again += alerts
    assert again == live
    together = Judge(DETECTORS, together=False)
    assert list(together.run(whole)) == live


def _failing(share: float) -> Iterator[Record]:
    """A new app, of whose calls ``share`` fail from ONSET on."""

    class Failing(Stream):
        def _shaped(self, rng: np.random.Generator, app: App, ts: np.ndarray, *rest: object) -> dict[str, np.ndarray]:
            columns = super()._shaped(rng, app, ts, *rest)  # type: ignore[arg-type]
            failed = (ts >= ONSET) & (rng.random(len(ts)) < share)
            columns["status"] = np.where(failed, "error", columns["status"]).astype(object)
            return columns

    stream = Failing(42, apps=(App(rate=1.0),), partitions=1)
    yield from stream.records(T0 - 10 * MINUTE, T0 + 300 * SECOND, live=True, batch_s=10)


@pytest.mark.extended
def test_an_expensive_app_that_goes_on_is_accepted_after_two_hours_and_learned_before_it_is_judged() -> None:
    small, app = App(name="small", rate=0.3), App(rate=0.5, cost=0.3)
    history, state, runner = Stream(44, apps=(small,), partitions=1), PartitionState(), Judge((ColdStart(), Spike()))
    list(runner.run(history.records(T0 - HOUR, T0, live=False, batch_s=300), state))
    both = replace(history, apps=(small, app), now=T0)
    both.rollup_offset, both.offsets, both.sources = history.rollup_offset, history.offsets, history.sources
    found = list(runner.run(both.records(T0, T0 + 4 * HOUR, live=False, batch_s=60), state))
    assert [(a.rule, a.state) for a in found if a.state != "update"] == [
        ("cold_start_cost", "firing"),
        ("cold_start_cost", "resolved"),
    ]
    assert found[-1].title.startswith("taken for the new normal: app bot")
    assert state.apps["bot"].spike.level.den > 200, "buckets learned since"
