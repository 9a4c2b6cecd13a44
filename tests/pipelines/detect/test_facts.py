"""What detect reports about its own progress: it grows inside one record, and event time with it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipelines.detect import judge as judge_module
from pipelines.detect.app import DetectConfig, _Stage
from pipelines.detect.judge import PartitionState
from pipelines.kafka import KafkaConfig
from tests.pipelines.detect.traffic import HOUR, T0, App, Stream


def test_progress_and_event_time_move_with_every_slice_of_a_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judge_module, "SLICE", 1)
    stage, state = _Stage(DetectConfig(KafkaConfig("nowhere:1"), tmp_path), 2), PartitionState()
    stage.states = {0: state}
    assert stage.facts().event_time is None
    stream = Stream(51, apps=(App(rate=0.1, users=5),), partitions=1)
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=900))
    nothing: Any = None  # no checkpoint is due so soon
    seen: list[tuple[int | None, int | None]] = []
    for record in [*(r for r in records if r.key != b"*"), records[-1]]:
        for _ in stage.judge.slices(state, record):
            assert asyncio.run(stage._pause(nothing, nothing, 0, state))
            facts = stage.facts()
            seen.append((facts.progress, facts.event_time))
    assert [progress for progress, _ in seen] == list(range(1, len(seen) + 1))
    times = [time for _, time in seen if time is not None]
    assert len(set(times)) > 3, "inside the one tick that closes an hour"
    assert all(before <= after for before, after in pairwise(times))
    assert times[-1] == state.event_time() == stage.event_times[0]
    assert T0 - 60_000_000 <= times[-1] <= T0 + 60_000_000
    assert stage.facts().position == {"llm.rollups[0]": state.position}


def test_a_partition_that_was_given_away_reports_nothing_more(tmp_path: Path) -> None:
    stage, state, nothing = _Stage(DetectConfig(KafkaConfig("nowhere:1"), tmp_path), 2), PartitionState(), None
    stage.states = {}
    assert not asyncio.run(stage._pause(nothing, nothing, 0, state))  # type: ignore[arg-type]
    assert stage.event_times == {}
