"""1, 2, 4 and 1 copies of detect and of drift with kills under load: the alerts are those of one copy without kills."""

import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fault_harness.judges import Copies, Load, alerts, pause, script, states
from fault_harness.process import Process, stage, wait_until
from fault_harness.rest import tops
from fault_harness.scene import Scene

from pipelines.detect.judge import judge
from pipelines.drift.partition import Partition
from pipelines.drift.points import Message, Point, decode
from pipelines.drift.watch import WatchConfig
from pipelines.kafka import KafkaConfig, read_all
from schemas.records import Record
from schemas.rollups import Sample
from schemas.topics import EMBEDDINGS, ROLLUPS, SAMPLES
from tailrace.broker import Broker
from tailrace.home.layout import Home
from tests.pipelines.detect.test_app import START
from tests.pipelines.detect.traffic import HOUR, SECOND, App, Incident, Stream

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
PARTITIONS = 8
"""Two for each of four copies: Faust leaves one without any where the others have enough."""
SLICE_S = 4.0
"""Load between two changes."""
CHANGES = 10


def change(copies: Copies, load: Load, crash: str, rng: random.Random) -> None:
    """1 -> 2 -> 4 -> 1 copies; three killed at any moment, one at a point of its code, two stopped."""
    with load.flowing(SLICE_S):
        copies.add("a")
    with load.flowing(SLICE_S):
        copies.add("b")
    with load.flowing(SLICE_S):
        copies.add("c", "d")
    with load.flowing(SLICE_S):
        pause(rng)
        copies.kill("b")
    with load.flowing(SLICE_S):
        pause(rng)
        copies.kill("a")
    with load.flowing(SLICE_S):
        copies.add("b")  # the name of one that was killed
    with load.flowing(2 * SLICE_S):
        copies.kill("c")
        copies.crash("c", crash)
    with load.flowing(SLICE_S):
        copies.add("c")
    with load.flowing(SLICE_S):
        copies.stop("c")
    with load.flowing(SLICE_S):
        copies.stop("b")
    assert set(copies.running) == {"d"}
    load.all()


@pytest.fixture
def copies() -> Iterator[Callable[..., Copies]]:
    """Make copies that end with the test."""
    made: list[Copies] = []

    def make(start: Callable[[str, str], Process], ready: str) -> Copies:
        made.append(Copies(start, ready))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rollups(partition: int) -> list[Record]:
    """An hour of history of one app, then four minutes in which one user runs away and a guardrail triggers."""
    app, begin = f"bot-{partition}", START + (20 + 12 * partition) * SECOND
    stream = Stream(
        11 + partition,
        now=START,
        apps=(App(app, rate=1.0),),
        partitions=1,
        incidents=(
            Incident(begin, begin + 25 * SECOND, user="u-77", rate=9, app=app),
            Incident(begin + 60 * SECOND, begin + 100 * SECOND, guardrail="pii", share=0.7, app=app),
        ),
    )
    history = list(stream.records(START - HOUR, START, live=False, batch_s=120))
    return history + list(stream.records(START, START + 300 * SECOND, live=True, batch_s=2))


def detect(scene: Scene) -> Callable[[str, str], Process]:
    """Start a copy of detect, with a home of its own as on a machine of its own."""

    def start(name: str, fault: str) -> Process:
        home = scene.home / name
        home.mkdir(exist_ok=True)
        more = {"TAILRACE_HOME": str(home), "TAILRACE_COPY_NAME": name, "TAILRACE_FAULT": fault}
        return stage("detect", home, scene.environment(**more))

    return start


def judged(scene: Scene, name: str) -> bool:
    """Whether the copy ``name`` has judged every record of llm.rollups."""
    found = (Home(scene.home / name).read_run("detect") or {}).get("facts", {}).get("position", {})
    return all(found.get(f"{ROLLUPS}[{p}]", 0) >= top for p, top in tops(scene, ROLLUPS).items())


@pytest.mark.row(6, 51, 71)
def test_one_two_four_and_one_copy_of_detect_with_kills_give_the_alerts_of_one_copy(
    broker: Broker, scenes: Callable[..., Scene], copies: Callable[..., Copies]
) -> None:
    records = {p: rollups(p) for p in range(PARTITIONS)}
    alone, several = (scenes(broker.bootstrap, partitions=PARTITIONS) for _ in range(2))
    Load(alone.kafka, ROLLUPS, records, 1).all()
    one = copies(detect(alone), "detect_state_loaded")
    one.add("one")
    wait_until(lambda: judged(alone, "one"), 180, "one copy has judged all", one.tails)
    one.stop("one")
    expected = states(alerts(alone.kafka))
    assert set(expected) == {(a.id, a.seq) for rows in records.values() for a in judge(rows)}
    assert len({name for name, _ in expected}) >= PARTITIONS

    many = copies(detect(several), "detect_state_loaded")
    change(many, Load(several.kafka, ROLLUPS, records, CHANGES), "detect.slice:kill:20", random.Random("detect"))
    wait_until(lambda: judged(several, "d"), 240, "the last copy has judged all", many.tails)
    assert states(alerts(several.kafka)) == expected
    assert many.kills == 4


CALM, SHIFTED, AFTER = 400, 250, 400
"""Texts, five a second."""


class Topics:
    """A model in which the first word of a text is its topic; it takes 4 ms a text, as a real one takes its time."""

    model = "first-word"

    def encode(self, texts: list[str]) -> Any:
        import time

        time.sleep(0.004 * len(texts))
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> Any:
        topic = np.random.default_rng(int(text.split()[0])).normal(size=384)
        raw = topic + 0.8 * np.random.default_rng(zlib.crc32(text.encode())).normal(size=384)
        return (raw / np.linalg.norm(raw)).astype(np.float32)

    def close(self) -> None:
        """Nothing to let go of."""


DRIFT = """
import signal, sys, threading, traceback
from pathlib import Path
from schemas.errors import RetryableError
from test_copies_of_judges import Topics
from pipelines.drift.app import run
from pipelines.drift.config import DriftConfig
from pipelines.kafka import KafkaConfig
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
config = DriftConfig(KafkaConfig(sys.argv[1], prefix=sys.argv[2]), Path(sys.argv[3]), slot=sys.argv[4],
    checkpoint_texts=150)
while not stop.is_set():  # as a stage does: Faust stops by itself at times, and is started again
    try:
        run(config, stop=stop, embedder=Topics())
    except RetryableError as error:
        print("stage_failed", repr(error), flush=True)
        traceback.print_exc()
        stop.wait(0.5)
"""


def samples(partition: int) -> list[Record]:
    """Texts of one app; in the middle most of them are about something new."""
    rng, found = np.random.default_rng(partition), []
    for i in range(CALM + SHIFTED + AFTER):
        new = CALM <= i < CALM + SHIFTED and rng.random() < 0.6
        topic = 99 if new else int(rng.integers(8))
        ts = 1_790_000_000_000_000 + i * 200_000
        app = f"bot-{partition}"
        text = f"{topic} text {partition} {i}"
        sample = Sample(f"{partition}-{i}", app, "input", text, ts, partition, i, user=f"u{rng.integers(90)}")
        found.append(Record(SAMPLES, partition, i, ts, app.encode(), msgspec.json.encode(sample), ()))
    return found


def drift(scene: Scene) -> Callable[[str, str], Process]:
    """Start a copy of drift with the cheap model."""

    def start(name: str, fault: str) -> Process:
        home = scene.home / name
        home.mkdir(exist_ok=True)
        arguments = [scene.kafka.bootstrap_servers, scene.kafka.prefix, str(home), name]
        return script(f"drift {name}", DRIFT, arguments, home / "log", fault)

    return start


def embedded(config: KafkaConfig) -> dict[int, list[Point]]:
    """Partition -> points of llm.embeddings in their order."""
    found: dict[int, list[Point]] = {}
    for record in read_all(config, EMBEDDINGS):
        points, _ = decode(Message(record.value or b"", dict(record.headers)), record.offset)
        found.setdefault(record.partition, []).extend(points)
    return found


@pytest.mark.row(6, 51, 71)
def test_one_two_four_and_one_copy_of_drift_with_kills_embed_every_text_once_and_give_the_alerts_of_one_copy(
    broker: Broker, scenes: Callable[..., Scene], copies: Callable[..., Copies], tmp_path: Path
) -> None:
    records = {p: samples(p) for p in range(PARTITIONS)}
    scene = scenes(broker.bootstrap, partitions=PARTITIONS)
    many = copies(drift(scene), "drift_resumed")
    change(many, Load(scene.kafka, SAMPLES, records, CHANGES), "drift.after_embeddings:kill:2", random.Random("drift"))

    def done() -> bool:
        return sum(map(len, embedded(scene.kafka).values())) >= sum(map(len, records.values()))

    wait_until(done, 240, "every text is embedded", many.tails)
    many.stop("d")
    points = embedded(scene.kafka)
    for partition, rows in records.items():
        sent = [f"{partition}-{i}" for i in range(len(rows))]
        assert [p.call_id for p in points[partition]] == sent, f"partition {partition}: lost, doubled or out of order"
    whole = [a for p, each in points.items() for a in Partition(p, WatchConfig()).apply(each, 0, 0)]
    assert sorted({a.state for a in whole}) == ["firing", "resolved"]
    assert states(alerts(scene.kafka)) == states(whole)
    assert many.kills == 4
