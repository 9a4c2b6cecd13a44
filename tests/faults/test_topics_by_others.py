"""An app wrote before `tailrace up`, to brokers that create topics: llm.events has the brokers' defaults."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import msgspec
import pytest
from fault_harness.process import wait_until
from fault_harness.scene import Scene
from fault_harness.traffic import call

from pipelines.kafka import Admin, KafkaConfig, read_all
from schemas.alerts import Alert
from schemas.topics import ALERTS, EVENTS
from tailrace.broker import Broker

KAFKA_4 = {
    "auto.create.topics.enable": "true",
    "num.partitions": "1",
    "message.max.bytes": "1048588",
    "log.message.timestamp.type": "CreateTime",
    "log.message.timestamp.after.max.ms": "3600000",
    "log.cleaner.backoff.ms": "200",
}
"""The defaults of Kafka 4, where our own broker has others."""
AHEAD_MS = 50 * 60 * 1000


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("others"), extra=KAFKA_4, heap_mb=256) as broker:
        yield broker


class App:
    """An app that uses Kafka without the emitter."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "allow.auto.create.topics": True})
        self._topic = topic

    def call(self, app: str, *, tokens: int = 10, ahead_ms: int = 0) -> None:
        at = time.time_ns() // 1_000_000 + ahead_ms
        event = {"v": 1, "type": "call", "id": str(uuid.uuid4()), "ts": at, "app": app, "model": "gpt-4o"}
        event |= {"provider": "openai", "tokens": {"input": tokens, "output": 10}}
        self._producer.produce(self._topic, json.dumps(event).encode(), timestamp=at)
        assert self._producer.flush(15) == 0


def alerted(kafka: KafkaConfig) -> set[str]:
    alerts = [Alert.from_json(record.value) for record in read_all(kafka, ALERTS) if record.value]
    return {alert.series["app"] for alert in alerts if alert.rule == "single_call_cost" and alert.state == "firing"}


@pytest.mark.timeout(240)
def test_a_record_stamped_50_minutes_ahead_does_not_silence_the_alerts_of_other_apps(
    others: Broker, scenes: Callable[..., Scene]
) -> None:
    prefix = f"o-{uuid.uuid4().hex[:8]}."
    kafka = KafkaConfig(others.bootstrap, prefix)
    app = App(others.bootstrap, prefix + EVENTS)
    app.call("early")
    admin = Admin(kafka)
    made = admin.settings(EVENTS)
    assert (made["message.timestamp.type"], admin.partitions(EVENTS)) == ("CreateTime", 1)
    app.call("skewed", ahead_ms=AHEAD_MS)
    scene = scenes(others.bootstrap, prefix=prefix, partitions=4)
    for name in ("land", "meter", "detect"):
        scene.start(name)
    wait_until(lambda: scene.facts("meter").get("facts", {}).get("lag") == 0, 90, "meter has read all", scene.tails)
    assert admin.settings(EVENTS)["message.timestamp.type"] == "LogAppendTime"
    wait_until(lambda: len(scene.lake.rows("raw_calls", "id")) == 2, 60, "both have landed", scene.tails)
    flags = {name: flags or [] for name, flags in scene.lake.rows("raw_calls", "app, _flags")}
    assert all("create_time" in found for found in flags.values())
    app.call("skewed", ahead_ms=AHEAD_MS)
    for other in ("one", "two"):
        app.call(other, tokens=8_000_000)  # 20 USD: any single call above 10 alerts at once
    wait_until(lambda: alerted(kafka) >= {"one", "two"}, 60, "alerts of the other apps", scene.tails)


def test_topics_create_names_what_it_repaired_and_the_command_for_the_rest(
    others: Broker, scenes: Callable[..., Scene]
) -> None:
    prefix = f"o-{uuid.uuid4().hex[:8]}."
    App(others.bootstrap, prefix + EVENTS).call("early")
    scene = scenes(others.bootstrap, prefix=prefix, partitions=4)
    done = scene.tailrace("topics", "create")
    assert done.returncode == 0, done.stderr
    assert f"{EVENTS}: message.timestamp.type was CreateTime, now LogAppendTime" in done.stdout.splitlines()
    assert f"{EVENTS}: partitions is 1, wanted 4" in done.stderr
    Admin(scene.kafka).alter_settings(EVENTS, {"cleanup.policy": "compact"})
    refused = scene.tailrace("topics", "create")
    assert refused.returncode == 1
    assert f"{EVENTS}: cleanup.policy is compact, wanted delete" in refused.stderr


@pytest.mark.timeout(240)
def test_compacted_events_stop_land_and_meter_by_name_until_the_setting_is_changed(
    others: Broker, scenes: Callable[..., Scene]
) -> None:
    scene = scenes(others.bootstrap)
    admin = Admin(scene.kafka)
    admin.alter_settings(EVENTS, {"cleanup.policy": "compact"})
    for name in ("land", "meter"):
        scene.start(name)
    for name in ("land", "meter"):

        def waits(name: str = name) -> bool:
            facts = scene.facts(name).get("facts", {})
            return facts.get("state") in ("waiting", "retrying") and "cleanup.policy is compact" in facts["error"]

        wait_until(waits, 60, f"{name} says what it waits for", scene.tails)
    admin.alter_settings(EVENTS, {"cleanup.policy": "delete"})
    scene.traffic.good(20)
    scene.settle()


def test_doctor_compares_the_settings_and_names_what_was_repaired(others: Broker, tmp_path: Path) -> None:
    from tailrace import wiring
    from tailrace.monitor.doctor import compared
    from tailrace.settings.model import KafkaSettings, Settings

    prefix = f"o-{uuid.uuid4().hex[:8]}."
    App(others.bootstrap, prefix + EVENTS).call("early")
    settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers=others.bootstrap, prefix=prefix))
    before = compared(settings, others.bootstrap)
    assert not before.ok
    assert f"{EVENTS}: message.timestamp.type is CreateTime, wanted LogAppendTime" in before.detail
    wiring.make_topics(settings, others.bootstrap)
    after = compared(settings, others.bootstrap)
    assert after.ok
    assert f"{EVENTS}: message.timestamp.type was CreateTime, now LogAppendTime" in after.detail
    assert "partitions is 1, wanted 4;\nchange it with `kafka-topics.sh" in after.detail


@pytest.mark.extended
@pytest.mark.timeout(240)
def test_positions_that_compaction_removed_are_told_apart_from_lost_ones(
    others: Broker, scenes: Callable[..., Scene]
) -> None:
    scene = scenes(others.bootstrap, partitions=1)
    admin = Admin(scene.kafka)
    compacting = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "10"}
    admin.alter_settings(EVENTS, compacting)
    producer = confluent_kafka.Producer({"bootstrap.servers": others.bootstrap})
    for _ in range(30):
        producer.produce(scene.kafka.on_wire(EVENTS), msgspec.json.encode(call()), b"one key")
        assert producer.flush(15) == 0
        time.sleep(0.02)  # segments end with time, and the last one is never compacted
    wait_until(lambda: len(read_all(scene.kafka, EVENTS)) < 20, 90, "records are compacted away")
    admin.alter_settings(EVENTS, {"cleanup.policy": "delete"})
    left = {record.offset for record in read_all(scene.kafka, EVENTS)}
    scene.start("land")
    wait_until(lambda: scene.lake.ledger().get(0, (0, 0))[1] == 30, 60, "the ledger is at the end", scene.tails)
    assert {offset for (offset,) in scene.lake.rows("raw_calls", "_offset")} == left
    empty = [set(range(a, b)) for a, b in scene.lake.rows("no_record_ranges", "from_offset, to_offset")]
    assert set.union(*empty) == set(range(30)) - left
    scene.verified()
