"""Looks at open buckets that are spared by bounds give the same alerts and states as looks at every series."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.detect import windows as windows_module
from pipelines.detect.app_judge import AppJudge
from pipelines.detect.detectors import configure
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import H_KIND
from tests.pipelines.detect.states import normal
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream


def _stream(seed: int, *incidents: Incident, rate: float = 1.0, **app: object) -> Stream:
    apps = (
        App("bot", rate=rate, users=60, cost=0.01, **app),  # type: ignore[arg-type]
        App("rare", rate=0.02, users=5, cost=0.2),
    )
    return Stream(seed, apps=apps, partitions=1, incidents=incidents)


def _parts(stream: Stream, live_s: int, *, history: int = HOUR) -> tuple[list[Record], list[Record]]:
    past = list(stream.records(T0 - history, T0, live=False, batch_s=600))
    return past, list(stream.records(T0, T0 + live_s * SECOND, live=True))


def _records(stream: Stream, live_s: int, *, history: int = HOUR) -> list[Record]:
    past, live = _parts(stream, live_s, history=history)
    return past + live


def _both(records: list[Record], judge: Judge | None = None) -> list[Alert]:
    """Judge by bounds, and by looks at every series; return what both must give."""
    judge = judge or Judge()
    found = []
    for each in (judge, Judge(judge.detectors, together=False)):
        state = PartitionState()
        alerts = list(each.run(records, state))
        found.append((alerts, normal(each, state)))
    (bounded, bounded_state), (full, full_state) = found
    assert bounded == full
    assert bounded_state == full_state
    return bounded


@pytest.mark.parametrize("rate", [0.1, 2.0], ids=["slow", "busy"])
def test_live_looks_with_open_incidents_are_equal_to_the_last_digit(rate: float) -> None:
    """A runaway user, and a guardrail that stops calls meanwhile; both end, and calls go on."""
    incidents = (
        Incident(T0 + 40 * SECOND, T0 + 80 * SECOND, user="u-7", rate=3.0, context=20.0),
        Incident(T0 + 60 * SECOND, T0 + 120 * SECOND, guardrail="pii", share=0.6, action="block"),
    )
    alerts = _both(_records(_stream(41, *incidents, rate=rate), 220))
    assert {a.state for a in alerts} >= {"firing", "resolved"}
    assert {a.series["app"] for a in alerts} == {"bot"}


def test_live_looks_are_equal_where_a_rise_creeps_up_to_the_limit_and_records_move() -> None:
    """The cost doubles, triples, quadruples; ten minutes end in between, and costs per call rise at last."""
    steps = tuple(
        Incident(T0 + at * SECOND, T0 + (at + 100) * SECOND, factor=factor)
        for at, factor in ((100, 1.6), (200, 2.2), (300, 2.8), (400, 3.4))
    )
    spell = Incident(T0 + 520 * SECOND, T0 + 560 * SECOND, user="u-3", rate=0.5, context=60.0)
    alerts = _both(_records(_stream(42, *steps, spell, rate=0.6, burst=0.3), 610))
    assert any(a.state == "firing" for a in alerts)


def test_live_looks_are_equal_for_single_calls_over_the_limit() -> None:
    judge = Judge(configure({"ceiling": {"limit_usd": 1.5}}))
    alerts = _both(_records(_stream(43, rate=0.4, sigma=1.2), 150, history=HOUR // 2), judge)
    assert any(a.rule == "single_call_cost" for a in alerts)


def test_live_looks_are_equal_while_an_app_warms_up_and_new_guardrails_and_features_come() -> None:
    first, second = _stream(44, rate=0.5, features=(1.0,)), _stream(45, rate=0.5, guardrails=("new", "newer"))
    records = _records(first, 60, history=700 * SECOND)
    second.offsets, second.rollup_offset, second.sources = first.offsets, first.rollup_offset, first.sources
    records += second.records(T0 + 60 * SECOND, T0 + 200 * SECOND, live=True)
    _both(records)


@pytest.mark.extended
def test_live_looks_are_equal_where_series_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_module, "MAX_SERIES", 48)
    monkeypatch.setattr("pipelines.detect.judge.MAX_SERIES", 48)
    spell = Incident(T0 + 60 * SECOND, T0 + 100 * SECOND, user="u-9", rate=4.0, context=20.0)
    _both(_records(_stream(46, spell, rate=0.5), 120, history=5 * HOUR // 6))


@pytest.mark.extended
def test_live_looks_are_equal_where_rows_come_late_and_ticks_fail() -> None:
    """Every fourth second of rollups is read 15 s later; half a minute has no tick; then a minute of silence."""
    stream = _stream(47, Incident(T0 + 150 * SECOND, T0 + 190 * SECOND, user="u-7", rate=4.0, context=20.0))
    past = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    order: list[tuple[int, Record]] = []
    for second in range(260):
        for record in stream.records(T0 + second * SECOND, T0 + (second + 1) * SECOND, live=True):
            tick = dict(record.headers).get(H_KIND) == b"tick"
            if tick and 60 <= second < 90:
                continue
            order.append((second + (15 if second % 4 == 0 and not tick else 0), record))
    live = [record for _, record in sorted(order, key=lambda pair: pair[0])]
    live += stream.idle(T0 + 260 * SECOND, 400)
    live += stream.records(T0 + 660 * SECOND, T0 + 700 * SECOND, live=True)
    renumbered = [Record(r.topic, 0, i, r.kafka_time, r.key, r.value, r.headers) for i, r in enumerate([*past, *live])]
    assert any(a.state == "firing" for a in _both(renumbered))


@pytest.mark.extended
def test_stopping_a_live_judge_anywhere_changes_nothing() -> None:
    """Buckets that are not learned yet are in the snapshot."""
    spell = Incident(T0 + 60 * SECOND, T0 + 90 * SECOND, user="u-7", rate=4.0, context=20.0)
    records = _records(_stream(48, spell), 200)
    whole, judge, state, alerts = PartitionState(), Judge(), PartitionState(), list[Alert]()
    expected = list(judge.run(records, whole))
    deferred = 0
    for i, record in enumerate(records):
        if i % 71 == 0:
            data = dump(state)
            state = load(data)
            assert dump(state) == data
            deferred = max([deferred, *(app.deferred for app in state.apps.values())])
        state, found = judge.step(state, record)
        alerts += found
    assert alerts == expected
    assert normal(judge, state) == normal(judge, whole)
    assert deferred > 1, "buckets that are not learned yet, in a snapshot"


def test_a_quiet_app_is_hardly_ever_looked_at_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    close_bounded, step = Judge._close_bounded, AppJudge._judge

    def closed_bounded(judge: Judge, *arguments: object) -> frozenset[str]:
        found = close_bounded(judge, *arguments)  # type: ignore[arg-type]
        counted["quiet"] += len(found)
        return found

    def looked(judge: AppJudge, *arguments: object, **options: object) -> list[object]:
        counted["looked at"] += 1
        return step(judge, *arguments, **options)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(Judge, "_close_bounded", closed_bounded)
    monkeypatch.setattr(AppJudge, "_judge", looked)
    stream = _stream(49, burst=0.3)
    past, live = _parts(stream, 300)
    state = PartitionState()
    assert list(Judge().run(past, state)) == []
    counted.clear()
    assert list(Judge().run(live, state)) == []
    assert counted["quiet"] > 20 * counted["looked at"], counted
