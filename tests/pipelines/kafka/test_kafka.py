"""The wall to Kafka, on the real broker: positions, batches, transactions, errors."""

import itertools
import time
from functools import partial

import confluent_kafka
import pytest

from pipelines.kafka import (
    Admin,
    FencedError,
    KafkaConfig,
    OffsetLostError,
    Producer,
    Source,
    TopicMissingError,
    TransactionalProducer,
    read_all,
    read_each,
)
from schemas.errors import FatalError, KafkaUnavailableError, RetryableError
from schemas.topics import EVENTS, PRICES, TOPICS, Topic


@pytest.fixture
def config(broker, prefix):
    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics([t for t in TOPICS if t.name in (EVENTS, PRICES)], partitions=3)
    return config


def reader(config, **options):
    source = Source(config, [EVENTS], group="reader", **{"batch_wait_s": 1.0, **options})
    source.assign(dict.fromkeys([(EVENTS, p) for p in range(3)]))
    return source


def write(config, values, partition=0):
    producer = Producer(config)
    for value in values:
        producer.send(EVENTS, value, key=b"k", headers=[("v", b"1")], partition=partition)
    producer.flush()


def test_records_come_as_columns_with_the_broker_s_time(config):
    before = time.time_ns() // 1000
    write(config, [b"one", None, b"three"])
    source = reader(config)
    (batch,) = source.poll()
    assert (batch.topic, batch.partitions, batch.offsets) == (EVENTS, [0, 0, 0], [0, 1, 2])
    assert batch.values == [b"one", None, b"three"]
    assert batch.keys == [b"k"] * 3
    assert batch.headers == [(("v", b"1"),)] * 3
    assert batch.positions == {0: (0, 3)}
    assert not batch.created
    assert all(before - 1000 <= t <= time.time_ns() // 1000 for t in batch.kafka_times)
    source.close()


def test_a_record_carries_whether_its_producer_set_its_time(broker, prefix):
    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics([Topic(EVENTS, 1, {"message.timestamp.type": "CreateTime"})], partitions=1)
    client = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
    for at in (1_795_000_000_000, 2**62):
        client.produce(config.on_wire(EVENTS), b"x", timestamp=at)
    assert client.flush(10) == 0
    source = Source(config, [EVENTS], batch_wait_s=1.0)
    source.assign({(EVENTS, 0): 0})
    (batch,) = source.poll()
    source.close()
    assert batch.created == [True, True]
    assert batch.kafka_times == [1_795_000_000_000_000, 253_402_214_400_000_000], "no column holds 2^62 ms in µs"
    assert [r.created for r in batch.rows()] == [True, True]


def test_positions_pass_markers_and_aborted_records_so_a_ledger_can(config):
    source = reader(config)
    producer = TransactionalProducer(config, "t-0")
    for round_ in range(3):
        producer.begin()
        for value in (b"a", b"b"):
            producer.send(EVENTS, value, partition=0)
        if round_ == 1:
            producer.flush()
            producer.abort()
        else:
            producer.commit({}, source)
    batches = []
    while source.positions()[EVENTS, 0] < 9:
        batches += source.poll(0.3)
    assert [o for b in batches for o in b.offsets] == [0, 1, 6, 7], "the aborted two are not seen"
    spans = [b.positions[0] for b in batches]
    assert spans[0][0] == 0
    assert spans[-1][1] == 9, "three transactions of two records and a marker"
    assert source.lag()[EVENTS, 0] == 0
    source.close()


def test_a_topic_is_read_to_its_end_with_one_batch_in_memory(config, monkeypatch):
    batches = []

    class Counted(Source):
        def poll(self, wait_s=None):
            batches.append(found := super().poll(wait_s))
            return found

    monkeypatch.setattr("pipelines.kafka.compacted.Source", partial(Counted, batch_rows=1000))
    write(config, [b"%d" % n for n in range(5000)])
    records = read_each(config, EVENTS)
    first = next(records)
    assert len([batch for batch in batches if batch]) == 1, "the rest is not read before it is asked for"
    assert [first.value, *(record.value for record in records)] == [b"%d" % n for n in range(5000)]


def test_spans_of_batches_tile_the_log(config):
    write(config, [b"x" * 100] * 5000)
    write(config, [b"x" * 100] * 3000, partition=1)
    source = reader(config, batch_rows=700)
    spans = {0: [], 1: []}
    while source.positions() != {(EVENTS, 0): 5000, (EVENTS, 1): 3000, (EVENTS, 2): 0}:
        for batch in source.poll():
            assert len(batch) <= 700
            for partition, (start, end) in batch.positions.items():
                assert batch.partitions.count(partition) == end - start
                spans[partition].append((start, end))
    for found, end in ((spans[0], 5000), (spans[1], 3000)):
        assert found[0][0] == 0
        assert found[-1][1] == end
        assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    source.close()


def test_a_batch_ends_at_its_bytes(config):
    write(config, [b"x" * 10_000] * 3000)
    source = reader(config, batch_bytes=1_000_000, batch_wait_s=5.0)
    (first,) = source.poll()
    assert 100 <= len(first) <= 2100, "at most one chunk over the limit"
    source.close()


def test_a_trickle_is_gathered_into_one_batch_and_not_one_per_slice(config):
    source = reader(config, batch_wait_s=1.0)
    source.poll(0.1)
    producer = Producer(config, linger_ms=0)
    for _ in range(3):
        producer.send(EVENTS, b"x", partition=0)
        producer.flush()
    (batch,) = source.poll()
    assert len(batch) == 3
    source.close()


@pytest.mark.timeout(120)
def test_what_came_while_the_last_batch_was_worked_on_waits_for_no_more(config):
    source = reader(config, batch_wait_s=3600.0, batch_rows=1)
    write(config, [b"first"])
    assert len(source.poll()) == 1
    source.batch_rows = 10
    write(config, [b"second"] * 2)
    source._ended -= 3600.0  # the work on the first took an hour
    (batch,) = source.poll()
    assert batch.values == [b"second"] * 2
    source.close()


def test_an_idle_poll_returns_nothing_and_no_records(config):
    source = reader(config)
    assert source.poll(0.2) == []
    source.close()


def test_it_goes_on_where_it_is_told(config):
    write(config, [b"%d" % i for i in range(10)])
    source = reader(config)
    source.poll()
    source.assign({(EVENTS, 0): 4})
    (batch,) = source.poll()
    assert batch.offsets == list(range(4, 10))
    assert batch.positions == {0: (4, 10)}
    source.close()


def test_a_position_that_retention_took_is_an_error_and_no_silent_jump(config):
    write(config, [b"x"] * 20)
    Admin(config).delete_records({(EVENTS, 0): 10})
    source = reader(config)
    source.assign({(EVENTS, 0): 3})
    with pytest.raises(OffsetLostError) as lost:
        source.poll(10)
    assert (lost.value.topic, lost.value.partition, lost.value.offset) == (EVENTS, 0, 3)
    assert isinstance(lost.value, RetryableError)
    assert source.partitions(EVENTS)[0] == (10, 20)
    source.assign({(EVENTS, 0): None})
    (batch,) = source.poll()
    assert batch.offsets == list(range(10, 20))
    source.close()


def test_a_transaction_carries_the_offsets_and_a_zombie_is_shut_out(config):
    source = reader(config)
    old = TransactionalProducer(config, "slot-0")
    old.begin()
    old.send(EVENTS, b"1", partition=0)
    old.commit({(EVENTS, 0): 7, (EVENTS, 1): 0}, source)
    assert source.committed(EVENTS, range(3)) == {0: (7, ""), 1: (0, "")}
    assert Admin(config).group_offsets(config.prefix + "reader", EVENTS) == {0: 7, 1: 0}
    old.begin()
    old.send(EVENTS, b"2", partition=0)
    new = TransactionalProducer(config, "slot-0")
    with pytest.raises(FencedError, match="slot-0") as fenced:
        old.commit({(EVENTS, 0): 8}, source)
    assert isinstance(fenced.value, FatalError)
    assert source.committed(EVENTS, [0]) == {0: (7, "")}
    new.begin()
    new.commit({(EVENTS, 0): 8, (EVENTS, 1): 9}, source, notes={(EVENTS, 0): "a note"})
    assert source.committed(EVENTS, [0, 1]) == {0: (8, "a note"), 1: (9, "")}
    source.close()


def test_a_topic_made_again_has_another_id(config):
    source = reader(config)
    first = source.topic_id(EVENTS)
    assert source.topic_id(EVENTS) == first
    admin = Admin(config)
    admin.delete_topics([EVENTS])
    events = [t for t in TOPICS if t.name == EVENTS]
    for _ in range(50):  # a deletion is not at once seen by every thread of the broker
        if EVENTS not in admin.topics():
            break
        time.sleep(0.1)
    assert admin.create_topics(events, partitions=3) == [EVENTS]
    assert source.topic_id(EVENTS) != first
    source.close()


def test_topics_are_made_once_and_grow(config):
    admin = Admin(config)
    assert admin.create_topics([t for t in TOPICS if t.name == EVENTS], partitions=3) == []
    admin.add_partitions(EVENTS, 5)
    assert admin.partitions(EVENTS) == 5
    source = reader(config)
    assert sorted(source.partitions(EVENTS)) == [0, 1, 2, 3, 4]
    source.close()


def test_a_missing_topic_is_named_with_its_remedy(config):
    with pytest.raises(TopicMissingError, match=r"no-such.*tailrace topics create"):
        Admin(config).partitions("no-such")
    source = reader(config)
    with pytest.raises(TopicMissingError):
        source.topic_id("no-such")
    source.close()


def test_a_compacted_topic_is_read_to_its_end(config):
    assert read_all(config, PRICES) == []
    producer = Producer(config)
    for version in (b"1", b"2", b"1"):
        producer.send(PRICES, b"book " + version, key=version)
    producer.flush()
    assert [(r.key, r.value) for r in read_all(config, PRICES)] == [
        (b"1", b"book 1"),
        (b"2", b"book 2"),
        (b"1", b"book 1"),
    ]


def test_brokers_that_do_not_answer_are_retryable(prefix):
    config = KafkaConfig("127.0.0.1:1", prefix)
    producer = Producer(config)
    producer.send(EVENTS, b"x")
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1"):
        producer.flush(0.5)
    producer._producer.purge()


def test_a_setting_of_the_user_cannot_undo_a_promise(broker, prefix):
    config = KafkaConfig(broker.bootstrap, prefix, {"enable.auto.commit": "true", "fetch.wait.max.ms": "50"})
    settings = config.settings({"fetch.wait.max.ms": 100}, {"enable.auto.commit": False})
    assert settings["enable.auto.commit"] is False
    assert settings["fetch.wait.max.ms"] == "50"
