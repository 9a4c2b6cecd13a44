"""A review by the real command, over the real broker, into a real lake: the next refresh goes by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.land import LandConfig, run
from schemas.topics import EVENTS, TOPICS
from tailrace.stages import wall
from warehouse.connect import LakeConfig
from warehouse.lake import Lake
from warehouse.readonly import ReadOnlyLake

REPO = Path(__file__).parents[2]
MAIL = "ann@example.org"


def event(number: int) -> bytes:
    text = " ".join(f"w{number}x{i}" for i in range(12))
    body = {
        "v": 1,
        "type": "call",
        "id": f"0199f3a4-0000-7000-8000-{number:012d}",
        "ts": wall() // 1000,
        "app": "shop",
        "model": "gpt-4o",
        "status": "error",
        "content": {"mode": "full", "input": [{"role": "user", "text": f"{text} {MAIL}"}], "output": "no"},
    }
    return json.dumps(body).encode()


class Shop:
    """Topics, a lake, a land that runs, and the command."""

    def __init__(self, kafka: KafkaConfig, lake: LakeConfig) -> None:
        self.kafka, self.lake = kafka, lake

    def tailrace(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
            "TAILRACE_LAKE__CATALOG": self.lake.catalog,
            "TAILRACE_LAKE__DATA_PATH": self.lake.data_path,
        }
        command = [sys.executable, "-m", "tailrace", "--home", str(Path(self.lake.catalog).parent), *words]
        done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == code, done.stderr
        return done

    def until(self, sql: str, count: int) -> None:
        deadline = time.monotonic() + 60
        while True:
            with ReadOnlyLake.open(self.lake) as lake:
                if lake.query(sql).num_rows >= count:
                    return
            assert time.monotonic() < deadline, sql
            time.sleep(0.3)


@pytest.fixture
def shop(broker, prefix, tmp_path):
    kafka = KafkaConfig(broker.bootstrap, prefix)
    Admin(kafka).create_topics(TOPICS, partitions=1)
    lake = LakeConfig(str(tmp_path / "lake" / "catalog.sqlite"), str(tmp_path / "lake" / "data"))
    Lake.open(lake, now=wall).close()
    stop, facts = threading.Event(), {}
    config = LandConfig(kafka, lake, batch_wait_s=0.1)
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop, "beat": facts.update})
    thread.start()
    try:
        yield Shop(kafka, lake)
    finally:
        stop.set()
        thread.join(30)


def test_a_review_reaches_the_lake_and_the_next_refresh_goes_by_it(shop):
    producer = Producer(shop.kafka)
    for number in range(3):
        producer.send(EVENTS, event(number))
    producer.flush(15)
    producer.close()
    shop.until("SELECT id FROM calls", 3)
    assert json.loads(shop.tailrace("golden", "refresh", "--json").stdout.splitlines()[-1])["added"] == 3
    ids = [json.loads(line)["case_id"] for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    shop.tailrace("golden", "review", ids[0], "--accept", "--expected", f"write to {MAIL}", "--note", f"says {MAIL}")
    shop.tailrace("golden", "review", ids[1], "--reject", "--note", "not ours")
    shop.until("SELECT case_id FROM golden_reviews", 2)
    with ReadOnlyLake.open(shop.lake) as lake:
        reviews = {row["case_id"]: row for row in lake.query("FROM golden_reviews").to_pylist()}
        records = str(lake.query("SELECT row FROM log_records").to_pylist())
    assert MAIL not in records
    first = reviews[ids[0]]  # <EMAIL_1> stands in the case: whether that is the same one nobody knows any more
    assert (first["verdict"], first["expected"], first["note"]) == ("accepted", "write to <EMAIL_2>", "says <EMAIL_2>")
    assert (reviews[ids[1]]["verdict"], reviews[ids[1]]["note"]) == ("rejected", "not ours")
    report = json.loads(shop.tailrace("golden", "refresh", "--json").stdout.splitlines()[-1])
    assert (report["version"], report["cases"], report["dropped"]) == (2, 2, 1)
    shown = [json.loads(line) for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    assert sorted((case["case_id"], case["expected"], case["review"]) for case in shown) == sorted(
        [(ids[0], "write to <EMAIL_2>", "accepted"), (ids[2], None, None)]
    )
    assert "accepted" in shop.tailrace("golden", "show").stdout
    shop.tailrace("golden", "review", ids[0], "--accept", "--expected", "")
    shop.until("SELECT case_id FROM golden_reviews", 3)
    shop.tailrace("golden", "refresh")
    shown = [json.loads(line) for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    assert {(case["expected"], case["review"], case["review_note"]) for case in shown if case["review"]} == {
        (None, "accepted", None)
    }
    refused = shop.tailrace("golden", "review", ids[1], "--accept", code=2)
    assert f"golden case {ids[1]} cannot come back: a review rejected it, and the refresh after that" in refused.stderr
