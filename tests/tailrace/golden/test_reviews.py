"""A review by the real command, over the real broker, into a real lake: the next refresh goes by it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.land import LandConfig, run
from schemas.topics import EVENTS, TOPICS
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[3]
MAIL = "ann@example.org"


def event(number: int) -> bytes:
    text = " ".join(f"w{number}x{i}" for i in range(12))
    body = {
        "v": 1,
        "type": "call",
        "id": f"0199f3a4-0000-7000-8000-{number:012d}",
        "ts": now_us() // 1000,
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

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
            "TAILRACE_LAKE__CATALOG": self.lake.catalog,
            "TAILRACE_LAKE__DATA_PATH": self.lake.data_path,
        }
        return [sys.executable, "-m", "tailrace", "--home", str(Path(self.lake.catalog).parent), *words], env

    def tailrace(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command, env = self.command(*words)
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
    Lake.open(lake, now=now_us).close()
    stop, facts = threading.Event(), {}
    config = LandConfig(kafka, lake, batch_wait_s=0.1)
    thread = threading.Thread(
        target=run, args=(config,), kwargs={"stop": stop, "heartbeat": lambda report: facts.update(report.flat())}
    )
    thread.start()
    try:
        yield Shop(kafka, lake)
    finally:
        stop.set()
        thread.join(30)


def test_a_review_reaches_the_lake_and_the_next_refresh_goes_by_it(shop, tmp_path):
    producer = Producer(shop.kafka)
    for number in range(3):
        producer.send(EVENTS, event(number))
    producer.flush(15)
    producer.close()
    shop.until("SELECT id FROM calls", 3)
    assert json.loads(shop.tailrace("golden", "refresh", "--json").stdout.splitlines()[-1])["added"] == 3
    ids = [json.loads(line)["case_id"] for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    said = ["--expected", f"write to {MAIL}", "--rubric", f"names {MAIL}", "--note", f"says {MAIL}"]
    shop.tailrace("golden", "review", ids[0], "--accept", *said)
    shop.tailrace("golden", "review", ids[1], "--reject", "--note", "not ours")
    shop.until("SELECT case_id FROM golden_reviews", 2)
    with ReadOnlyLake.open(shop.lake) as lake:
        reviews = {row["case_id"]: row for row in lake.query("FROM golden_reviews").to_pylist()}
        records = str(lake.query("SELECT row FROM log_records").to_pylist())
    assert MAIL not in records
    first = reviews[ids[0]]  # <EMAIL_1> stands in the case: whether that is the same one nobody knows any more
    assert (first["verdict"], first["expected"], first["note"]) == ("accepted", "write to <EMAIL_2>", "says <EMAIL_2>")
    assert first["rubric"] == "names <EMAIL_2>"
    assert (reviews[ids[1]]["verdict"], reviews[ids[1]]["note"]) == ("rejected", "not ours")
    report = json.loads(shop.tailrace("golden", "refresh", "--json").stdout.splitlines()[-1])
    assert (report["version"], report["cases"], report["dropped"]) == (2, 2, 1)
    shown = [json.loads(line) for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    assert sorted((case["case_id"], case["expected"], case["review"]) for case in shown) == sorted(
        [(ids[0], "write to <EMAIL_2>", "accepted"), (ids[2], None, None)]
    )
    assert {case["case_id"]: case["rubric"] for case in shown} == {ids[0]: "names <EMAIL_2>", ids[2]: None}
    assert "accepted" in shop.tailrace("golden", "show").stdout
    shop.tailrace("golden", "review", ids[0], "--accept", "--expected", "")
    shop.until("SELECT case_id FROM golden_reviews", 3)
    shop.tailrace("golden", "refresh")
    shown = [json.loads(line) for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    assert {(case["expected"], case["review"], case["review_note"]) for case in shown if case["review"]} == {
        (None, "accepted", None)
    }
    sheet = tmp_path / "open.csv"
    assert "1 open cases" in shop.tailrace("golden", "review", "--to", str(sheet)).stdout
    assert ids[2] in sheet.read_text(encoding="utf-8-sig")
    sheet.write_text(f"case_id,expected,verdict\n{ids[2]},because,accept\n")
    assert "1 accepted, 0 rejected, 0 still open" in shop.tailrace("golden", "review", "--from", str(sheet)).stdout
    again = shop.tailrace("golden", "review", "--from", str(sheet), code=2)
    assert f"open.csv, line 2: '{ids[2]}' is no open case" in again.stderr
    refused = shop.tailrace("golden", "review", ids[1], "--accept", code=2)
    assert f"golden case {ids[1]} cannot come back: a review rejected it, and the refresh after that" in refused.stderr


@pytest.mark.extended
def test_an_export_sees_a_review_at_once_and_many_are_reviewed_on_a_terminal(shop, tmp_path):
    producer = Producer(shop.kafka)
    for number in range(4):
        producer.send(EVENTS, event(number))
    producer.flush(15)
    producer.close()
    shop.until("SELECT id FROM calls", 4)
    shop.tailrace("golden", "refresh")
    ids = [json.loads(line)["case_id"] for line in shop.tailrace("golden", "show", "--json").stdout.splitlines()]
    shop.tailrace("golden", "review", ids[0], "--accept", "--expected", "try again")
    shop.tailrace("golden", "review", ids[1], "--reject")
    shop.tailrace("golden", "export", "--format", "promptfoo", "--out", str(tmp_path / "first.jsonl"))
    tests = {t["metadata"]["case_id"]: t for t in map(json.loads, (tmp_path / "first.jsonl").read_text().splitlines())}
    assert set(tests) == set(ids) - {ids[1]}
    assert tests[ids[0]]["assert"][0] == {"type": "similar", "value": "try again", "threshold": 0.8}
    assert tests[ids[0]]["metadata"]["expected_from"] == "review"

    refused = shop.tailrace("golden", "review", code=2)
    assert "which needs a terminal" in refused.stderr
    first = press(shop, "aq")
    assert "1 of 2" in first
    assert "1 accepted, 0 rejected, 1 still open" in first
    second = press(shop, "r")
    assert "1 of 1" in second
    assert "0 accepted, 1 rejected, 0 still open" in second
    shop.tailrace("golden", "export", "--format", "jsonl", "--out", str(tmp_path / "second.jsonl"))
    left = [json.loads(line)["case_id"] for line in (tmp_path / "second.jsonl").read_text().splitlines()]
    assert set(left) == {ids[0], ids[2]}


def press(shop: Shop, keys: str) -> str:
    """Run ``golden review`` on a terminal of 80 columns, press a key for each screen; return all that it printed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command, env = shop.command("golden", "review")
    process = subprocess.Popen(command, cwd=REPO, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed, pressed = "", 0
    with contextlib.suppress(OSError):  # the terminal ends with the command
        while select.select([ours], [], [], 60)[0] and (chunk := os.read(ours, 65536)):
            printed += chunk.decode(errors="replace")
            if pressed < len(keys) and printed.count("q quit") > pressed:
                while termios.tcgetattr(ours)[3] & termios.ICANON:  # what is typed before it reads keys is dropped
                    time.sleep(0.01)
                os.write(ours, keys[pressed].encode())
                pressed += 1
    os.close(ours)
    assert process.wait(60) == 0, printed
    return printed


def test_a_lake_without_a_golden_set_says_so_and_how_to_make_one(tmp_path):
    home = tmp_path / "home"
    Lake.open(LakeConfig(str(home / "lake" / "catalog.sqlite"), str(home / "lake" / "data")), now=lambda: 0).close()
    env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
    command = [sys.executable, "-m", "tailrace", "golden", "versions", "--home", str(home)]
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no golden set has a version yet: `tailrace golden refresh`")
