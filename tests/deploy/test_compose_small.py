"""The profile ``small`` of docker-compose.yml as a process: both addresses of its broker take events, and they land."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka as ck
import pytest
from compose_harness.document import compose
from compose_harness.stack import Stack
from fault_harness.process import wait_until
from fault_harness.traffic import call

pytestmark = pytest.mark.faults


@pytest.fixture
def stack() -> Iterator[Stack]:
    for port in (9092, 9094):  # the embedded broker listens there on every address
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is taken")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-compose-"))
    running = Stack(compose(), folder / "stack")
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(300)
def test_it_becomes_healthy_and_takes_events_from_this_machine_and_from_its_network(stack: Stack) -> None:
    stack.start("tailrace")
    stack.await_healthy("tailrace")
    here, network = f"{stack.addresses['tailrace']}:9094", f"{stack.addresses['kafka']}:9092"
    for address in (here, network):
        producer = ck.Producer({"bootstrap.servers": address, "acks": "all"})
        producer.produce("llm.events", json.dumps(call(app="shop")).encode(), headers={"v": b"1"})
        assert producer.flush(60) == 0, address
    wait_until(lambda: _count(stack) == 2, 60, "both have landed", lambda: stack.tail("tailrace"))
    token = (stack.secrets / "web_token").read_text()
    assert b'tailrace_calls_total{app="shop"' in _metrics(stack, {"Authorization": f"Bearer {token}"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _metrics(stack, {})
    own = [(stack.secrets / name).read_text() for name in ("web_token", "user_key")]
    assert all(secret not in stack.tail("tailrace") for secret in own)


def _count(stack: Stack) -> int:
    """What ``docker compose exec tailrace tailrace sql`` prints."""
    command = [sys.executable, "-m", "tailrace", "sql", "SELECT count(*) AS n FROM calls", "--format", "jsonl"]
    done = subprocess.run(
        command, env=stack.environment("tailrace"), capture_output=True, text=True, cwd=stack.folder, check=True
    )
    return int(json.loads(done.stdout)["n"])


def _metrics(stack: Stack, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(f"http://{stack.addresses['tailrace']}:9464/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())
