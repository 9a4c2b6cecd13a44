"""``eval run`` by the real command, over a real broker, into a real lake: killed, and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.evals.outlet import KafkaOutlet
from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.land import LandConfig, run
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker
from tests.jobs.evals.lake import ask
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[3]
CALLS = 150
SCORERS = ("--scorer", "complete", "--scorer", "answered", "--scorer", "thumbs")


def call(number: int) -> bytes:
    event = {
        **{"v": 1, "type": "call", "id": f"0199f3a4-0000-7000-8000-{number:012d}", "ts": now_us() // 1000},
        **{"app": "shop", "model": "gpt-4o", "finish_reason": "length" if number % 10 == 0 else "stop"},
        "content": {"mode": "redacted", "input": [{"role": "user", "text": f"q {number}"}], "output": f"a {number}"},
    }
    return json.dumps(event).encode()


def thumb(number: int) -> bytes:
    event = {
        **{"v": 1, "type": "feedback", "id": f"0199f3a4-0000-7000-9000-{number:012d}", "ts": now_us() // 1000},
        **{"kind": "thumbs", "score": 1, "call_id": f"0199f3a4-0000-7000-8000-{number:012d}"},
    }
    return json.dumps(event).encode()


class Shop:
    """A broker, a lake, a land that runs, and the command."""

    def __init__(self, kafka: KafkaConfig, lake: LakeConfig) -> None:
        self.kafka, self.lake = kafka, lake

    def tailrace(self, *words: str, code: int = 0, fault: str = "") -> str:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
            "TAILRACE_LAKE__CATALOG": self.lake.catalog,
            "TAILRACE_LAKE__DATA_PATH": self.lake.data_path,
            **({"TAILRACE_FAULT": fault} if fault else {}),
        }
        command = [sys.executable, "-m", "tailrace", "--home", str(Path(self.lake.catalog).parent), *words]
        done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout


@pytest.fixture
def shop(broker: Broker, prefix: str, tmp_path: Path) -> Iterator[Shop]:
    kafka = KafkaConfig(broker.bootstrap, prefix)
    Admin(kafka).create_topics(TOPICS, partitions=2)
    lake = LakeConfig(str(tmp_path / "lake" / "catalog.sqlite"), str(tmp_path / "lake" / "data"))
    Lake.open(lake, now=now_us).close()
    stop = threading.Event()
    config = LandConfig(kafka, lake, batch_wait_s=0.1)
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop, "heartbeat": lambda facts: None})
    thread.start()
    try:
        yield Shop(kafka, lake)
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.extended
def test_a_run_that_was_killed_is_finished_by_the_next_one_and_each_score_lands_once(shop: Shop) -> None:
    producer = Producer(shop.kafka)
    for number in range(CALLS):
        producer.send(EVENTS, call(number))
        if number % 3 == 0:
            producer.send(EVENTS, thumb(number))
    producer.flush()
    assert KafkaOutlet(shop.kafka, shop.lake).catch_up()
    today = ask(shop.lake, "SELECT min(day) AS since, max(day) AS until FROM calls")[0]
    days = ("--from", str(today["since"]), "--to", str(today["until"]))
    shop.tailrace("eval", "run", *days, *SCORERS, code=-signal.SIGKILL, fault="evals.after_publish:kill:2")
    report = json.loads(shop.tailrace("eval", "run", *days, *SCORERS, "--json").splitlines()[-1])
    assert (report["done"], report["calls"], report["sampled"]) == (True, CALLS, CALLS)
    # two slices of 64 calls and three scorers were acknowledged before the kill
    assert (report["skipped"], report["scores"]) == (384, 66)
    assert KafkaOutlet(shop.kafka, shop.lake).catch_up()
    (landed,) = ask(shop.lake, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM raw_evals")
    assert landed == {"n": 450, "ids": 450}
    (people,) = ask(shop.lake, "SELECT count(score) AS n, min(score) AS least FROM evals WHERE name = 'thumbs'")
    assert people == {"n": 50, "least": 1.0}
