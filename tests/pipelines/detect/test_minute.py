"""Tests of a minute run ahead of what is learned: once for each minute, and with no look at the whole app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from pipelines.detect.app_judge import AppJudge
from pipelines.detect.detectors import Detector
from pipelines.detect.detectors.cache import Cache
from pipelines.detect.detectors.latency import Latency
from pipelines.detect.detectors.minute import MINUTE, TEN_MINUTES, split_at_ten_minutes
from pipelines.detect.detectors.per_call import PerCall
from pipelines.detect.judge import Judge, PartitionState
from schemas.rollups import H_KIND
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

LIVE_S = 270


def test_a_minute_that_ends_is_weighed_once_and_is_no_reason_to_look_at_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed, looked = Counter[tuple[str, int]](), 0
    minutes, judge_app = Latency.minutes, AppJudge._judge

    def counted(test: Latency, state: object, windows: object, ends: Sequence[int], open_: object) -> Iterator[None]:
        for end, _ in zip(ends, minutes(test, state, windows, ends, open_), strict=True):  # type: ignore[arg-type]
            weighed[windows.app, end] += 1  # type: ignore[attr-defined]
            yield

    def looks(*arguments: object, **options: object) -> object:
        nonlocal looked
        looked += 1
        return judge_app(*arguments, **options)  # type: ignore[arg-type]

    apps = tuple(App(f"app-{n}", rate=1.0, users=20, cost=0.01) for n in range(3))
    stream, state, judge = Stream(51, apps=apps, partitions=1), PartitionState(), Judge()
    past = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    live = list(stream.records(T0, T0 + LIVE_S * SECOND, live=True))
    first = next(i for i, record in enumerate(live) if record.kafka_time > T0 + 30 * SECOND)
    assert list(judge.run([*past, *live[:first]], state)) == []
    monkeypatch.setattr(Latency, "minutes", counted)
    monkeypatch.setattr(AppJudge, "_judge", looks)
    assert list(judge.run(live[first:], state)) == []
    ticks = sum(dict(record.headers).get(H_KIND) == b"tick" for record in live[first:])
    assert looked < ticks / 20
    judge.learn(state)
    assert len(weighed) >= 3 * 3
    assert set(weighed.values()) == {1}, weighed


@pytest.mark.parametrize("detector", [Latency(slo_ms=5000), Cache(), PerCall(least_usd_per_day=0.1)])
def test_minutes_that_are_weighed_together_leave_the_state_of_each_by_itself(detector: Detector) -> None:
    apps = (App("bot", rate=0.5, users=20, cost=0.01), App("search", rate=0.1, users=5, cost=0.02))
    jump = Incident(T0 - HOUR, T0 - HOUR // 2, factor=6)
    stream = Stream(52, apps=apps, partitions=1, incidents=(jump,))
    records = list(stream.records(T0 - 3 * HOUR, T0, live=False, batch_s=900))
    found, states = [], []
    for together in (True, False):
        state, judge = PartitionState(), Judge((detector,), together=together)
        found.append([(alert.id, alert.seq, alert.state) for alert in judge.run(records, state)])
        judge.learn(state)
        states.append({name: vars(app.get(detector)) for name, app in state.apps.items()})
    assert found[0] == found[1]
    assert set(states[0]) == {"bot", "search"}
    for app, fields in states[0].items():
        assert fields["run"].any()
        for name, value in fields.items():
            np.testing.assert_array_equal(value, states[1][app][name], err_msg=f"{app} {name}")


def test_minutes_are_parted_where_ten_minutes_end() -> None:
    assert split_at_ten_minutes([]) == []
    ends = [TEN_MINUTES - MINUTE, TEN_MINUTES, TEN_MINUTES + MINUTE]
    assert split_at_ten_minutes(ends) == [ends[:2], ends[2:]]
