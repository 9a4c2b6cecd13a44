"""What an upgrade would change in Kafka is named before it is done: topics, settings, states of detect and drift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.detect import checkpoint, snapshot
from pipelines.detect.judge import PartitionState
from pipelines.drift.partition import CHANGELOG as DRIFT_CHANGELOG
from pipelines.drift.partition import Partition
from pipelines.drift.watch import WatchConfig
from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.pending import pending
from schemas.topics import EVENTS, QUOTAS, TOPICS, Topic
from tailrace.broker import Broker

FIXTURES = Path(__file__).parents[1] / "fixtures"
COMPACTED = {"cleanup.policy": "compact"}


@pytest.fixture
def kafka(broker: Broker, prefix: str) -> KafkaConfig:
    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics(TOPICS, partitions=2)
    return config


def fill(kafka: KafkaConfig, changelog: str, table: dict[bytes, bytes], partitions: int = 2) -> None:
    Admin(kafka).create_topics([Topic(changelog, partitions, COMPACTED)], partitions=partitions)
    producer = Producer(kafka)
    for key, value in table.items():
        producer.send(changelog, value, key, partition=0)
    producer.flush()
    producer.close()


def test_topics_of_this_version_need_nothing(kafka: KafkaConfig) -> None:
    found = pending(kafka, TOPICS)
    assert found.current
    assert found.deviations == ()


def test_a_missing_topic_and_settings_of_another_version_are_named_and_left_as_they_are(kafka: KafkaConfig) -> None:
    admin = Admin(kafka)
    admin.delete_topics([QUOTAS])
    admin.alter_settings("llm.samples", {"retention.ms": "1000"})
    admin.alter_settings(EVENTS, {"retention.ms": "1000"})
    found = pending(kafka, TOPICS)
    assert found.topics == (QUOTAS,)
    assert found.repairs == ("llm.samples: retention.ms 1000 to 86400000",)
    assert len(found.deviations) == 1
    assert "llm.events: retention.ms is 1000" in found.deviations[0]
    assert not found.current
    assert admin.settings("llm.samples")["retention.ms"] == "1000"
    assert pending(kafka, TOPICS) == found


def test_states_of_an_earlier_version_and_those_that_cannot_be_read_are_named(kafka: KafkaConfig) -> None:
    table: dict[bytes, bytes] = {}
    old = (FIXTURES / "detect-state-73e158d.msgpack").read_bytes()
    checkpoint.write(table, 0, old, 5)
    checkpoint.write(table, 1, snapshot.dump(PartitionState()), 5)
    checkpoint.write(table, 2, b"no state", 5)
    fill(kafka, checkpoint.CHANGELOG, table)
    drift = dict(Partition(0, WatchConfig()).save())
    damaged = {key: value[:-9] if b"|" in key else value for key, value in Partition(1, WatchConfig()).save()}
    fill(kafka, DRIFT_CHANGELOG, {**drift, **damaged})
    earlier, unread, lost = pending(kafka, TOPICS).states
    assert earlier.startswith(f"detect, partition 0: state of version {snapshot.version(old)} is read, and written as")
    assert unread.startswith("detect, partition 2: damaged state")
    assert "built again from what llm.rollups keeps" in unread
    assert lost.startswith("drift, partition 1: drift checkpoint 1 of partition 1 is damaged")


def test_what_keeps_a_stage_from_starting_is_named(kafka: KafkaConfig) -> None:
    fill(kafka, checkpoint.CHANGELOG, {}, partitions=1)
    events = next(topic for topic in TOPICS if topic.name == EVENTS)
    Admin(kafka).alter_settings(EVENTS, {"cleanup.policy": "compact"})
    compacted, grown = pending(kafka, [replace(events)]).refusals
    assert "llm.events: cleanup.policy is compact" in compacted
    assert "detect-state-changelog has 1 partitions, llm.rollups has 2: stop detect, delete it" in grown
