"""The profile ``full`` of docker-compose.yml as processes: events reach PostgreSQL, the bucket and Prometheus."""

import json
import shutil
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka as ck
import pytest
from compose_harness import servers
from compose_harness.document import compose
from compose_harness.stack import Stack
from fault_harness.process import wait_until
from fault_harness.traffic import PRICES, call

from warehouse.connect import LakeConfig, connect

STARTED = ("land", "meter", "detect", "notify", "prometheus")
"""drift and schedule start in the tests of `tailrace up`; here they would only cost time."""
CALLS = 300


@pytest.fixture
def stack() -> Iterator[Stack]:
    for program in ("prometheus", "wget"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (make setup-system)")
    if not Path(servers.postgres_program("initdb")).is_absolute():
        pytest.skip("PostgreSQL is not installed (make setup-system)")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-compose-"))  # not tmp_path: PostgreSQL runs as another user
    running = Stack(compose(), folder / "stack", {"TAILRACE_PRICES": json.dumps(PRICES)})
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
def test_the_services_become_healthy_and_an_event_reaches_postgresql_the_bucket_and_prometheus(stack: Stack) -> None:
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
    objects = servers.bucket(stack).list_objects_v2(Bucket="lake", Prefix="tailrace/")["Contents"]
    assert any("/raw_calls/" in each["Key"] and each["Size"] > 0 for each in objects)

    landed = 'sum(tailrace_calls_total{app="shop"})'
    wait_until(lambda: _ask(stack, landed) == CALLS, 60, "Prometheus has the calls", lambda: stack.tail("prometheus"))
    for query in ("sum(up{job='tailrace'})", "count(tailrace_stage_up == 1)"):  # each container its one stage
        wait_until(lambda query=query: _ask(stack, query) == 4, 60, query, lambda: stack.tail("prometheus"))
    assert stack.health("land") is None
    assert '"batch_landed"' in stack.tail("land")  # the stage's log is the container's
    assert all(secret.read_text() not in stack.tail("land") for secret in stack.secrets.iterdir())


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


def _ask(stack: Stack, query: str) -> float:
    """The value of an instant query; -1 while it has none."""
    url = f"http://{stack.addresses['prometheus']}:9090/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    time.sleep(0.2)
    return float(found[0]["value"][1]) if found else -1.0
