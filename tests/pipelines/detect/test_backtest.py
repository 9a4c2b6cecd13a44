"""The detectors over landed rollups say what they said live, in the same words and under the same ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipelines.detect import backtest
from pipelines.detect.judge import Judge, PartitionState
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import H_KIND
from schemas.topics import ROLLUPS
from tests.pipelines.detect import landing
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, Incident, Stream
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace, merge

MINUTE = 60 * SECOND


def heard() -> list[Record]:
    """An hour of history and ten live minutes with a runaway user and a guardrail's surge in them."""
    stream = Stream(
        seed=5,
        incidents=(
            Incident(T0 + MINUTE, T0 + 4 * MINUTE, user="u-7", rate=3.0),
            Incident(T0 + 5 * MINUTE, T0 + 8 * MINUTE, guardrail="pii", share=0.4),
        ),
    )
    history = list(stream.records(T0 - HOUR, T0, live=False, batch_s=60))
    return [*history, *stream.records(T0, T0 + 10 * MINUTE, live=True), *stream.idle(T0 + 10 * MINUTE, 120)]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return heard()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake.open(LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data")), now=lambda: T0) as opened:
        opened.ensure_partitions(ROLLUPS, "one", {0: 0})
        yield opened


def land(lake: Lake, records: Sequence[Record], *, batches: int = 6) -> None:
    size = len(records) // batches + 1
    for begin in range(0, len(records), size):
        landing.land(lake, records[begin : begin + size], first=records[begin].offset)


def again(lake: Lake, *, since: int = 0, until: int = 2 * T0) -> list[Alert]:
    reader = ReadOnlyLake.open(lake.config)
    try:
        found = backtest.ranges(reader.query, since=since, until=until)
        return list(backtest.judge(reader.query, found, Judge()))
    finally:
        reader.close()


def test_the_same_alerts_in_the_same_words_also_after_the_files_were_merged(lake: Lake, records: list[Record]) -> None:
    live = list(Judge().run(records))
    assert {a.detector for a in live} == {"spike", "surge"}
    assert [a.state for a in live if a.state != "update"] == ["firing", "resolved"] * 2
    land(lake, records)
    assert [a.to_json() for a in again(lake)] == [a.to_json() for a in live]
    for table in ("rollups", "ticks"):
        merge(Pace(lake, rest=0), table)
    assert [a.to_json() for a in again(lake)] == [a.to_json() for a in live]


@pytest.mark.extended
def test_pages_make_no_difference(lake: Lake, records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    land(lake, records)
    whole = again(lake)
    for name, size in (("PAGE", 97), ("PAGE_ROWS", 50)):
        monkeypatch.setattr(backtest, name, size)
        assert again(lake) == whole


def test_a_beginning_in_the_middle_says_what_comes_after_it_and_nothing_of_what_came_before(
    lake: Lake, records: list[Record]
) -> None:
    land(lake, records)
    whole = again(lake)
    assert {a.detector for a in whole} == {"spike", "surge"}
    # history came at T0; without it nothing is known of what is usual, and nothing is said
    assert again(lake, since=T0 + SECOND) == []
    # all of it, but not the end: the surge comes after the third minute
    early = again(lake, until=T0 + 5 * MINUTE)
    assert {a.detector for a in early} == {"spike"}
    assert [a.to_json() for a in early] == [a.to_json() for a in whole if a.detector == "spike"][: len(early)]
    assert again(lake, since=T0 + HOUR) == []


def test_when_the_first_rollup_and_the_first_tick_came(lake: Lake, records: list[Record]) -> None:
    assert backtest.firsts(lake.query) == (None, None)
    land(lake, records)
    times = {bool(dict(r.headers)[H_KIND] == b"tick"): r.kafka_time for r in reversed(records)}
    assert backtest.firsts(lake.query) == (times[False], times[True])


def test_a_topic_made_anew_goes_on_where_the_live_stage_goes_on(lake: Lake, records: list[Record]) -> None:
    cut = next(i for i, r in enumerate(records) if r.kafka_time >= T0 + 3 * MINUTE)
    first = records[:cut]
    second = [
        Record(r.topic, r.partition, i, r.kafka_time, r.key, r.value, r.headers) for i, r in enumerate(records[cut:])
    ]
    judge, state = Judge(), PartitionState()
    live = list(judge.run(first, state))
    state.restart_at(0)
    live += list(judge.run(second, state))
    land(lake, first)
    lake.adopt(ROLLUPS, "two", {0: 0}, cause="made again")
    land(lake, second)
    assert [a.to_json() for a in again(lake)] == [a.to_json() for a in live]
