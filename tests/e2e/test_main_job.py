"""The main job, whole: an hour of events in; lake, rollups and webhook out; all of it counted from outside."""

import itertools
import json
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import confluent_kafka as ck
import pyarrow as pa
import pytest
from main_job.hour import Bad, Hour
from main_job.life import Life, killing

from schemas.alerts import Alert
from schemas.topics import EVENTS, ROLLUPS
from tailrace.supervisor.stages import STAGES
from warehouse.storage.dead_bytes import unpad

SPEED = 140.0
REPLAY_S = 3500 / SPEED
SETTLE_S = 120.0

pytestmark = [pytest.mark.required, pytest.mark.timeout(900)]


@pytest.mark.faults
@pytest.mark.parametrize("hour", ["azure", "generated"], indirect=True)
def test_an_hour_with_three_incidents_goes_from_the_topic_to_the_lake_and_to_the_webhook(hour: Hour, life: Life):
    life.ready()
    life.publish(hour, speed=SPEED)
    settle(hour, life)
    check(hour, life)
    life.stop()


@pytest.mark.parametrize("hour", ["generated", pytest.param("azure", marks=pytest.mark.faults)], indirect=True)
def test_a_kill_of_each_stage_at_any_moment_changes_nothing_but_the_time_it_takes(hour: Hour, life: Life):
    life.ready()
    with killing(life, seed=7, over_s=REPLAY_S) as killed:
        life.publish(hour, speed=SPEED)
    assert len(killed) == len(STAGES)
    life.ready()
    settle(hour, life)
    check(hour, life)
    life.stop()


def settle(hour: Hour, life: Life) -> None:
    life.settle(lambda: len(life.receiver.alerts) >= 2 * len(hour.planted), SETTLE_S)


def check(hour: Hour, life: Life) -> None:
    every_event_is_in_the_raw_parquet_once(hour, life)
    the_bill_is_right_to_the_last_digit(hour, life)
    live_rollups_and_lake_agree(hour, life)
    bad_events_are_dead_with_reason_and_bytes(life)
    exactly_the_planted_incidents_alerted(hour, life)
    the_evidence_returns_what_was_observed(life)
    the_detectors_say_the_same_over_what_landed(life)
    verified = life.tailrace("verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def every_event_is_in_the_raw_parquet_once(hour: Hour, life: Life) -> None:
    rows = life.lake.rows("raw_calls", "_partition, _offset, id, coalesce(_dup, false)")
    landed = {(p, o): str(i) for p, o, i, _ in rows}
    assert len(landed) == len(rows), "a position landed twice"
    assert landed == {at: what for at, what in life.sent.items() if isinstance(what, str)}
    counted = Counter(str(i) for _, _, i, dup in rows if not dup)
    assert counted == dict.fromkeys(hour.calls, 1)


def the_bill_is_right_to_the_last_digit(hour: Hour, life: Life) -> None:
    [(usd, unpriced)] = life.lake.rows("raw_calls", "sum(cost_usd), count(*) FILTER (cost_usd IS NULL)")
    assert (usd, unpriced) == (hour.usd, 0)


def live_rollups_and_lake_agree(hour: Hour, life: Life) -> None:
    columns = "app, count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), sum(cost_usd)"
    lake = {app: (n, i, o, usd) for app, n, i, o, usd in life.lake.rows("raw_calls", columns, "NOT _dup GROUP BY app")}
    assert lake == hour.per_app()
    assert live(life) == lake


def live(life: Life) -> dict[str, tuple[int, int, int, Decimal]]:
    """The same per app out of llm.rollups, read as any consumer may: committed, each span once."""
    totals: dict[str, list[int]] = {}
    spans: Counter[tuple[bytes | None, int, int, bytes]] = Counter()
    tiles: dict[int, list[tuple[int, int]]] = {}
    for message in read_committed(life, ROLLUPS):
        headers: Any = dict(message.headers() or ())
        if headers["kind"] != b"rollup":
            continue
        source, begin, end = (int(headers[k]) for k in ("partition", "from", "to"))
        spans[message.key(), source, begin, headers["part"]] += 1
        if message.key() == b"*":
            if headers["part"].startswith(b"1/"):
                tiles.setdefault(source, []).append((begin, end))
            continue
        rows = (
            pa.ipc.open_stream(message.value())
            .read_all()
            .select(["dims", "calls", "input_tokens", "output_tokens", "cost_nanousd"])
        )
        key = message.key()
        assert key is not None
        total = totals.setdefault(key.decode(), [0, 0, 0, 0])
        for row in rows.to_pylist():
            if row["dims"] == "app":
                for i, name in enumerate(("calls", "input_tokens", "output_tokens", "cost_nanousd")):
                    total[i] += row[name]
    assert set(spans.values()) == {1}, "a span was counted twice"
    for source, found in tiles.items():
        found.sort()
        assert found[0][0] == 0
        assert all(a[1] == b[0] for a, b in itertools.pairwise(found)), f"partition {source} has holes"
    return {app: (n, i, o, Decimal(nano) / 10**9) for app, (n, i, o, nano) in totals.items()}


def bad_events_are_dead_with_reason_and_bytes(life: Life) -> None:
    where = f"topic = '{EVENTS}'"
    dead = life.lake.rows("dead", "_partition, _offset, reason", where)
    expected = {at: what for at, what in life.sent.items() if isinstance(what, Bad)}
    assert len(dead) == len(expected) >= 150
    found = {(p, o): reason for p, o, reason in dead}
    assert found == {at: bad.reason for at, bad in expected.items()}
    kept = {(p, o): unpad(value) for p, o, value in life.lake.rows("dead_bytes", "_partition, _offset, bytes", where)}
    assert kept == {at: bad.value for at, bad in expected.items()}


def exactly_the_planted_incidents_alerted(hour: Hour, life: Life) -> None:
    alerts = list(life.receiver.alerts)
    assert life.receiver.refused == 0
    for planted in hour.planted:
        mine = [a for a in alerts if a.detector == planted.detector]
        assert sorted(a.state for a in mine) == ["firing", "resolved"], f"{planted}\n{life.said()}"
        assert len({a.id for a in mine}) == 1
        for alert in mine:
            assert planted.series.items() <= alert.series.items(), life.said()
    assert len(alerts) == 2 * len(hour.planted), life.said()


def the_evidence_returns_what_was_observed(life: Life) -> None:
    firing = [a for a in life.receiver.alerts if a.state == "firing"]
    landed = dict(life.lake.rows("alerts", "id, sql", "state = 'firing'"))
    for alert in firing:
        sql = landed[alert.id]
        assert sql, alert
        # a channel gets the same SQL, or none where it holds a vector
        assert alert.evidence.sql == ("" if alert.detector == "drift" else sql)
        told = life.tailrace("sql", sql, "--format", "json")
        assert told.returncode == 0, told.stderr
        assert observed_in(told.stdout, alert), f"{alert.observed}: {sql}\n{told.stdout}"


def the_detectors_say_the_same_over_what_landed(life: Life) -> None:
    told = {(a.id, a.seq) for a in life.receiver.alerts if a.detector != "drift"}
    until = time.monotonic() + 60
    while True:  # the last ticks and alerts may still be on their way into the lake
        again = life.tailrace("backtest", "--from", "1d", "--compare", "--json")
        assert again.returncode in (0, 1), again.stderr
        found = [json.loads(line) for line in again.stdout.splitlines()]
        if f"live: {len(told)} the same, 0 only live, 0 only here, 0 in other words" in again.stderr:
            break
        assert time.monotonic() < until, again.stdout + again.stderr
        time.sleep(1)
    assert {(a["id"], a["seq"]) for a in found} == told


def observed_in(lines: str, alert: Alert) -> bool:
    rows = [json.loads(line) for line in lines.splitlines()]
    return len(rows) == 1 and float(rows[0]["observed"]) == alert.observed


def read_committed(life: Life, topic: str) -> list[ck.Message]:
    """Everything on ``topic`` up to where it stands now."""
    consumer = ck.Consumer(
        {
            "bootstrap.servers": life.bootstrap,
            "group.id": f"{life.prefix}reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    name = life.prefix + topic
    partitions = consumer.list_topics(name, 20).topics[name].partitions
    consumer.assign([ck.TopicPartition(name, p, ck.OFFSET_BEGINNING) for p in partitions])
    found: list[ck.Message] = []
    ended: set[int | None] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(20)
        assert message is not None, "no answer from the brokers"
        if error := message.error():
            assert error.code() == ck.KafkaError._PARTITION_EOF, error
            ended.add(message.partition())
        elif message.partition() not in ended:
            found.append(message)
    consumer.close()
    return found
