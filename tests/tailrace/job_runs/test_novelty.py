"""The job novelty between Kafka and the lake: a run that is killed after publishing is not told twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines.kafka import Source
from schemas.alerts import Alert
from schemas.errors import SettingsError
from schemas.topics import ALERTS
from tailrace import wiring
from tailrace.home.layout import Home
from tailrace.job_runs import novelty as shell
from tailrace.settings.model import KafkaSettings, NoveltySettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
RUN = """
import sys
from tailrace.job_runs import novelty
now = int(sys.argv.pop())
novelty.now_us = lambda: now
from tailrace.__main__ import main
main()
"""


@pytest.fixture
def here(tmp_path, broker, prefix, monkeypatch):
    """Three days of an app, and a model that is new since an hour."""
    config = LakeConfig(str(Home(tmp_path).catalog), str(Home(tmp_path).data_path))
    old = [made.call(n, NOW - timedelta(days=3) + timedelta(minutes=10 * n)) for n in range(430)]
    new = [made.call(1000 + n, NOW - timedelta(minutes=60 - n), model="o3") for n in range(30)]
    made.land(config, NOW - timedelta(minutes=5), raw_calls=old + new)
    with Lake.open(config, now=lambda: made.micros(NOW)) as lake:
        lake.ensure_partitions(ALERTS, "topic-2", {0: 0})
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    settings = Settings(home=tmp_path, kafka=kafka)
    wiring.make_topics(settings, broker.bootstrap)
    monkeypatch.setattr(shell, "now_us", lambda: made.micros(NOW))
    return SimpleNamespace(settings=settings, bootstrap_servers=broker.bootstrap, home=Home(tmp_path), config=config)


def published(here):
    source = Source(wiring.kafka(here.settings), [ALERTS], batch_wait_s=0.2)
    source.assign({(ALERTS, 0): 0})
    values = []
    while not values:
        values = [Alert.from_json(value) for batch in source.poll() for value in batch.values]
    source.close()
    return values


def test_a_run_that_is_killed_after_publishing_is_not_told_twice(here):
    given = {
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": here.bootstrap_servers,
        "TAILRACE_KAFKA__PREFIX": here.settings.kafka.prefix,
        "TAILRACE_FAULT": "novelty.after_publish:kill",
    }
    words = ["job", "run", "novelty", "--home", str(here.home.path), str(made.micros(NOW))]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (alert,) = published(here)
    assert (alert.rule, alert.state, alert.seq) == ("new_model", "firing", 0)
    waiting = shell.judge(here, wait_s=0.0)  # what the killed run published has not landed
    assert not waiting.ok
    assert "1 records of llm.alerts have not landed yet" in waiting.text()
    made.land_alerts(here.config, NOW, [alert], 0)
    ledger(here, 1)
    again = shell.judge(here, wait_s=0.0)
    assert (again.ok, again.alerts) == (True, ())
    assert again.new == ("app bot model o3, first 2026-11-18 11:00 UTC, 30 calls",)
    assert published(here) == [alert]


def ledger(here, until):
    """Move the ledger as land does with what it landed."""
    from schemas.records import Move

    with Lake.open(here.config, now=lambda: made.micros(NOW)) as lake:
        lake.append({}, [Move(ALERTS, 0, 0, until)])


def test_a_wrong_file_of_pairs_is_refused_before_anything_is_read(here, tmp_path):
    file = tmp_path / "pairs.yaml"
    file.write_text("{}")
    settings = here.settings.model_copy(update={"novelty": NoveltySettings(allowed_pairs=file)})
    with pytest.raises(SettingsError, match="holds no list"):
        shell.judge(SimpleNamespace(settings=settings))
