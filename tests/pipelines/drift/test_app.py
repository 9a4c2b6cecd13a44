"""The whole stage on a real broker: samples in, embeddings and one alert out; a crash in between changes nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipelines.drift.app import run
from pipelines.drift.config import DriftConfig
from pipelines.drift.embed import EmbedderUnavailableError
from pipelines.drift.partition import Partition
from pipelines.drift.points import Message, decode
from pipelines.drift.stage import Stage
from pipelines.drift.vectors import Floats
from pipelines.kafka import Admin, KafkaConfig, Producer, Source
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import Sample
from schemas.topics import ALERTS, EMBEDDINGS, SAMPLES, TOPICS
from tailrace.broker import Broker

CALM, DRIFT, AFTER = 500, 250, 400
"""Texts, five a second: an incident is over after 30 s back to normal at the earliest."""
DEADLINE_S = 120


class Topics:
    """A model of which the first word of a text is the topic."""

    model = "first-word"
    broken = ""

    def encode(self, texts: Sequence[str]) -> Floats:
        if self.broken:
            raise EmbedderUnavailableError(self.broken)
        return np.stack([self._one(t) for t in texts])

    def _one(self, text: str) -> Floats:
        topic = np.random.default_rng(int(text.split()[0])).normal(size=384)
        noise = np.random.default_rng(zlib.crc32(text.encode())).normal(size=384)
        raw = topic + 0.8 * noise
        return (raw / np.linalg.norm(raw)).astype(np.float32)

    def close(self) -> None:
        pass


def samples() -> list[Sample]:
    rng = np.random.default_rng(1)
    out = []
    for i in range(CALM + DRIFT + AFTER):
        new = CALM <= i < CALM + DRIFT and rng.random() < 0.6
        topic = 99 if new else int(rng.integers(8))
        ts = 1_790_000_000_000_000 + i * 200_000
        out.append(Sample(f"c{i}", "bot", "input", f"{topic} text {i}", ts, 0, i, user=f"u{rng.integers(90)}"))
    return out


@pytest.fixture
def kafka(broker: Broker, prefix: str) -> KafkaConfig:
    config = KafkaConfig(broker.bootstrap, prefix=prefix)
    wanted = [t for t in TOPICS if t.name in (SAMPLES, EMBEDDINGS, ALERTS)]
    Admin(config).create_topics(wanted, partitions=2)
    return config


def publish(config: KafkaConfig, values: Sequence[bytes], partition: int = 1) -> None:
    producer = Producer(config)
    for value in values:
        producer.send(SAMPLES, value, key=b"bot", partition=partition)
    producer.flush(30)
    producer.close()


@contextmanager
def stage(config: DriftConfig, model: Topics) -> Iterator[list[dict[str, Any]]]:
    stop, facts = threading.Event(), []
    thread = threading.Thread(
        target=run,
        args=(config,),
        kwargs={"stop": stop, "heartbeat": lambda report: facts.append(report.flat()), "embedder": model},
        daemon=True,
    )
    thread.start()
    try:
        yield facts
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def wait(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < limit, "nothing happened in time"
        time.sleep(0.1)


def read(config: KafkaConfig, topic: str) -> list[Record]:
    source = Source(config, [topic], batch_wait_s=0.2)
    marks = source.partitions(topic)
    source.assign({(topic, p): low for p, (low, _) in marks.items()})
    found: list[Record] = []
    while any(source.positions()[topic, p] < high for p, (_, high) in marks.items()):
        found += [row for records in source.poll() for row in records.rows()]
    source.close()
    return found


def embedded(config: KafkaConfig) -> list[str]:
    messages = [decode(Message(r.value or b"", dict(r.headers)), r.offset) for r in read(config, EMBEDDINGS)]
    return [p.call_id for points, _ in messages for p in points]


def alerts(config: KafkaConfig) -> list[Alert]:
    return [Alert.from_json(r.value or b"") for r in read(config, ALERTS)]


def at_end(facts: list[dict[str, Any]], end: int) -> Callable[[], bool]:
    return lambda: bool(facts) and facts[-1].get("position", {}).get(f"{SAMPLES}[1]") == end


def test_samples_become_embeddings_and_one_alert_and_a_restart_changes_nothing(
    kafka: KafkaConfig, tmp_path: Path
) -> None:
    texts = samples()
    cut = CALM + 40  # stopped while the evidence is gathering
    config = DriftConfig(kafka, tmp_path, checkpoint_texts=200)
    unread = [b"not json", b'{"text":"\xff"}', b'{"zz":' + b"[" * 5_000]
    publish(kafka, [*unread, *map(msgspec.json.encode, texts[:cut])])
    with stage(config, Topics()) as facts:
        wait(at_end(facts, cut + len(unread)))
        assert facts[-1]["rejected"] == len(unread)
    publish(kafka, [*map(msgspec.json.encode, texts[cut:])])
    with stage(config, Topics()) as facts:
        wait(at_end(facts, len(texts) + len(unread)))
    assert embedded(kafka) == [s.call_id for s in texts]
    told = alerts(kafka)
    assert [a.state for a in told] == ["firing", "resolved"]
    assert told[0].series == {"app": "bot", "side": "input"}
    assert "99 text" in told[0].cause[0].value
    # the same as judged in one go, without a broker
    whole = Partition(1, config.watch)
    points = [p for r in read(kafka, EMBEDDINGS) for p in decode(Message(r.value or b"", dict(r.headers)), 0)[0]]
    assert whole.apply(points, 0, 0) == told


@pytest.mark.row(16, 17)
@pytest.mark.parametrize(
    "checkpoint_texts",
    [
        pytest.param(50, id="with checkpoints"),
        pytest.param(1_000, marks=pytest.mark.faults, id="before the first that is due"),
    ],
)
@pytest.mark.parametrize("topic", [SAMPLES, EMBEDDINGS])
def test_a_topic_made_anew_and_filled_beyond_the_old_offset_is_read_from_its_beginning(
    kafka: KafkaConfig, tmp_path: Path, topic: str, checkpoint_texts: int
) -> None:
    texts = samples()
    config = DriftConfig(kafka, tmp_path, checkpoint_texts=checkpoint_texts)
    publish(kafka, [*map(msgspec.json.encode, texts[:120])])
    with stage(config, Topics()) as facts:
        wait(at_end(facts, 120))
    make_anew(kafka, topic)
    start = 0 if topic == SAMPLES else 120
    publish(kafka, [*map(msgspec.json.encode, texts[120:420])])
    with stage(config, Topics()) as facts:
        wait(at_end(facts, start + 300))
    with stage(config, Topics()) as facts:  # and once more, from a checkpoint of the new one
        wait(at_end(facts, start + 300))
    found = embedded(kafka)
    assert found[-300:] == [s.call_id for s in texts[120:420]]
    assert len(found) == len(set(found))


def make_anew(kafka: KafkaConfig, topic: str) -> None:
    admin = Admin(kafka)
    admin.delete_topics([topic])
    wanted = [t for t in TOPICS if t.name == topic]
    wait(lambda: bool(admin.create_topics(wanted, partitions=2) if topic not in admin.topics() else []))


@pytest.mark.row(66)
def test_without_a_model_drift_is_unknown_and_no_text_is_lost(kafka: KafkaConfig, tmp_path: Path) -> None:
    texts = samples()[:40]
    model = Topics()
    model.broken = "no model here"
    publish(kafka, [*map(msgspec.json.encode, texts)])
    with stage(DriftConfig(kafka, tmp_path, retry_s=0.2), model) as facts:
        wait(lambda: bool(facts) and facts[-1]["state"] == "unknown")
        assert facts[-1]["error"] == "no model here"
        wait(lambda: facts[-1]["lag"] == len(texts) - 1)
        assert embedded(kafka) == []
        model.broken = ""
        wait(at_end(facts, len(texts)))
        wait(lambda: facts[-1]["state"] == "running")
    assert embedded(kafka) == [s.call_id for s in texts]


class Held(Topics):
    """A model that answers when it may."""

    def __init__(self) -> None:
        self.asked, self.may = threading.Event(), threading.Event()

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked.set()
        assert self.may.wait(DEADLINE_S)
        return super().encode(texts)


@pytest.mark.row(51, 71)
def test_a_copy_writes_nothing_of_a_partition_that_was_assigned_to_another_while_it_was_embedding(
    kafka: KafkaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, model, resume = samples()[:40], Held(), threading.Event()
    take_over = Stage.take_over

    def slowly(self: Stage, *arguments: Any) -> None:
        """Bringing a state back may take minutes; the partitions of the other copy were assigned before."""
        if self.config.slot == "slow" and self.partitions:
            assert resume.wait(DEADLINE_S)
        take_over(self, *arguments)

    monkeypatch.setattr(Stage, "take_over", slowly)
    for partition in (0, 1):
        publish(kafka, [*map(msgspec.json.encode, texts)], partition)
    with stage(DriftConfig(kafka, tmp_path / "slow", slot="slow"), model) as slow:
        assert model.asked.wait(DEADLINE_S)
        with stage(DriftConfig(kafka, tmp_path / "other", slot="other"), Topics()) as other:
            wait(lambda: bool(other) and 40 in other[-1].get("position", {}).values())
            assert len(other[-1]["position"]) == 1
            model.may.set()
            until = time.monotonic() + 3  # for what must not happen
            while len(embedded(kafka)) == 40 and time.monotonic() < until:
                time.sleep(0.2)
            resume.set()
            wait(lambda: len(embedded(kafka)) >= 80)
            wait(lambda: [*slow[-1].get("position", {}).values()] == [40])
    assert sorted(embedded(kafka)) == sorted(2 * [s.call_id for s in texts]), "a text was embedded twice"


KILLED = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_app import Topics
from pipelines.drift.app import run
from pipelines.drift.config import DriftConfig
from pipelines.kafka import KafkaConfig
config = DriftConfig(KafkaConfig(sys.argv[1], prefix=sys.argv[2]), Path(sys.argv[3]), checkpoint_texts=200)
run(config, stop=threading.Event(), embedder=Topics())
"""


WATCHED = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_app import Topics
from pipelines.drift.app import run
from pipelines.drift.config import DriftConfig
from pipelines.liveness import StallTimeouts
from pipelines.kafka import KafkaConfig
kafka = KafkaConfig(sys.argv[1], prefix=sys.argv[2])
config = DriftConfig(kafka, Path(sys.argv[3]), stall_timeouts=StallTimeouts(3.0, 15.0))
run(config, stop=threading.Event(), embedder=Topics(), heartbeat=lambda facts: print("beat", facts.lag, flush=True))
"""


@pytest.mark.parametrize(
    ("fault", "starting"),
    [
        pytest.param("drift.step", False, id="at the first text"),
        pytest.param("drift.recovered", True, marks=pytest.mark.faults, id="in recovery"),
    ],
)
@pytest.mark.row(39)
def test_a_stage_that_hangs_stops_beating_while_texts_wait(
    kafka: KafkaConfig, tmp_path: Path, fault: str, starting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(kafka, [*map(msgspec.json.encode, samples()[:40])])
    monkeypatch.setenv("TAILRACE_FAULT", f"{fault}:hang")
    here = str(Path(__file__).parent)
    args = [sys.executable, "-c", WATCHED, kafka.bootstrap_servers, kafka.prefix, str(tmp_path), here]
    said: list[str] = []
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("beat") or "stage_stuck" in line:
                said.append(line.strip())
            if sum("stage_stuck" in text for text in said) == 3:
                break
        process.kill()
    assert said[0].startswith("beat"), "it has had its time"
    assert int(said[-4].removeprefix("beat")) > 0, said
    assert all("stage_stuck" in text and f"starting={starting}" in text for text in said[-3:]), said


@pytest.mark.parametrize(
    "fault", [pytest.param("drift.after_embeddings:kill:4", marks=pytest.mark.faults), "drift.before_alert:kill:1"]
)
@pytest.mark.row(6)
def test_a_kill_loses_and_doubles_nothing(
    kafka: KafkaConfig, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = samples()
    publish(kafka, [*map(msgspec.json.encode, texts)])
    monkeypatch.setenv("TAILRACE_FAULT", fault)
    here = str(Path(__file__).parent)
    args = [sys.executable, "-c", KILLED, kafka.bootstrap_servers, kafka.prefix, str(tmp_path), here]
    dead = subprocess.run(args, check=False, timeout=DEADLINE_S, capture_output=True)
    assert dead.returncode == -9, dead.stderr[-2000:]
    monkeypatch.delenv("TAILRACE_FAULT")
    with stage(DriftConfig(kafka, tmp_path, checkpoint_texts=200), Topics()) as facts:
        wait(at_end(facts, len(texts)))
    assert embedded(kafka) == [s.call_id for s in texts]
    told = alerts(kafka)
    assert [(a.state, a.seq) for a in told] == [("firing", 0), ("resolved", 1)]
    assert len({a.id for a in told}) == 1
