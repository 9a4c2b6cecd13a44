"""Topic settings that promises rest on: repaired, reported or refused, on the real broker."""

import pytest
from structlog.testing import capture_logs

from pipelines.kafka import Action, Admin, KafkaConfig, SettingsCheck, TopicSettingsError, ensure_topics
from pipelines.kafka.topic_settings import deviations
from schemas.topics import DAY_MS, DELIVERIES, EVENTS, PRICES, ROLLUPS, TOPICS, Topic

KAFKA_4 = {
    "message.timestamp.type": "CreateTime",
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
}
"""What a topic has that the first message of an app made."""


def promised(name, partitions=0):
    topic = next(t for t in TOPICS if t.name == name)
    return Topic(name, partitions or topic.partitions, topic.config)


def found(name, partitions=0, **changes):
    settings = KAFKA_4 | {"partitions": "1"} | {k.replace("_", "."): v for k, v in changes.items()}
    return {(f.setting, f.found, f.wanted): f.action for f in deviations(promised(name, partitions), settings)}


def test_a_topic_as_promised_deviates_in_nothing_and_greater_limits_keep_a_promise():
    for topic in TOPICS:
        assert not list(deviations(topic, topic.config))
        more = {"retention.ms": "-1", "max.message.bytes": str(1 << 30)}
        assert not list(deviations(topic, {**topic.config, **more}))


def test_a_topic_made_by_an_app_s_first_message_is_repaired_and_its_partitions_are_reported():
    assert found(EVENTS, 4) == {
        ("message.timestamp.type", "CreateTime", "LogAppendTime"): Action.REPAIR,
        ("max.message.bytes", "1048588", "2097152"): Action.REPAIR,
        ("partitions", "1", "4"): Action.REPORT,
    }


@pytest.mark.parametrize(
    ("topic", "setting", "value", "action"),
    [
        (EVENTS, "cleanup.policy", "compact", Action.REFUSE),
        (EVENTS, "cleanup.policy", "compact,delete", Action.REFUSE),
        (EVENTS, "retention.ms", "3600000", Action.REPORT),
        (EVENTS, "retention.bytes", "1000000", Action.REPORT),
        (ROLLUPS, "cleanup.policy", "compact", Action.REPAIR),
        (ROLLUPS, "retention.ms", "3600000", Action.REPAIR),
        (DELIVERIES, "cleanup.policy", "delete", Action.REPAIR),
        (PRICES, "cleanup.policy", "delete", Action.REPAIR),
    ],
)
def test_what_is_done_about_a_setting_depends_on_what_it_costs(topic, setting, value, action):
    settings = {**promised(topic).config, setting: value}
    assert [(f.setting, f.action) for f in deviations(promised(topic), settings)] == [(setting, action)]


def test_the_order_in_a_list_of_policies_is_no_deviation():
    assert not list(
        deviations(promised(DELIVERIES), {**promised(DELIVERIES).config, "cleanup.policy": "delete,compact"})
    )


@pytest.fixture
def config(broker, prefix):
    return KafkaConfig(broker.bootstrap, prefix)


def test_topics_made_by_others_are_repaired_and_the_next_look_finds_nothing(config):
    admin = Admin(config)
    admin.create_topics(
        [Topic(EVENTS, 1, {"message.timestamp.type": "CreateTime"}), Topic(PRICES, 1, {})], partitions=1
    )
    with capture_logs() as logs:
        created, findings = ensure_topics(admin, [promised(EVENTS), promised(PRICES), promised(ROLLUPS)], partitions=3)
    assert created == [ROLLUPS]
    by_action = {(f.topic, f.setting): f.action for f in findings}
    assert by_action[EVENTS, "message.timestamp.type"] is Action.REPAIR
    assert by_action[EVENTS, "partitions"] is Action.REPORT
    assert by_action[PRICES, "cleanup.policy"] is Action.REPAIR
    assert admin.settings(EVENTS)["message.timestamp.type"] == "LogAppendTime"
    assert admin.settings(PRICES)["cleanup.policy"] == "compact"
    repaired = [line for line in logs if line["event"] == "topic_setting_repaired"]
    assert {
        "topic": EVENTS,
        "setting": "message.timestamp.type",
        "found": "CreateTime",
        "wanted": "LogAppendTime",
    }.items() <= (repaired[0].items())
    partitions = next(f for f in findings if f.setting == "partitions")
    assert f"kafka-topics.sh --bootstrap-server {config.bootstrap_servers}" in str(partitions)
    assert f"--topic {config.on_wire(EVENTS)} --partitions 3" in str(partitions)
    assert [f.setting for f in ensure_topics(admin, [promised(EVENTS), promised(PRICES)], partitions=1)[1]] == []


def test_compaction_of_events_is_refused_by_name_until_it_is_changed(config):
    admin = Admin(config)
    admin.create_topics([promised(EVENTS)], partitions=1)
    admin.alter_settings(EVENTS, {"cleanup.policy": "compact"})
    check = SettingsCheck(admin, TOPICS)
    with pytest.raises(TopicSettingsError) as raised:
        check.require()
    for part in (EVENTS, "cleanup.policy is compact", "wanted delete", "--add-config cleanup.policy=delete"):
        assert part in str(raised.value)
    admin.alter_settings(EVENTS, {"cleanup.policy": "delete"})
    assert check.require() == []


def test_what_is_reported_is_logged_once(config):
    admin = Admin(config)
    admin.create_topics([Topic(EVENTS, 1, {**promised(EVENTS).config, "retention.ms": str(DAY_MS)})], partitions=1)
    check = SettingsCheck(admin, [promised(EVENTS)])
    with capture_logs() as logs:
        assert check.run() == check.run() != []
    assert [line["event"] for line in logs] == ["topic_setting_deviates"]
