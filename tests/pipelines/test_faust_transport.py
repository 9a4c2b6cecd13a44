"""The three things Faust does wrong on a transactional topic, and TLS and SASL by librdkafka's names."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Any

import faust
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipelines.faust_transport import App, AppStoppedError, build_app, resume_from, serve
from pipelines.kafka import KafkaConfig
from schemas.errors import SettingsError
from tailrace.broker import Broker


def _transactions(bootstrap: str, topic: str, count: int) -> list[bytes]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result()
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(10)
    committed = []
    for i in range(count):
        producer.begin_transaction()
        values = [b"%d-%d-%d" % (i, j, i % 3) for j in range(1 + i % 4)]
        for value in values:
            producer.produce(topic, value, partition=0)
        if i % 3 == 2:
            producer.flush(10)
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
            committed += values
    return committed


def _committed_offset(bootstrap: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        return consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    finally:
        consumer.close()


def _end(bootstrap: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
    finally:
        consumer.close()


def _read(
    config: KafkaConfig, topic: str, folder: Path, *, until: int, resume: int | None = None
) -> list[tuple[int, bytes]]:
    """Run an app named ``reader`` until it has seen offset ``until``, and three commits longer."""
    seen: list[tuple[int, bytes]] = []
    stop = threading.Event()

    def build() -> App:
        app = build_app("reader", config, slot="0", partitions=1, data_dir=folder)
        if resume is not None:
            resume_from(app, lambda: {(topic, 0): resume})

        @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, value_serializer="raw"))
        async def read(stream: faust.StreamT[bytes]) -> None:
            async for event in stream.events():
                seen.append((event.message.offset, event.value))
                if event.message.offset >= until:
                    asyncio.get_running_loop().call_later(3, stop.set)

        return app

    serve(build, stop=stop)
    return seen


def test_aborted_values_stay_unseen_and_commits_cross_transaction_markers(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    topic = f"{prefix}source"
    committed = _transactions(broker.bootstrap, topic, 300)
    config = KafkaConfig(broker.bootstrap, prefix)
    # the last transaction is an aborted one; back over: its marker, its values, the marker before, to the last value
    position = _end(broker.bootstrap, topic) - 1 - (1 + 299 % 4) - 1 - 1
    seen = _read(config, topic, tmp_path, until=position)
    assert [value for _, value in seen] == committed
    assert _committed_offset(broker.bootstrap, f"{prefix}reader", topic) == position + 1


def test_an_app_starts_although_another_thread_looks_at_its_tables_first(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    """The heartbeat's thread did: Faust's tables were made there, and a start in some hundreds hung without a word."""
    config = KafkaConfig(broker.bootstrap, prefix)
    topic, changelog = f"{prefix}source", f"{prefix}reader-seen-changelog"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for made in admin.create_topics([NewTopic(topic, 1, 1), NewTopic(changelog, 1, 1)]).values():
        made.result()
    stop, recovered = threading.Event(), threading.Event()
    too_late = threading.Timer(30, stop.set)
    too_late.start()

    def build() -> App:
        app = build_app("reader", config, slot="0", partitions=1, data_dir=tmp_path)
        tables: Any = app.tables
        onlooker = threading.Thread(target=lambda: tables.recovery.active_offsets)
        onlooker.start()
        onlooker.join()
        table = app.Table("seen", partitions=1)

        @table.on_recover
        async def ready() -> None:
            recovered.set()
            stop.set()

        @app.agent(app.topic(topic, value_type=bytes, value_serializer="raw"))
        async def read(stream: faust.StreamT[bytes]) -> None:
            async for _ in stream:
                pass

        return app

    serve(build, stop=stop)
    too_late.cancel()
    assert recovered.is_set()


def test_an_app_goes_on_from_its_state_and_not_from_the_group(broker: Broker, prefix: str, tmp_path: Path) -> None:
    topic = f"{prefix}source"
    config = KafkaConfig(broker.bootstrap, prefix)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for i in range(20):
        producer.produce(topic, b"%d" % i, partition=0)
    producer.flush(10)
    assert [o for o, _ in _read(config, topic, tmp_path, until=19)] == list(range(20))
    assert [o for o, _ in _read(config, topic, tmp_path, until=19, resume=7)] == list(range(7, 20))
    for i in range(20, 30):
        producer.produce(topic, b"%d" % i, partition=0)
    producer.flush(10)
    # ahead of the group: what lies between is never asked for, and commits go on all the same
    assert [o for o, _ in _read(config, topic, tmp_path, until=29, resume=25)] == list(range(25, 30))
    assert _committed_offset(broker.bootstrap, f"{prefix}reader", topic) == 30


def test_an_app_without_a_broker_stops_by_itself_and_says_which(tmp_path: Path) -> None:
    config = KafkaConfig("127.0.0.1:1", "x.")
    with pytest.raises(AppStoppedError, match=r"x\.reader"):
        serve(lambda: build_app("reader", config, slot="0", partitions=1, data_dir=tmp_path), stop=threading.Event())


def test_a_setting_faust_cannot_honour_is_refused_by_name(tmp_path: Path) -> None:
    config = KafkaConfig("127.0.0.1:1", client={"sasl.kerberos.keytab": "x"})
    with pytest.raises(SettingsError, match=r"sasl\.kerberos\.keytab"):
        build_app("reader", config, slot="0", partitions=1, data_dir=tmp_path)


def test_sasl_over_tls_reaches_consumer_and_producer(tmp_path: Path) -> None:
    config = KafkaConfig(
        "127.0.0.1:1",
        client={
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "tailrace",
            "sasl.password": "not-a-secret",
            "enable.ssl.certificate.verification": "false",
        },
    )

    async def build() -> tuple[dict[str, Any], str]:
        app: Any = build_app("reader", config, slot="0", partitions=1, data_dir=tmp_path)
        return app.producer_transport.create_producer()._settings_auth(), app.conf.broker_credentials.username

    auth, username = asyncio.run(build())
    assert (auth["security_protocol"], auth["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert auth["ssl_context"].verify_mode == ssl.CERT_NONE
    assert username == "tailrace"
