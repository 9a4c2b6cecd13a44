"""Tests of a minute run ahead of what is learned: once for each minute, and with no look at the whole app."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.detect.app_judge import AppJudge
from pipelines.detect.detectors.latency import Latency
from pipelines.detect.judge import Judge, PartitionState
from schemas.rollups import H_KIND
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Stream

LIVE_S = 270


def test_a_minute_that_ends_is_weighed_once_and_is_no_reason_to_look_at_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed, looked = Counter[tuple[str, int]](), 0
    minute, judge_app = Latency.minute, AppJudge._judge

    def counted(test: Latency, state: object, windows: object, end: int, open_: object) -> None:
        weighed[windows.app, end] += 1  # type: ignore[attr-defined]
        minute(test, state, windows, end, open_)  # type: ignore[arg-type]

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
    monkeypatch.setattr(Latency, "minute", counted)
    monkeypatch.setattr(AppJudge, "_judge", looks)
    assert list(judge.run(live[first:], state)) == []
    ticks = sum(dict(record.headers).get(H_KIND) == b"tick" for record in live[first:])
    assert looked < ticks / 20
    judge.learn(state)
    assert len(weighed) >= 3 * 3
    assert set(weighed.values()) == {1}, weighed
