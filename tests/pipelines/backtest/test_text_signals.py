"""A share of answers turns into gibberish: the same alert from the stages' functions and from a file, with evidence."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.backtest import EventsConfig, Replay
from pipelines.detect.judge import Judge, PartitionState
from pipelines.land.rows import land_rows
from pipelines.meter import wire
from pipelines.meter.counting import Counting
from pipelines.meter.plan import DEFAULT
from pipelines.pricing import PriceBooks, default_book
from pipelines.signals import SIGNALS, chosen
from schemas.alerts import Alert
from schemas.records import Record, Records
from schemas.topics import EVENTS, ROLLUPS
from tests.pipelines.detect.states import normal

SECOND = 1_000_000
TICK = 15 * SECOND
T0 = 1_795_000_000_000
MINUTES, BROKEN_FROM = 75, 60
BOOKS = PriceBooks([default_book()])
NOUNS = "harbour boat pier catch buyer crate price morning market fisherman net rope tide wind sail crew anchor lamp"
VERBS = "saw moved carried left followed touched watched passed missed found"
ON = chosen(["gibberish", "refusal"])


def answer(draw: random.Random, *, broken: bool) -> str:
    words = []
    for _ in range(6):
        a, b, c = draw.sample(NOUNS.split(), 3)
        words += f"The {a} {draw.choice(VERBS.split())} the {b} near a {c}.".split()
    if broken:
        draw.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """A call a second; from BROKEN_FROM on a third of the answers of one model are shuffled."""
    draw, events = random.Random(4), []
    for second in range(MINUTES * 60):
        model = draw.choice(("gpt-4o", "gpt-4o", "gpt-4o-mini"))
        broken = model == "gpt-4o-mini" and second > BROKEN_FROM * 60 and draw.random() < 0.33
        text = [{"role": "user", "text": f"Tell me about {draw.randrange(10**6)}, please, and what it is for."}]
        events.append(
            {
                "v": 1,
                "type": "call",
                "id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
                "ts": T0 + second * 1000 + draw.randrange(900),
                "app": "shop",
                "feature": draw.choice(("chat", "search")),
                "model": model,
                "provider": "openai",
                "tokens": {"input": 400, "output": 90},
                "content": {"mode": "redacted", "input": text, "output": answer(draw, broken=broken)},
            }
        )
    return [json.dumps(event).encode() for event in events]


def written(lines: list[bytes]) -> Iterator[Record]:
    """What a meter that keeps up writes to llm.rollups, with a tick for each batch."""
    counting, first, last, at = Counting(DEFAULT, epoch=0, samples_per_s=20.0, signals=ON), 0, 0, 0
    counting.start(0, 0)

    def record(value: bytes, key: bytes | None, headers: Any, wall: int) -> Record:
        nonlocal at
        at += 1
        return Record(ROLLUPS, 0, at - 1, wall, key, value, headers)

    for tick, members in groupby(lines, key=lambda line: -(-json.loads(line)["ts"] * 1000 // TICK) * TICK):
        for wall in range(last, tick, TICK) if last else ():
            yield record(counting.tick(wall, {}).to_json(), None, wire.TICK_HEADERS, wall)
        values = list(members)
        n, times = len(values), [json.loads(value)["ts"] * 1000 for value in values]
        span = {0: (first, first + n)}
        batch = Records(EVENTS, [0] * n, list(range(first, first + n)), times, [None] * n, values, [()] * n, span)
        for message in counting.count(batch, BOOKS, wall=tick).rollups:
            yield record(message.value, message.key, message.headers, tick)
        first, last = first + n, tick
    for wall in range(last, last + 60 * SECOND, TICK):
        yield record(counting.tick(wall, {}).to_json(), None, wire.TICK_HEADERS, wall)


@pytest.fixture(scope="module")
def rollups(lines: list[bytes]) -> list[Record]:
    return list(written(lines))


@pytest.fixture(scope="module")
def alerts(rollups: list[Record]) -> list[Alert]:
    return list(Judge().run(rollups))


def landed(rollups: list[Record]) -> pa.Table:
    size = len(rollups)
    times, headers = [r.kafka_time for r in rollups], [r.headers for r in rollups]
    keys, values = [r.key for r in rollups], [r.value for r in rollups]
    rows = Records(ROLLUPS, [0] * size, list(range(size)), times, keys, values, headers, {0: (0, size)})
    return land_rows(rows, epoch=0, landed_at=0)["rollups"]


def test_the_alert_names_the_signal_the_model_and_the_shares(alerts: list[Alert]) -> None:
    (first,) = [alert for alert in alerts if alert.state == "firing"]
    assert first.rule == "surge_signal"
    assert first.series == {"app": "shop", "model": "gpt-4o-mini", "signal": "gibberish"}
    assert first.title.startswith("app shop model gpt-4o-mini: signal gibberish in ")
    assert "of sampled outputs, usually" in first.title
    assert first.expected < 0.02 < 0.15 < first.observed
    found_after = datetime.fromisoformat(first.detected_at).timestamp() - T0 / 1000 - BROKEN_FROM * 60
    assert 0 < found_after < 600, "one of nine answers is broken: 20 of them in three minutes"
    assert len(first.runbook) == 4
    assert first.evidence.call_ids


def test_its_calls_are_gibberish(lines: list[bytes], alerts: list[Alert]) -> None:
    outputs = {event["id"]: event["content"]["output"] for event in map(json.loads, lines)}
    shown = [outputs[call] for call in alerts[0].evidence.call_ids]
    assert shown
    assert not any(output.startswith("The ") and output.endswith(".") and ". The " in output for output in shown)


def test_the_evidence_returns_the_observed_share(rollups: list[Record], alerts: list[Alert]) -> None:
    lake = duckdb.connect()
    lake.register("rollups", landed(rollups))
    for alert in alerts:
        ((observed,),) = lake.execute(alert.evidence.sql).fetchall()
        assert observed == pytest.approx(alert.observed, abs=1e-9)


def test_bounds_spare_no_look_that_finds_something(rollups: list[Record], alerts: list[Alert]) -> None:
    judge, state = Judge(together=False), PartitionState()
    assert list(judge.run(rollups, state)) == alerts
    bounded, known = Judge(), PartitionState()
    assert list(bounded.run(rollups, known)) == alerts
    assert normal(judge, state) == normal(bounded, known)


@pytest.mark.extended
def test_a_file_of_events_gives_the_same_alerts(lines: list[bytes], alerts: list[Alert]) -> None:
    replayed = list(Replay(EventsConfig(BOOKS, tick_us=TICK, signals=ON)).run(lines))
    assert [alert.to_json() for alert in replayed] == [alert.to_json() for alert in alerts]


@pytest.mark.extended
def test_a_signal_that_is_not_chosen_raises_nothing(lines: list[bytes]) -> None:
    assert list(Replay(EventsConfig(BOOKS, tick_us=TICK, signals=chosen(["refusal"]))).run(lines)) == []
    assert len(SIGNALS) > len(ON)
