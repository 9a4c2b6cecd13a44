"""A file of events gives the alerts that the stages give: the same ids, windows, values and words."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.backtest import EventsConfig, Replay
from pipelines.backtest.timeline import SECOND
from pipelines.decode import DuplicateWindow, decode
from pipelines.detect import backtest
from pipelines.detect.judge import Judge
from pipelines.drift.embed import EmbedderUnavailableError, Memory
from pipelines.drift.partition import Partition
from pipelines.drift.points import Point
from pipelines.drift.watch import WatchConfig
from pipelines.land.rows import land_rows
from pipelines.meter import wire
from pipelines.meter.counting import Counting
from pipelines.meter.plan import DEFAULT
from pipelines.pricing import PriceBooks, default_book
from schemas.alerts import Alert
from schemas.records import Move, Records
from schemas.topics import EVENTS, ROLLUPS
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

T0 = 1_790_000_000_000
"""ms UTC."""
MINUTES = 60
BOOKS = PriceBooks([default_book()])
RATE = 20.0
TICK = 10 * SECOND


def call(draw: random.Random, at_ms: int, **fields: Any) -> dict[str, Any]:
    base = {
        "v": 1,
        "type": "call",
        "id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
        "ts": at_ms,
        "app": "bot",
        "model": "gpt-4o",
        "provider": "openai",
        "user": f"u-{draw.randrange(40)}",
        "tokens": {"input": draw.randrange(500, 2500), "output": draw.randrange(50, 500)},
        "finish_reason": "stop",
    }
    return base | fields


def traffic(seed: int = 3) -> list[bytes]:
    """An hour of quiet calls, then a user who calls without end and an outage, with texts of two topics."""
    draw, events = random.Random(seed), []
    for second in range(MINUTES * 60):
        late = second > (MINUTES - 12) * 60
        for _ in range(draw.choice((0, 1, 1, 2))):
            topic = draw.choice(("weather", "travel")) if not late or draw.random() < 0.2 else "tax"
            text = {"mode": "redacted", "input": [{"role": "user", "text": f"{topic} {draw.randrange(50)}"}]}
            failed = {"status": "error", "error": {"type": "overloaded"}} if late and draw.random() < 0.4 else {}
            events.append(call(draw, T0 + second * 1000 + draw.randrange(1000), content=text, **failed))
        if late:
            loop = {"user": "u-loop", "tokens": {"input": 9000, "output": 200}}
            events += [call(draw, T0 + second * 1000 + i * 200, **loop) for i in range(5)]
    return [json.dumps(e).encode() for e in sorted(events, key=lambda e: e["ts"])]


class Topics:
    """Texts of one topic lie near each other."""

    model = "topics"

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        found = []
        for text in texts:
            topic, number = text.split()
            near = np.random.default_rng(sum(topic.encode())).normal(size=384)
            raw = near + 0.8 * np.random.default_rng(int(number)).normal(size=384)
            found.append(raw / np.linalg.norm(raw))
        return np.array(found, np.float32)

    def close(self) -> None:
        """Nothing to let go of."""


class NoModel(Topics):
    """A model that cannot be loaded."""

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        raise EmbedderUnavailableError("no model here")


def config(**fields: Any) -> EventsConfig:
    known: dict[str, Any] = {"books": BOOKS, "samples_per_s": RATE, "embedder": Topics, "tick_us": TICK}
    return EventsConfig(**(known | fields))


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return traffic()


@pytest.fixture(scope="module")
def alerts(lines: list[bytes]) -> list[Alert]:
    return list(Replay(config()).run(lines))


def batch_of(values: Sequence[bytes], first: int) -> Records:
    """One batch of llm.events: each line was appended when it happened."""
    n, times = len(values), [json.loads(value)["ts"] * 1000 for value in values]
    span = {0: (first, first + n)}
    return Records(EVENTS, [0] * n, list(range(first, first + n)), times, [None] * n, list(values), [()] * n, span)


def stage_batches(lines: Sequence[bytes]) -> Iterator[tuple[int, Records]]:
    """(time of the tick after it, batch), as a meter reads that keeps up."""
    offset = 0
    for tick, members in groupby(lines, key=lambda line: -(-json.loads(line)["ts"] * 1000 // TICK) * TICK):
        values = list(members)
        yield tick, batch_of(values, offset)
        offset += len(values)


def staged(lake: Lake, lines: Sequence[bytes]) -> tuple[list[Alert], list[Alert]]:
    """Run the functions of land, meter and drift; land what they write, and judge what has landed.

    Returns:
        The alerts of detect, and those of drift.
    """
    counting, last, drifted = Counting(DEFAULT, epoch=0, samples_per_s=RATE), 0, list[Alert]()
    records: list[tuple[int, bytes | None, bytes, tuple[tuple[str, bytes], ...]]] = []
    counting.start(0, 0)
    partition, memory = Partition(0, WatchConfig()), Memory(Topics())

    def ticks(until: int) -> None:
        for at in range(last, until, TICK):
            records.append((at, None, counting.tick(at, {}).to_json(), wire.TICK_HEADERS))

    for tick, batch in stage_batches(lines):
        if last:
            ticks(tick)
        counted = counting.count(batch, BOOKS, wall=tick)
        records += [(tick, m.key, m.value, m.headers) for m in counted.rollups]
        samples = [s for s in counted.samples if s.side == "input"]
        vectors, scales = memory.quantised([s.text for s in samples])
        drifted += partition.apply(
            [Point.of(s, tick, vectors[i], float(scales[i])) for i, s in enumerate(samples)], 0, 0
        )
        last = tick
    ticks(last + 60 * SECOND)
    events = batch_of(lines, 0)
    lake.ensure_partitions(EVENTS, "events", {0: 0})
    lake.append(
        decode(events, BOOKS, DuplicateWindow(), epoch=0, landed_at=last).tables(), [Move(EVENTS, 0, 0, len(lines))]
    )
    size = len(records)
    times, keys, values, headers = (list[Any](column) for column in zip(*records, strict=True))
    rows = Records(ROLLUPS, [0] * size, list(range(size)), times, keys, values, headers, {0: (0, size)})
    lake.ensure_partitions(ROLLUPS, "one", {0: 0})
    lake.append(land_rows(rows, epoch=0, landed_at=last), [Move(ROLLUPS, 0, 0, size)])
    reader = ReadOnlyLake.open(lake.config)
    try:
        found = backtest.ranges(reader.query, since=0, until=2 * T0 * 1000)
        return list(backtest.judge(reader.query, found, Judge())), drifted
    finally:
        reader.close()


def words(alerts: Sequence[Alert]) -> list[bytes]:
    return [alert.to_json() for alert in alerts]


def test_the_alerts_are_those_of_events_that_were_landed_and_rolled_up(
    tmp_path: Path, lines: list[bytes], alerts: list[Alert]
) -> None:
    assert {a.detector for a in alerts} == {"spike", "surge", "drift"}
    lake_config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    with Lake.open(lake_config, now=lambda: T0 * 1000) as lake:
        live, drifted = staged(lake, lines)
        priced = lake.query("SELECT count(*) AS n FROM raw_calls WHERE cost_usd > 0", []).to_pylist()
    assert priced == [{"n": len(lines)}]
    assert words(live) == words([a for a in alerts if a.detector != "drift"])
    assert words(drifted) == words([a for a in alerts if a.detector == "drift"])


@pytest.mark.extended
def test_chunks_and_forks_make_no_difference(
    lines: list[bytes], alerts: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.backtest.events._CHUNK_LINES", 700)
    stages, half = Replay(config()), len(lines) // 2
    first = list(stages.feed(lines[:half]))
    other = stages.fork()
    rest = [*stages.feed(lines[half:]), *stages.finish()]
    assert words(sorted(first + rest, key=str)) == words(sorted(alerts, key=str))
    assert words([*other.feed(lines[half:]), *other.finish()]) == words(rest)


def test_bad_lines_are_counted_and_change_nothing_else(lines: list[bytes], alerts: list[Alert]) -> None:
    bad = [b"{", b"[]", json.dumps({"v": 1, "type": "call", "ts": 9_999_999_999_999}).encode()]
    mixed = list(lines)
    for place, line in zip((5, 200, len(lines) - 50), bad, strict=True):
        mixed.insert(place, line)
    stages = Replay(config())
    found = list(stages.run(mixed))
    assert (stages.lines, stages.dead, stages.late) == (len(lines) + 3, 3, 0)
    assert stages.first_dead is not None
    assert stages.first_dead[0] == 6
    assert {(a.rule, a.state) for a in found} == {(a.rule, a.state) for a in alerts}


@pytest.mark.extended
def test_one_event_dated_ahead_makes_no_other_late(lines: list[bytes], alerts: list[Alert]) -> None:
    ahead = json.dumps(call(random.Random(1), T0 * 2)).encode()
    stages = Replay(config())
    found = list(stages.run([*lines[:1000], ahead, *lines[1000:]]))
    assert stages.late == 0
    assert {a.id for a in found if a.detector == "surge"} == {a.id for a in alerts if a.detector == "surge"}


def test_events_out_of_order_are_counted(lines: list[bytes]) -> None:
    stages = Replay(config(embedder=None))
    list(stages.run([*lines[1000:1500], *lines[:100]]))
    assert stages.late == 100


def test_without_a_model_drift_is_unknown_and_the_others_go_on(lines: list[bytes], alerts: list[Alert]) -> None:
    stages = Replay(config(embedder=NoModel))
    found = list(stages.run(lines))
    assert stages.drift_unknown == "no model here"
    assert words(found) == words([a for a in alerts if a.detector != "drift"])


def test_a_gap_of_years_is_passed_in_few_ticks(lines: list[bytes]) -> None:
    old = json.dumps(call(random.Random(1), 1000)).encode()
    stages = Replay(config(embedder=None))
    list(stages.run([old, *lines[:10]]))
    assert stages.position < 5_000
