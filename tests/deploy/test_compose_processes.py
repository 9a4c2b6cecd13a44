"""The profile ``full`` of docker-compose.yml as processes: events reach PostgreSQL, the bucket and Prometheus.

All services but Grafana and the one that only gives a volume to its user. In the same run the scheduler runs the job
data_quality; what it finds is delivered to a webhook and to Alertmanager.
"""

import json
import shutil
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import duckdb
import pytest
from compose_harness import servers
from compose_harness.document import compose
from compose_harness.receiver import HOST, SECRET, Received, receiver, verified
from compose_harness.stack import Stack
from fault_harness.process import wait_until
from fault_harness.traffic import PRICES, call

from jobs.due import latest
from tailrace.batch_jobs import JOBS
from warehouse import claims
from warehouse.claims import Claim
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect

STAGES = ("land", "meter", "detect", "drift", "notify")
STARTED = (*STAGES, "alertmanager", "prometheus")
CALLS = 300
SUITE = {
    "name": "shops",
    "meta": {"sql": "SELECT app FROM calls"},
    "expectations": [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "app", "value_set": ["other"]}},
    ],
}
"""Fails for every call of this test, in whatever hour it landed."""


@pytest.fixture
def received() -> Iterator[Received]:
    with receiver() as running:
        yield running


@pytest.fixture
def stack(received: Received) -> Iterator[Stack]:
    for program in (*servers.MONITORING.values(), "wget"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (make setup-system)")
    if not Path(servers.postgres_program("initdb")).is_absolute():
        pytest.skip("PostgreSQL is not installed (make setup-system)")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-compose-"))  # not tmp_path: PostgreSQL runs as another user
    document = compose()
    skipped = json.dumps(["calls", "feedback", "evals", "rollups", "golden_cases"])  # tests/jobs/data_quality has them
    more = {"TAILRACE_PRICES": json.dumps(PRICES), "TAILRACE_DATA_QUALITY__SKIP": skipped}
    running = Stack(document, folder / "stack", more)
    channels = [
        {"name": "hook", "url": f"http://{HOST}:{received.port}/alerts", "secret": SECRET},
        {"name": "alertmanager", "kind": "alertmanager", "url": "http://alertmanager:9093"},
    ]
    allowed = running.translate(f"{HOST}:{received.port},alertmanager:9093", "notify")
    running.more["TAILRACE_WEBHOOK_ALLOW_HOSTS"] = allowed
    (running.secrets / "alert_channels").write_text(running.translate(json.dumps(channels), "notify"))
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.extended
@pytest.mark.timeout(400)
def test_the_services_become_healthy_an_event_reaches_every_store_and_an_alert_every_channel(
    stack: Stack, received: Received
) -> None:
    for name in STARTED:
        stack.start(name)
    for name in STARTED:
        stack.await_healthy(name)

    producer = ck.Producer({"bootstrap.servers": f"{stack.addresses['kafka']}:9092", "acks": "all"})
    events = [call(app="shop") for _ in range(CALLS)]
    for event in events:
        producer.produce("llm.events", json.dumps(event).encode(), key=event["id"].encode(), headers={"v": b"1"})
    assert producer.flush(60) == 0

    config = _lake(stack)
    wait_until(lambda: _landed(config) == (CALLS, CALLS), 90, "all have landed once", lambda: stack.tail("land"))
    _make_due(config, "data_quality")
    _write(stack.data("schedule") / "expectations" / "shops.json", json.dumps(SUITE))
    stack.start("schedule")

    objects = servers.bucket(stack).list_objects_v2(Bucket="lake", Prefix="tailrace/")["Contents"]
    assert any("/raw_calls/" in each["Key"] and each["Size"] > 0 for each in objects)
    stack.await_healthy("schedule")
    _prometheus_has_everything(stack)
    _data_quality_alerts(stack, config, received)

    assert stack.health("land") is None
    assert '"batch_landed"' in stack.tail("land")  # the stage's log is the container's
    assert all(secret.read_text() not in stack.tail("land") for secret in stack.secrets.iterdir())


def _prometheus_has_everything(stack: Stack) -> None:
    expected = {
        'sum(tailrace_calls_total{app="shop"})': CALLS,
        "sum(up{job='tailrace'})": len(STAGES) + 1,
        "count(tailrace_stage_up == 1)": len(STAGES) + 1,  # each container its one stage
        "prometheus_notifications_alertmanagers_discovered": 1,
    }
    for query, value in expected.items():
        wait_until(
            lambda query=query, value=value: _ask(stack, query) == value, 60, query, lambda: stack.tail("prometheus")
        )


def _data_quality_alerts(stack: Stack, config: LakeConfig, received: Received) -> None:
    """The scheduler ran the job; its result landed; its alert went out signed, and Alertmanager has it."""
    wait_until(lambda: _failed(config) == 1, 120, "the result of data_quality lands", lambda: stack.tail("schedule"))
    assert (stack.data("schedule") / "reports" / "data_quality" / "index.html").is_file()
    wait_until(lambda: _sent(received), 60, "the webhook has the alert", lambda: stack.tail("notify"))
    ((headers, body),) = _sent(received)
    assert b'"detector":"data_quality"' in verified(headers, body)
    wait_until(lambda: _in_alertmanager(stack), 60, "Alertmanager has the alert", lambda: stack.tail("notify"))


def _make_due(config: LakeConfig, name: str) -> None:
    """Let the newest due time of one job be one that nobody took; those of the others are taken."""

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        for job in (each.line for each in JOBS):
            newest = latest(job, _now())
            at = latest(job, newest - 1) if job.name == name else newest
            assert claims.put(connection, None, Claim(job.name, at, 1, "test", at, at, at))

    with Lake.open(config, now=_now, lander=False) as lake:
        lake.transact(body)


def _now() -> int:
    return time.time_ns() // 1000


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _lake(stack: Stack) -> LakeConfig:
    read = {name: (stack.secrets / name).read_text() for name in ("lake_catalog", "s3_access_key", "s3_secret_key")}
    settings = {
        "s3_endpoint": f"{stack.addresses['s3']}:7070",
        "s3_region": "us-east-1",
        "s3_url_style": "path",
        "s3_use_ssl": "false",
        "s3_access_key_id": read["s3_access_key"],
        "s3_secret_access_key": read["s3_secret_key"],
    }
    return LakeConfig(read["lake_catalog"], "s3://lake/tailrace", settings=settings)


def _landed(config: LakeConfig) -> tuple[int, int]:
    with connect(config, read_only=True) as reader:
        found = reader.execute("SELECT count(*), count(DISTINCT (_partition, _offset)) FROM raw_calls").fetchone()
    return found or (0, 0)


def _failed(config: LakeConfig) -> int:
    """How many results of the suite say that it failed."""
    with connect(config, read_only=True) as reader:
        sql = "SELECT count(*) FROM data_quality WHERE suite = 'shops' AND state = 'failed'"
        return int((reader.execute(sql).fetchone() or (0,))[0])


def _sent(received: Received) -> list[tuple[Mapping[str, str], bytes]]:
    return [each for each in received.posts if b'"shops"' in each[1]]


def _in_alertmanager(stack: Stack) -> bool:
    with urllib.request.urlopen(f"http://{stack.addresses['alertmanager']}:9093/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return any(each["labels"].get("suite") == "shops" for each in found)


def _ask(stack: Stack, query: str) -> float:
    """The value of an instant query; -1 while it has none."""
    url = f"http://{stack.addresses['prometheus']}:9090/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    time.sleep(0.2)
    return float(found[0]["value"][1]) if found else -1.0
