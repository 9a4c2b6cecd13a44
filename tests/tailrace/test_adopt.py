"""A topic that was made again, through the command line, on the real broker: refused, adopted, landed and counted."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fault_harness.zygote import run_command

from pipelines import land, meter
from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer, Source, TopicReplacedError
from pipelines.meter.epoch import landed_epoch
from schemas.topics import EVENTS, ROLLUPS, TOPICS
from tailrace import wiring
from tailrace.settings.model import KafkaSettings, Settings
from warehouse.errors import LakeRefusedError
from warehouse.lake import Lake
from warehouse.ledger import Epoch
from warehouse.storage.connect import LakeConfig, connect

REPO = Path(__file__).parents[2]


class Place:
    """Topics and a home of its own."""

    def __init__(self, bootstrap, prefix, home):
        self.settings = Settings(home=home, kafka=KafkaSettings(bootstrap_servers=bootstrap, prefix=prefix))
        self.kafka = KafkaConfig(bootstrap, prefix)
        self.admin = Admin(self.kafka)
        self.admin.create_topics(TOPICS, partitions=1)
        self.lake = wiring.lake(self.settings)

    def send(self, count):
        producer = Producer(self.kafka)
        for _ in range(count):
            call = {"v": 1, "type": "call", "id": str(uuid.uuid4()), "ts": now_us() // 1000, "app": "shop"}
            producer.send(EVENTS, json.dumps(call | {"model": "gpt-4o", "tokens": {"input": 5}}).encode())
        producer.flush(15)
        producer.close()

    def make_again(self):
        self.admin.delete_topics([EVENTS])
        wait_for(lambda: EVENTS not in self.admin.topics())
        self.admin.create_topics([t for t in TOPICS if t.name == EVENTS], partitions=1)

    def landing(self):
        config = replace(wiring.land(self.settings), batch_wait_s=0.1)
        return running(lambda stop: land.run(config, stop=stop))

    def metering(self):
        config = replace(wiring.meter(self.settings), batch_wait_s=0.05, tick_s=0.2)
        return running(lambda stop: meter.run(config, stop=stop, now=now_us))

    def landed(self):
        connection = connect(self.lake, read_only=True)
        try:
            return connection.execute("SELECT _epoch, count(*) FROM raw_calls GROUP BY 1 ORDER BY 1").fetchall()
        finally:
            connection.close()

    def metered(self):
        """Epoch -> events counted under it."""
        source, found = Source(self.kafka, [ROLLUPS], batch_wait_s=0.2), {}
        ends = {(ROLLUPS, p): high for p, (_, high) in source.partitions(ROLLUPS).items()}
        source.assign(dict.fromkeys(ends))
        while any(source.positions()[at] < end for at, end in ends.items()):
            for record in (r for batch in source.poll() for r in batch.rows()):
                said = dict(record.headers)
                if record.key == b"*" and said["part"].startswith(b"1/"):
                    epoch = int(said["epoch"])
                    found[epoch] = found.get(epoch, 0) + int(said["to"]) - int(said["from"])
        source.close()
        return found

    def tailrace(self, *arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"}
        environment |= {
            "TAILRACE_HOME": str(self.settings.home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
        }
        return run_command(arguments, env=environment)


@contextmanager
def running(stage):
    """Run a stage in a thread; yields a list that gets the error it ended with."""
    stop, raised = threading.Event(), []

    def body():
        try:
            stage(stop)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def wait_for(done, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.3)


@pytest.fixture
def place(broker, prefix, tmp_path):
    return Place(broker.bootstrap, prefix, tmp_path)


@pytest.mark.row(16, 17)
def test_a_topic_made_again_goes_on_after_topics_adopt_in_land_and_in_meter(place):
    assert wiring.meter(place.settings).epoch == 0, "no lake yet"
    none = place.tailrace("topics", "adopt", EVENTS)
    assert none.returncode == 2
    assert "no lake at" in none.stderr
    assert not Path(place.lake.catalog).exists()

    Lake.open(place.lake, now=now_us).close()
    place.send(3)
    with place.landing() as failed, place.metering() as failed_too:
        wait_for(lambda: failed or failed_too or (place.landed() == [(0, 3)] and place.metered() == {0: 3}))
        idle = place.tailrace("topics", "adopt", EVENTS)  # while land runs: nothing to adopt needs no lock
    assert (failed, failed_too) == ([], [])
    assert idle.returncode == 2
    assert "nothing to adopt" in idle.stderr

    place.make_again()
    place.send(5)
    with place.landing() as landing, place.metering() as metering:
        wait_for(lambda: landing and metering)
    assert isinstance(landing[0], TopicReplacedError)
    assert isinstance(metering[0], TopicReplacedError)

    with Lake.open(place.lake, now=now_us):  # as another land would
        locked = place.tailrace("topics", "adopt", EVENTS)
    assert locked.returncode == 2
    assert "stop the other" in locked.stderr
    was = landing[0]
    done = place.tailrace("topics", "adopt", EVENTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{EVENTS} adopted: its id was {was.recorded}, now {was.current}; it goes on under epoch 1\n"

    assert wiring.meter(place.settings).epoch == 1
    with place.landing() as failed, place.metering() as failed_too:
        wait_for(lambda: failed or failed_too or (place.landed() == [(0, 3), (1, 5)] and place.metered().get(1) == 5))
    assert (failed, failed_too) == ([], [])
    assert place.metered() == {0: 3, 1: 5}
    assert place.tailrace("topics", "adopt", EVENTS).returncode == 2, "adopted once"


def test_a_name_that_land_does_not_read_is_refused_with_those_it_does(tmp_path):
    said = run_command(["--home", str(tmp_path), "topics", "adopt", "llm.event"])
    assert said.returncode == 2
    assert "land reads no topic llm.event" in said.stderr
    assert "llm.rollups" in said.stderr


def test_a_lake_that_does_not_answer_is_not_taken_for_one_that_never_was(tmp_path):
    lake = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    assert landed_epoch(lake) == Epoch(0, "", {})
    Path(lake.catalog).write_bytes(b"not a catalog" * 100)
    with pytest.raises(LakeRefusedError, match="it is no SQLite database"):
        landed_epoch(lake)
