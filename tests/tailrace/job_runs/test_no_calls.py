"""The job of silent apps: it waits for what is in Kafka, and says nothing of apps whose events wait there."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines.kafka import Admin, Producer
from schemas.topics import EVENTS
from tailrace import wiring
from tailrace.home.layout import Home
from tailrace.job_runs import no_calls as shell
from tailrace.settings.model import KafkaSettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def here(tmp_path, broker, prefix, monkeypatch):
    config = LakeConfig(str(Home(tmp_path).catalog), str(Home(tmp_path).data_path))
    made.land(config, NOW, raw_calls=[made.call(1, NOW - timedelta(minutes=5))])
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=2)
    settings = Settings(home=tmp_path, kafka=kafka)
    wiring.make_topics(settings, broker.bootstrap)
    monkeypatch.setattr(shell, "now_us", lambda: made.micros(NOW))
    return SimpleNamespace(settings=settings, bootstrap_servers=broker.bootstrap, home=Home(tmp_path))


def test_everything_has_landed_so_it_judges(here):
    report = shell.judge(here)
    assert (report.ok, report.apps, report.alerts) == (True, 1, ())


def test_events_that_wait_in_kafka_are_waited_for_and_named(here):
    with closing(Producer(wiring.kafka(here.settings))) as producer:
        for n in range(40):
            producer.send(EVENTS, b"{}", b"%d" % n)
        producer.flush(30)
    ends = Admin(wiring.kafka(here.settings)).end_offsets(EVENTS)
    assert ends[1] > 0
    report = shell.judge(here, wait_s=0.0)
    assert not report.ok
    assert f"{ends[1]} records of llm.events have not landed yet" in report.text()  # partition 0 has landed a million
    assert json.loads(report.to_json())["problem"]
