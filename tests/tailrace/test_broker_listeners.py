"""The embedded broker for clients elsewhere: it advertises to each the address by which it came."""

import pytest

from pipelines.kafka import Admin, KafkaConfig
from schemas.errors import SettingsError
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker
from tailrace.broker.config import external_listeners, pick_free_port


def test_clients_reach_it_under_every_address_and_none_is_the_default(tmp_path):
    port = pick_free_port()
    assert external_listeners(()) == {}
    with Broker(tmp_path, heap_mb=256, extra=external_listeners((f"localhost:{port}",))) as broker:
        topics = [topic for topic in TOPICS if topic.name == EVENTS]
        Admin(KafkaConfig(f"localhost:{port}")).create_topics(topics, partitions=1, replication=1)
        assert Admin(KafkaConfig(broker.bootstrap)).partitions(EVENTS) == 1


@pytest.mark.parametrize("address", ["kafka", "kafka:", ":9092", "kafka:0", "kafka:70000", "a b:1", "x,y:1", "a/b:1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SettingsError, match=r"kafka\.listen: .* is not host:port"):
        external_listeners((address,))


def test_two_addresses_on_one_port_are_refused():
    with pytest.raises(SettingsError, match="two addresses have one port"):
        external_listeners(("kafka:9092", "localhost:9092"))
