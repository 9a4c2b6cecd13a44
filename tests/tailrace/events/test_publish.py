"""What the brokers did not take is named, and the command has failed."""

import json
import os
import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from fault_harness.zygote import run_command

from pipelines.kafka import Admin, KafkaConfig, Source
from schemas.topics import EVENTS, HISTORY_HEADER, TOPICS
from tailrace.events.dead import from_lines
from tailrace.events.publish import keyed, publish


@pytest.fixture
def narrow(broker, prefix):
    """llm.events on a broker that takes at most 2,000 bytes a batch."""
    topic = NewTopic(prefix + EVENTS, 1, 1, config={"max.message.bytes": "2000"})
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([topic]).values():
        future.result(20)
    return KafkaConfig(broker.bootstrap, prefix)


BIG = json.dumps({"v": 1, "noise": os.urandom(4000).hex()}).encode()


def test_a_refused_event_is_an_error_and_not_a_position(narrow):
    sent = publish(narrow, [(b"k", BIG)])
    assert sent.positions == {}
    assert "too large" in sent.errors[0].lower()
    assert publish(narrow, [(b"k", b"{}")]).positions == {0: (0, 0)}


def test_emit_names_what_was_refused_and_fails(narrow, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(BIG + b"\n")
    environment = {
        **os.environ,
        "TAILRACE_HOME": str(tmp_path / "home"),
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": narrow.bootstrap_servers,
        "TAILRACE_KAFKA__PREFIX": narrow.prefix,
    }
    ran = run_command(["emit", str(file)], env=environment)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "event 0 was not acknowledged" in ran.stderr
    assert "0 events acknowledged" in ran.stdout


UNREADABLE = [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'"\xff"', b"1" * 5000, b"\xff", b""]


@pytest.mark.parametrize("bad", UNREADABLE, ids=lambda line: repr(line[:6]))
def test_a_line_that_cannot_be_read_goes_on_without_a_key_and_ends_nothing(bad):
    good = b'{"id": "one"}'
    assert list(keyed([bad, good])) == [(b"", bad), (b"one", good)]
    assert [(c.name, c.value, c.key) for c in from_lines([bad, good])] == [
        ("line 1", bad, None),
        ("line 2", good, b"one"),
    ]


def test_emit_sends_a_deeply_nested_line_like_any_other_bad_one(broker, prefix, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"[" * 100_000 + b"\n" + b'{"id": "one"}\n')
    environment = {
        **os.environ,
        "TAILRACE_HOME": str(tmp_path / "home"),
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "TAILRACE_KAFKA__PREFIX": prefix,
    }
    Admin(KafkaConfig(broker.bootstrap, prefix)).create_topics(TOPICS, partitions=1)
    ran = run_command(["emit", str(file)], env=environment)
    assert (ran.returncode, "2 events acknowledged" in ran.stdout) == (0, True), ran.stdout + ran.stderr


OLD = '{"v":1,"type":"call","id":"%s","ts":"2020-05-05T10:00:00Z","app":"a","model":"gpt-4o","tokens":{"input":1}}'


@pytest.mark.parametrize(
    ("arguments", "marked", "warned"),
    [(["emit"], False, True), (["emit", "--history"], True, False), (["replay", "--speed", "0"], True, False)],
    ids=["emit", "emit --history", "replay"],
)
def test_history_is_marked_and_old_events_without_the_mark_are_pointed_out(
    broker, prefix, tmp_path, arguments, marked, warned
):
    kafka = KafkaConfig(broker.bootstrap, prefix)
    Admin(kafka).create_topics(TOPICS, partitions=1)
    (tmp_path / "old.jsonl").write_text("".join(OLD % uuid.uuid4() + "\n" for _ in range(3)))
    environment = {
        **os.environ,
        "TAILRACE_HOME": str(tmp_path / "home"),
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TAILRACE_KAFKA__PREFIX": kafka.prefix,
    }
    ran = run_command([*arguments, str(tmp_path / "old.jsonl")], env=environment, check=True)
    assert ("3 events are more than 7 days old, the oldest" in ran.stderr) is warned
    source = Source(kafka, [EVENTS])
    source.assign({(EVENTS, 0): 0})
    headers = []
    while len(headers) < 3:
        headers += [each for records in source.poll() for each in records.headers]
    source.close()
    assert [HISTORY_HEADER in each for each in headers] == [marked] * 3
