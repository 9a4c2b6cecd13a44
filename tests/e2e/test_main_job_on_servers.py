"""The main job on PostgreSQL and an S3 server, two copies of each stage, readers beside, and kills all the time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_harness.bucket import Bucket, server
from fault_harness.mirror import Mirror
from fault_harness.postgres import Postgres
from main_job.fleet import COPIES, Fleet, Readers, fleet, killing
from main_job.hour import Hour

from tailrace.broker import Broker
from tests.e2e.test_main_job import SETTLE_S, check

SPEED = 70.0
"""The hour takes 50 s."""
KILL_EVERY_S = 2.0


@pytest.fixture
def running(broker: Broker, postgres: Postgres, tmp_path: Path, prefix: str) -> Iterator[Fleet]:
    """Copies on the session's broker and PostgreSQL, and a bucket."""
    database = postgres.database(f"fleet_{prefix.strip('.')}")
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {database}"
    with server(tmp_path / "s3.log") as port:
        mirror = Mirror(Bucket(port), tmp_path / "mirror")
        with fleet(broker.bootstrap, tmp_path / "home", catalog, mirror) as copies:
            yield copies


@pytest.mark.faults
@pytest.mark.required
@pytest.mark.row(6, 7, 52, 71)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hour", ["generated"], indirect=True)
def test_an_hour_lands_once_in_postgresql_and_a_bucket_and_alerts_once_whatever_is_killed(
    hour: Hour, running: Fleet
) -> None:
    # without drift: its model is not what is tested here
    hour = replace(hour, planted=tuple(each for each in hour.planted if each.detector != "drift"))
    running.ready()
    readers = Readers(running.environment, running.home.path)
    with readers.reading(2), killing(running, seed=7, every_s=KILL_EVERY_S):
        running.publish(hour, speed=SPEED)
    running.ready()
    running.settle(lambda: len(running.receiver.alerts) >= 2 * len(hour.planted), SETTLE_S)
    check(hour, running)
    assert sum(running.kinds.values()) >= 2 * len(COPIES), running.kinds
    assert len(readers.answers) >= 6
    running.stop()
