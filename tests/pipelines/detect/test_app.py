"""The stage on the real broker: rollups in, alerts out, and nothing missed or told under two ids after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from fault_harness.zygote import Code, Forked

from pipelines.detect.app import DetectConfig, PartitionMismatchError, _Stage, run
from pipelines.detect.checkpoint import CHANGELOG
from pipelines.detect.judge import PartitionState, judge
from pipelines.kafka import Admin, KafkaConfig, Producer, Source, TransactionalProducer, read_all
from schemas.alerts import Alert
from schemas.records import Record
from schemas.topics import ALERTS, ROLLUPS, TOPICS, Topic
from tailrace.broker import Broker
from tests.pipelines.detect.traffic import DAY, HOUR, SECOND, Incident, Stream

REPO = Path(__file__).parents[3]
START = int(time.time() * SECOND) // DAY * DAY - DAY + 14 * HOUR
"""Yesterday afternoon: the judge refuses what is dated months from the broker's clock."""

SCRIPT = """
import sys, threading
from pathlib import Path
from pipelines.detect import judge
from pipelines.detect.app import DetectConfig, run
from pipelines.kafka import KafkaConfig
judge.SLICE = 1
config = DetectConfig(KafkaConfig(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), slot=sys.argv[4],
    checkpoint_s=float(sys.argv[5]))
run(config, stop=threading.Event())
"""


def _records() -> list[Record]:
    stream = Stream(
        11,
        now=START,
        partitions=1,
        incidents=(Incident(START + 20 * SECOND, START + 45 * SECOND, user="u-77", rate=9),),
    )
    history = list(stream.records(START - HOUR, START, live=False, batch_s=120))
    return history + list(stream.records(START, START + 150 * SECOND, live=True, batch_s=2))


def _produce(config: KafkaConfig, records: list[Record]) -> None:
    producer = Producer(config)
    for record in records:
        producer.send(ROLLUPS, record.value, record.key, record.headers, partition=0)
    producer.flush()
    producer.close()


def _forked(text: str, config: KafkaConfig, folder: Path, *arguments: str, fault: str = "") -> Forked:
    """Start ``text`` in a process of its own; at the end of the block it is killed."""
    words = [config.bootstrap_servers, config.prefix, str(folder), *arguments]
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    return Forked(words, log, {**os.environ, "TAILRACE_FAULT": fault}, Code(text, ("pipelines.detect.app",)))


def _detect(
    config: KafkaConfig, folder: Path, fault: str = "", *, slot: str = "0", checkpoint_s: float = 2.0
) -> Forked:
    return _forked(SCRIPT, config, folder, slot, str(checkpoint_s), fault=fault)


def _wait_for(config: KafkaConfig, wanted: int, timeout_s: float = 60.0) -> list[Alert]:
    """Alerts on the topic, once at least ``wanted`` different ones are there."""
    deadline = time.monotonic() + timeout_s
    while True:
        alerts = [Alert.from_json(r.value) for r in read_all(config, ALERTS) if r.value]
        if len({(a.id, a.seq) for a in alerts}) >= wanted or time.monotonic() > deadline:
            return alerts
        time.sleep(0.5)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return _records()


@pytest.fixture
def kafka(broker: Broker, prefix: str) -> KafkaConfig:
    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics(TOPICS, partitions=2)
    return config


def _told(alerts: list[Alert]) -> set[tuple[str, int, str, str]]:
    return {(a.id, a.seq, a.state, a.rule) for a in alerts}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("detect.before_send:kill", marks=pytest.mark.faults),
        "detect.after_send:kill",
        pytest.param("detect.after_send:kill:2", marks=pytest.mark.faults),
    ],
)
@pytest.mark.row(6)
def test_a_kill_around_an_alert_neither_loses_it_nor_gives_it_another_id(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path, fault: str
) -> None:
    expected = _told(list(judge(records)))
    assert len(expected) == 2
    with _detect(kafka, tmp_path, fault) as process:
        _produce(kafka, records)
        assert process.wait(timeout=60) == -signal.SIGKILL
    with _detect(kafka, tmp_path):
        assert _told(_wait_for(kafka, 2)) == expected


@pytest.mark.faults
@pytest.mark.row(6)
def test_kills_inside_one_long_tick_neither_lose_nor_rename_an_alert(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    """A backlog that is closed by a single tick: each start goes a little farther than the one before."""
    backlog = [r for r in records if r.key != b"*"] + [records[-1]]
    expected = _told(list(judge(backlog)))
    assert len(expected) == 2
    _produce(kafka, backlog)
    for nth in (len(backlog) + 2, 3, 3):
        with _detect(kafka, tmp_path, f"detect.slice:kill:{nth}", checkpoint_s=0.0) as process:
            assert process.wait(timeout=60) == -signal.SIGKILL
    with _detect(kafka, tmp_path):
        assert _told(_wait_for(kafka, 2)) == expected


@pytest.mark.row(6)
def test_a_kill_at_any_moment_goes_on_from_the_state(kafka: KafkaConfig, records: list[Record], tmp_path: Path) -> None:
    # behind the incident, before its end can be proven
    half = next(i for i, record in enumerate(records) if record.kafka_time >= START + 55 * SECOND)
    with _detect(kafka, tmp_path):
        _produce(kafka, records[:half])
        _wait_for(kafka, 1)
    with _detect(kafka, tmp_path):
        _produce(kafka, records[half:])
        assert _told(_wait_for(kafka, 2)) == _told(list(judge(records)))


@pytest.mark.faults
@pytest.mark.row(51)
@pytest.mark.timeout(400)
def test_copies_that_join_and_leave_all_the_time_lose_nothing_and_tell_nothing_twice(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    expected = _told(list(judge(records)))
    rounds = 6
    with ExitStack() as copies:
        folders = [tmp_path / slot for slot in "01"]
        for folder in folders:
            folder.mkdir()
        copies.enter_context(_detect(kafka, folders[0], slot="0"))
        for n in range(rounds):
            _produce(kafka, records[len(records) * n // rounds : len(records) * (n + 1) // rounds])
            # the partition moves to a copy that has to rebuild its state from the changelog, while another joins
            with _detect(kafka, folders[1], slot="1"):
                time.sleep(3)
                copies.close()
                time.sleep(2 + n % 3)
            copies.enter_context(_detect(kafka, folders[0], slot="0"))
            time.sleep(n % 3)
        alerts = _wait_for(kafka, len(expected), timeout_s=120)
    assert _told(alerts) == expected
    bodies = {(a.id, a.seq): set[bytes]() for a in alerts}
    for alert in alerts:
        bodies[alert.id, alert.seq].add(alert.to_json())
    assert all(len(told) == 1 for told in bodies.values()), "one id, two bodies"


WATCHED = """
import sys, threading
from pathlib import Path
from pipelines.detect.app import DetectConfig, run
from pipelines.liveness import StallTimeouts
from pipelines.kafka import KafkaConfig
kafka = KafkaConfig(sys.argv[1], sys.argv[2])
config = DetectConfig(kafka, Path(sys.argv[3]), slot=sys.argv[4], stall_timeouts=StallTimeouts(3.0, 15.0))
run(config, stop=threading.Event(), heartbeat=lambda facts: print("beat", facts.lag, flush=True))
"""


def _heartbeat(
    config: KafkaConfig, folder: Path, enough: Callable[[list[str]], bool], *, fault: str = "", slot: str = "0"
) -> list[str]:
    """What a stage says, ``beat LAG`` and ``stage_stuck ...``, in order, until it is ``enough``."""
    said: list[str] = []
    with _forked(WATCHED, config, folder, slot, fault=fault) as process:
        for text in process.lines():
            if text.startswith("beat") or "stage_stuck" in text or "log_cut" in text:
                said.append(text.strip())
                if enough(said):
                    break
    return said


def _stuck(said: list[str]) -> int:
    return sum("stage_stuck" in text for text in said)


@pytest.mark.parametrize(
    ("fault", "starting"),
    [
        pytest.param("detect.step:hang", False, marks=pytest.mark.faults, id="at the first record"),
        pytest.param("detect.step:hang:40", False, id="in mid-stream"),
        pytest.param("detect.recovered:hang", True, marks=pytest.mark.faults, id="in recovery"),
    ],
)
@pytest.mark.row(39)
def test_a_stage_that_hangs_stops_beating_while_records_wait(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path, fault: str, starting: bool
) -> None:
    _produce(kafka, records[:60])
    said = _heartbeat(kafka, tmp_path, lambda said: _stuck(said) == 3, fault=fault)
    assert said[0].startswith("beat"), "it has had its time"
    assert int(said[-4].removeprefix("beat")) > 0, said
    assert _stuck(said[-3:]) == 3, f"a beat in between: {said}"
    assert all(f"starting={starting}" in text for text in said[-3:]), said


@pytest.mark.row(12, 39)
def test_a_stage_that_cannot_tell_whether_its_log_was_cut_ends_and_does_not_look_well(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    _produce(kafka, records[:60])
    with _detect(kafka, tmp_path, "detect.recovered:raise") as process:
        assert process.wait(timeout=90) != 0


def _make_anew(kafka: KafkaConfig, topic: str) -> None:
    admin = Admin(kafka)
    admin.delete_topics([topic])
    wanted = [t for t in TOPICS if t.name == topic]
    deadline = time.monotonic() + 30
    while not (admin.create_topics(wanted, partitions=2) if topic not in admin.topics() else []):
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.mark.row(16, 17)
@pytest.mark.parametrize(
    "more", [pytest.param(0, marks=pytest.mark.faults, id="shorter"), pytest.param(200, id="longer than before")]
)
def test_rollups_that_were_made_anew_are_judged_from_their_beginning(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path, more: int
) -> None:
    expected = _told(list(judge(records)))
    half = len(records) * 2 // 3
    _produce(kafka, records[: half - 1])
    with _detect(kafka, tmp_path):
        _wait_for(kafka, 1)
        time.sleep(2)
        _produce(kafka, records[half - 1 : half])  # as ticks go on, and a checkpoint is written with the next record
        time.sleep(3)
    _make_anew(kafka, ROLLUPS)
    _produce(kafka, records[half:])
    # behind what is to be judged, so that its end says nothing
    _produce(kafka, [replace(records[0], value=b"neither rollup nor tick")] * more)
    with _detect(kafka, tmp_path):
        assert _told(_wait_for(kafka, 2)) == expected


@pytest.mark.row(13)
def test_a_log_that_was_cut_and_grew_beyond_it_again_is_judged_from_its_beginning(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    _produce(kafka, records)
    (low, high) = next(iter({tuple(mark) for mark in _marks(kafka).values() if mark[1]}))
    (first, *_, last) = read_all(kafka, ROLLUPS)
    stage = _Stage(DetectConfig(kafka, tmp_path), 2)
    same, other, gone = (PartitionState(position=high, at=at) for at in (last.kafka_time, last.kafka_time - 1000, 0))
    for state, expected in ((same, high), (other, low), (gone, high)):
        stage.states = {0: state}
        stage._restart_truncated()
        assert state.position == expected
    assert first.offset == low
    assert same.topic == Source(kafka, [ROLLUPS]).topic_id(ROLLUPS)
    stage.states = {0: PartitionState(position=high, at=last.kafka_time, topic="another")}
    stage._restart_truncated()
    assert (stage.states[0].position, stage.states[0].topic) == (low, same.topic)


def _marks(kafka: KafkaConfig) -> dict[int, tuple[int, int]]:
    source = Source(kafka, [ROLLUPS])
    try:
        return source.partitions(ROLLUPS)
    finally:
        source.close()


@pytest.mark.row(17)
@pytest.mark.timeout(240)
def test_a_stage_whose_topic_is_made_anew_under_it_is_started_again(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    """It says so and beats no more, or Faust ends over the missing topic; what would be wrong is to beat on, idle."""
    _produce(kafka, records)
    beats_since: list[str] = []

    def enough(said: list[str]) -> bool:
        if not beats_since and len(_told(_wait_for(kafka, 2, timeout_s=0.1))) == 2:
            _make_anew(kafka, ROLLUPS)
            _produce(kafka, records[:5])
            beats_since.append("made anew")
        elif beats_since:
            beats_since.append(said[-1])
        return "log_cut" in said[-1] or len(beats_since) > 60

    _heartbeat(kafka, tmp_path, enough)
    assert 0 < len(beats_since) <= 60


def test_nothing_to_read_and_nothing_but_aborted_records_is_no_hang(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    _produce(kafka, records[:60])
    producer = TransactionalProducer(kafka, "meter-0")
    producer.begin()
    for record in records[60:70]:
        producer.send(ROLLUPS, record.value, record.key, record.headers, partition=0)
    producer.flush()
    producer.abort()
    producer.close()
    said = _heartbeat(kafka, tmp_path, lambda said: len(said) == 15)
    assert _stuck(said) == 0, said
    assert said[-1] == "beat 0"


@pytest.mark.faults
@pytest.mark.row(51)
def test_a_copy_without_a_partition_is_well_and_idle(kafka: KafkaConfig, records: list[Record], tmp_path: Path) -> None:
    folders = [tmp_path / slot for slot in "012"]
    for folder in folders:
        folder.mkdir()
    with _detect(kafka, folders[0], slot="0"), _detect(kafka, folders[1], slot="1"):
        _produce(kafka, records)
        _wait_for(kafka, 2)
        said = _heartbeat(kafka, folders[2], lambda said: len(said) == 30, slot="2")
    assert _stuck(said) == 0, said


def test_a_topic_that_grew_under_a_kept_state_is_refused_with_the_remedy(kafka: KafkaConfig, tmp_path: Path) -> None:
    import threading

    Admin(kafka).create_topics([Topic(CHANGELOG, 1, {"cleanup.policy": "compact"})], partitions=1)
    with pytest.raises(PartitionMismatchError, match="delete detect-state-changelog"):
        run(DetectConfig(kafka, tmp_path), stop=threading.Event())


BROKEN = """
import sys, threading
from pathlib import Path
from pipelines.detect import app
from pipelines.detect.detectors.surge import Surge
from pipelines.kafka import KafkaConfig
from tailrace import logs

logs.configure(stage="detect")  # as a stage's: structlog's own form prints the whole state with an exception

class Broken(Surge):
    def scan(self, state, buckets):
        if buckets.first + buckets.count * 10_000_000 > int(sys.argv[4]):
            raise ValueError("a bug")
        return super().scan(state, buckets)

configured = app.configure
app.configure = lambda rules: tuple(Broken() if d.name == "surge" else d for d in configured(rules))
config = app.DetectConfig(KafkaConfig(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), checkpoint_s=0.5)
heartbeat = lambda facts: print("isolated", list(facts.isolated), flush=True)
app.run(config, stop=threading.Event(), heartbeat=heartbeat)
"""


def test_a_detector_that_raises_ends_the_stage_once_and_the_others_go_on(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    expected = _told(list(judge(records)))
    _produce(kafka, records)
    env = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'emitter'}"}
    command = [sys.executable, "-c", BROKEN, kafka.bootstrap_servers, kafka.prefix, str(tmp_path)]
    command.append(str(START - HOUR // 2))
    first = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert first.returncode != 0
    assert "detector_isolated" in first.stdout + first.stderr
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as second:
        try:
            assert _told(_wait_for(kafka, len(expected), timeout_s=120)) == expected
            assert second.stdout is not None
            line = next(line for line in second.stdout if "detector surge is left out for app" in line)
            assert "since llm.rollups[0]@" in line
            assert second.poll() is None
        finally:
            second.kill()


FAILING = """
import sys, threading
from pathlib import Path
from pipelines.detect import app
from pipelines.detect.judge import Judge
from pipelines.kafka import KafkaConfig
from tailrace import logs

logs.configure(stage="detect")

def slices(self, state, record):
    raise KeyError("a bug outside the detectors")

Judge.slices = slices
app.run(app.DetectConfig(KafkaConfig(sys.argv[1], sys.argv[2]), Path(sys.argv[3])), stop=threading.Event())
"""


def test_an_error_outside_the_detectors_ends_the_stage_and_is_logged(
    kafka: KafkaConfig, records: list[Record], tmp_path: Path
) -> None:
    """Faust alone would leave the agent dead: the stage would beat on and judge nothing."""
    _produce(kafka, records[:1])
    env = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'emitter'}"}
    command = [sys.executable, "-c", FAILING, kafka.bootstrap_servers, kafka.prefix, str(tmp_path)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "agent_failed" in said
    assert "AppStoppedError" in said
    assert "a bug outside the detectors" in said
