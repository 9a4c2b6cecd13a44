"""Prices, duplicates and clocks on one topic: land, meter, live rollups and a replay agree to the last digit.

The reference is worked out here from the log as the brokers keep it, with nothing of the code under test.
"""

import json
import random
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import confluent_kafka as ck
import confluent_kafka.admin
import pytest
from fault_harness import invariants
from fault_harness.scene import Scene
from fault_harness.traffic import PRICES, call

from jobs.duplicates import duplicates
from pipelines.clock import now_us
from pipelines.decode import DuplicateWindow, decode_metered
from pipelines.kafka import Source
from pipelines.pricing import PriceBooks, default_book
from pipelines.pricing.price import nanousd
from pipelines.pricing.published import LEAD_S
from schemas import topics
from warehouse.query.readonly import ReadOnlyLake

SPAN = 65_536
"""Positions of a partition within which land and meter know an id again."""
DEARER = [{"model": PRICES[0]["model"], "input_usd_per_mtok": "7.25", "output_usd_per_mtok": "31"}]
AHEAD_S = 6
"""The book is announced so long before it is in force; on real systems at least two minutes."""
ODD_TIMES = (0, 253_402_300_799_000)
"""1970, 9999; milliseconds."""


@dataclass
class Kept:
    """One record of llm.events as the brokers keep it."""

    partition: int
    offset: int
    time: int
    """LogAppendTime, µs."""
    event: dict[str, Any]

    def usd(self, dearer_from: int) -> Decimal:
        book = (DEARER if self.time >= dearer_from else PRICES)[0]
        tokens = self.event["tokens"]
        million = Decimal(1_000_000)
        asked = tokens["input"] * Decimal(book["input_usd_per_mtok"]) / million
        return asked + tokens["output"] * Decimal(book["output_usd_per_mtok"]) / million


def log_of(scene: Scene) -> list[Kept]:
    """Read llm.events to its end with a bare consumer."""
    consumer = ck.Consumer({"bootstrap.servers": scene.kafka.bootstrap_servers, "group.id": "reference"})
    name = scene.kafka.prefix + topics.EVENTS
    ends = {p: consumer.get_watermark_offsets(ck.TopicPartition(name, p), timeout=10)[1] for p in (0, 1)}
    consumer.assign([ck.TopicPartition(name, p, 0) for p in ends])
    kept: list[Kept] = []
    while len(kept) < sum(ends.values()):
        for message in consumer.consume(10_000, timeout=10):
            stamp = message.timestamp()[1] * 1000
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None
            assert offset is not None
            assert value is not None
            kept.append(Kept(partition, offset, stamp, json.loads(value)))
    consumer.close()
    return sorted(kept, key=lambda k: (k.partition, k.offset))


def seen_once(kept: list[Kept]) -> list[Kept]:
    """Leave out what stood among the 65,536 positions before."""
    out: list[Kept] = []
    last: dict[tuple[int, str], int] = {}
    for record in kept:
        at = (record.partition, record.event["id"])
        if record.offset - last.get(at, -SPAN - 1) > SPAN:
            out.append(record)
        last[at] = record.offset
    return out


def replayed(scene: Scene, books: PriceBooks, seed: int) -> Decimal:
    """Price the whole log again with the functions that land and meter share, in batches of any size."""
    source = Source(scene.kafka, [topics.EVENTS], batch_rows=random.Random(seed).randrange(700, 20_000))
    ends = {p: high for p, (_, high) in source.partitions(topics.EVENTS).items()}
    source.assign({(topics.EVENTS, p): 0 for p in ends})
    seen, nano = DuplicateWindow(), 0
    for p in ends:
        seen.start(p, 0)
    while any(source.positions()[topics.EVENTS, p] < end for p, end in ends.items()):
        for records in source.poll(1.0):
            table = decode_metered(records, books, seen, epoch=0).table
            nano += sum(nanousd(table["cost_usd"]).to_pylist())
    source.close()
    return Decimal(nano) / 1_000_000_000


@pytest.mark.faults
@pytest.mark.row(41, 43, 44)
@pytest.mark.timeout(240)
def test_land_meter_live_and_a_replay_agree_to_the_cent(scene: Scene) -> None:
    dearer_from = (time.time_ns() // 1_000_000_000 + AHEAD_S) * 1_000_000
    book = default_book(DEARER).with_effective_from(dearer_from)
    # as if it had been announced two minutes ago
    set_to = ck.admin.AlterConfigOpType.SET
    created = ck.admin.ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=set_to)
    where = ck.admin.ConfigResource("topic", scene.kafka.prefix + topics.PRICES, incremental_configs=[created])
    admin = ck.admin.AdminClient({"bootstrap.servers": scene.kafka.bootstrap_servers})
    for done in admin.incremental_alter_configs([where]).values():
        done.result(10)
    announcer = ck.Producer({"bootstrap.servers": scene.kafka.bootstrap_servers})
    announced = time.time_ns() // 1_000_000 - LEAD_S * 1000
    announcer.produce(scene.kafka.prefix + topics.PRICES, book.to_json(), book.version, timestamp=announced)
    assert announcer.flush(10) == 0
    stages = [scene.start("land"), scene.start("meter")]
    first = [call() for _ in range(400)]
    scene.traffic.send_all(first, partition=0)
    for moment in ODD_TIMES:
        scene.traffic.good(50, ts=moment)
    scene.traffic.flush()
    scene.traffic.send_all(first[:100], partition=0)  # near
    scene.traffic.send_all(first[100:150], partition=1)  # in another partition
    scene.settle()
    for stage in stages:
        stage.kill()
        scene.kills += 1
    while now_us() < dearer_from:
        time.sleep(0.1)
    scene.traffic.send_all(first[150:250], partition=0)  # near, across the restart and the new price
    scene.traffic.good(200, ts=ODD_TIMES[1])
    template = call()
    for n in range(SPAN + 100):
        scene.traffic.send({**template, "id": f"00000000-0000-4000-8000-{n:012x}"}, partition=0)
    scene.traffic.flush(120)
    scene.traffic.send_all(first[250:350], partition=0)  # far: land cannot see it, the job does
    scene.start("land")
    scene.start("meter")
    scene.settle(120)

    kept = log_of(scene)
    counted = seen_once(kept)
    assert {record.time >= dearer_from for record in counted} == {True, False}
    usd = sum((record.usd(dearer_from) for record in counted), Decimal(0))
    expected = (len(counted), usd)
    deadline = time.monotonic() + 90
    while invariants.rolled_up(scene.lake)[0] < len(counted) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert invariants.rolled_up(scene.lake) == expected
    [landed] = scene.lake.rows("raw_calls", "count(*), sum(cost_usd)", "NOT coalesce(_dup, false)")
    assert landed == expected
    books = PriceBooks([default_book(PRICES), book])
    assert [replayed(scene, books, seed) for seed in (1, 2)] == [usd, usd]

    report = duplicates(scene.lake_config, now=now_us)
    firsts: dict[str, Kept] = {}
    for record in sorted(counted, key=lambda k: (k.time, k.partition, k.offset)):
        firsts.setdefault(record.event["id"], record)
    assert (report.late, report.conflicts) == (len(counted) - len(firsts), 0)
    assert report.late == 150
    reader = ReadOnlyLake.open(scene.lake_config)
    known = reader.query("SELECT count(*) AS calls, sum(cost_usd) AS usd FROM calls").to_pylist()[0]
    reader.close()
    assert known == {"calls": len(firsts), "usd": sum((r.usd(dearer_from) for r in firsts.values()), Decimal(0))}
    scene.verified()
