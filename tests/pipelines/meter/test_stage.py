"""meter on the real broker, as a process: exactly once, wherever it is killed."""

import json
import os
import random
import threading
import time
import uuid
from contextlib import nullcontext
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from fault_harness.zygote import Code, Forked

from pipelines.kafka import (
    Admin,
    FencedError,
    KafkaConfig,
    LogTruncatedError,
    Producer,
    Source,
    TopicReplacedError,
    TransactionalProducer,
)
from pipelines.meter import MeterConfig, combine, run, stage
from pipelines.meter.counting import Counting
from pipelines.meter.plan import Plan
from pipelines.meter.wire import decode
from pipelines.pricing import PriceBooks, default_book
from schemas.errors import KafkaUnavailableError
from schemas.records import Records
from schemas.rollups import Sample, Tick
from schemas.topics import EVENTS, PRICES, ROLLUPS, SAMPLES, TOPICS
from tailrace.broker import Broker

REPO = Path(__file__).parents[3]
PARTITIONS = 3
PROGRAM = """
import signal, sys, threading, time
from pipelines.kafka import KafkaConfig
from pipelines.meter import MeterConfig, run
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run(
    MeterConfig(KafkaConfig(sys.argv[1], sys.argv[2]), batch_wait_s=0.05, batch_rows=300, tick_s=0.2),
    stop=stop,
    now=lambda: time.time_ns() // 1000,
)
"""


@pytest.fixture
def config(broker, prefix):
    config = KafkaConfig(broker.bootstrap, prefix)
    wanted = (EVENTS, ROLLUPS, SAMPLES, PRICES)
    Admin(config).create_topics([t for t in TOPICS if t.name in wanted], partitions=PARTITIONS)
    return config


def emit(config, count, *, seed=0, first=0):
    """Good events, bad ones and resent ones, over all partitions; returns how many distinct calls."""
    rng, producer, ids = random.Random(seed), Producer(config), set()
    for i in range(first, first + count):
        n = i if rng.random() > 0.05 else max(0, i - PARTITIONS * rng.randrange(1, 20))
        value = {
            "v": 1,
            "type": "call",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))),
            "ts": 1_795_000_000_000 + n * 50,
            "app": f"app{n % 2}",
            "model": "gpt-4o",
            "user": f"u{n % 40}",
            "tokens": {"input": n, "output": 5},
            "latency": {"total_ms": 10.0 + n % 900},
            "content": {"input": [{"role": "user", "text": f"question {n}"}]},
        }
        bad = rng.random() < 0.02
        producer.send(EVENTS, b"{" if bad else json.dumps(value).encode(), partition=n % PARTITIONS)
        if not bad:
            ids.add(n)
    producer.flush()
    return len(ids)


def read(config, topic):
    """All committed records of ``topic``."""
    source = Source(config, [topic], batch_wait_s=0.3)
    ends = {(topic, p): high for p, (_, high) in source.partitions(topic).items()}
    source.assign(dict.fromkeys(ends))
    found = []
    while any(source.positions()[at] < end for at, end in ends.items()):
        for batch in source.poll():
            found += batch.rows()
    source.close()
    return found


def rollups(records):
    return [(r, dict(r.headers)) for r in records if dict(r.headers)["kind"] == b"rollup"]


def tiles(records):
    """Partition -> spans of the key "*", in the order of the topic."""
    found = {}
    for record, headers in rollups(records):
        if record.key == b"*" and headers["part"].startswith(b"1/"):
            span = (int(headers["from"]), int(headers["to"]))
            found.setdefault(int(headers["partition"]), []).append(span)
    return found


def assert_tiled(config, records):
    source = Source(config, [EVENTS])
    ends = {p: high for p, (_, high) in source.partitions(EVENTS).items()}
    source.close()
    for partition, spans in tiles(records).items():
        edge = 0
        for start, end in spans:
            assert start == edge, f"partition {partition}: {spans}"
            edge = end
        assert edge == ends[partition]


def expected(config):
    """The rollups of the whole log, counted in one go without any process."""
    state = Counting(Plan(), epoch=0, samples_per_s=20.0 / PARTITIONS)
    found = []
    for partition in range(PARTITIONS):
        rows = [r for r in read(config, EVENTS) if r.partition == partition]
        batch = Records(
            EVENTS,
            [partition] * len(rows),
            [r.offset for r in rows],
            [r.kafka_time for r in rows],
            [r.key for r in rows],
            [r.value for r in rows],
            [r.headers for r in rows],
            {partition: (0, len(rows))},
        )
        found.append(state.count(batch, PriceBooks([default_book()]), wall=0))
    return found


def start(config, fault=""):
    env = {**os.environ, "TAILRACE_FAULT": fault}
    code = Code(PROGRAM, ("pipelines.meter",))
    return Forked([config.bootstrap_servers, config.prefix], Path(os.devnull), env, code)


def wait_until_metered(config, timeout_s=60.0):
    source = Source(config, [EVENTS], group="meter")
    ends = {p: high for p, (_, high) in source.partitions(EVENTS).items()}
    deadline = time.monotonic() + timeout_s
    while {p: offset for p, (offset, _) in source.committed(EVENTS, ends).items()} != ends:
        assert time.monotonic() < deadline, f"meter stands at {source.committed(EVENTS, ends)} of {ends}"
        time.sleep(0.1)
    source.close()


def in_thread(config, **options):
    """Run the stage in this process; returns what ends it, and its beats."""
    stop, beats = threading.Event(), []
    settings = MeterConfig(config, **{"batch_wait_s": 0.05, "tick_s": 0.2, **options})
    thread = threading.Thread(
        target=run,
        args=(settings,),
        kwargs={
            "stop": stop,
            "now": lambda: time.time_ns() // 1000,
            "heartbeat": lambda facts: beats.append(facts.flat()),
        },
        daemon=True,
    )
    thread.start()

    def end():
        stop.set()
        thread.join(60)
        assert not thread.is_alive()

    return end, beats


@pytest.mark.row(5)
def test_killed_anywhere_every_event_is_counted_once(config):
    plan = ("meter.before_commit:kill:2", "meter.after_commit:kill:3", "meter.before_produce:kill:2")
    for i, fault in enumerate(plan):
        emit(config, 700, seed=i, first=i * 700)
        process = start(config, fault)
        assert process.wait(60) == -9, "the fault point was reached"
    emit(config, 500, seed=9, first=2100)
    process = start(config)
    wait_until_metered(config)
    process.terminate()
    assert process.wait(10) == 0

    records = read(config, ROLLUPS)
    assert_tiled(config, records)
    truth = expected(config)
    for key in (b"app0", b"app1", b"*"):
        found = [decode(r.value) for r, _ in rollups(records) if r.key == key]
        wanted = [decode(m.value) for one in truth for m in one.rollups if m.key == key]
        assert combine(found) == combine(wanted)
    everything = combine([decode(r.value) for r, _ in rollups(records)])
    assert sum(r["calls"] for r in everything.to_pylist() if r["dims"] == "") == sum(one.calls for one in truth)
    samples = [Sample(**json.loads(r.value)) for r in read(config, SAMPLES)]
    positions = [(s.partition, s.offset, s.side) for s in samples]
    assert len(set(positions)) == len(positions), "no text twice"
    assert sorted(positions) == sorted((s.partition, s.offset, s.side) for one in truth for s in one.samples)


def test_ticks_reach_every_partition_even_when_nothing_happens(config):
    emit(config, 30)
    end, beats = in_thread(config)
    wait_until_metered(config)
    time.sleep(1.2)
    end()
    ticks = [r for r in read(config, ROLLUPS) if dict(r.headers) == {"kind": b"tick"}]
    by_partition = {p: [Tick.from_json(r.value) for r in ticks if r.partition == p] for p in range(PARTITIONS)}
    for found in by_partition.values():
        assert len(found) >= 4
        assert sum(s.next_offset for s in found[-1].sources.values()) == 30
        assert all(s.max_ts > 0 and s.busy_wall > 0 for s in found[-1].sources.values())
    assert beats[-1]["lag"] == 0
    assert sum(beats[-1]["position"].values()) == 30


@pytest.mark.row(54)
def test_what_retention_took_is_a_hole_and_the_rest_goes_on(config):
    emit(config, 60)
    end, _ = in_thread(config)
    wait_until_metered(config)
    end()
    emit(config, 60, first=60)
    before = sorted(spans[-1][1] for spans in tiles(read(config, ROLLUPS)).values())
    Admin(config).delete_records({(EVENTS, p): 30 for p in range(PARTITIONS)})
    end, _ = in_thread(config)
    wait_until_metered(config)
    end()
    found = tiles(read(config, ROLLUPS))
    assert all(end < 30 for end in before), "the deleted span reaches behind what was counted"
    assert all(any(start == 30 for start, _ in spans) for spans in found.values())
    assert sum(end - start for spans in found.values() for start, end in spans) == sum(before) + 120 - 3 * 30


def running(beats):
    return any(beat["state"] == "running" for beat in beats)


def counted_by(records):
    """Partition -> the copies that counted it, by their ticks."""
    found = {}
    for record in records:
        if dict(record.headers)["kind"] == b"tick":
            tick = Tick.from_json(record.value)
            for partition in tick.sources:
                found.setdefault(partition, set()).add(tick.slot)
    return found


@pytest.mark.row(53)
def test_copies_share_the_partitions_which_move_when_a_copy_comes_or_goes(config, monkeypatch):
    monkeypatch.setattr("pipelines.meter.stage._LOOK_S", 0.3)
    monkeypatch.setattr("pipelines.kafka.membership._REFRESH_MS", 300)
    end_a, _ = in_thread(config, copy_name="a")
    emit(config, 300)
    wait_until_metered(config)
    assert counted_by(read(config, ROLLUPS)) == {p: {"a"} for p in range(PARTITIONS)}
    end_b, beats = in_thread(config, copy_name="b")
    emit(config, 300, seed=2, first=300)
    while not running(beats):
        time.sleep(0.05)
    Admin(config).add_partitions(EVENTS, PARTITIONS + 1)
    producer = Producer(config, settings={"topic.metadata.refresh.interval.ms": 200})
    producer.send(EVENTS, b"bad", partition=PARTITIONS)
    producer.flush()
    wait_until_metered(config)
    end_a()  # b goes on with all of them, from where a committed
    emit(config, 300, seed=3, first=600)
    wait_until_metered(config)
    end_b()
    records = read(config, ROLLUPS)
    assert_tiled(config, records)
    assert set(tiles(records)) == set(range(PARTITIONS + 1))
    assert all("b" in copies for copies in counted_by(records).values())


@pytest.mark.row(53)
def test_a_copy_that_lost_its_share_unnoticed_commits_nothing(config, monkeypatch):
    """As one that was frozen while its partitions were dealt to others: the brokers refuse the old generation."""
    monkeypatch.setattr("pipelines.kafka.membership.Membership.require", lambda self, share: None)
    end_a, beats_a = in_thread(config, copy_name="a")
    emit(config, 100)
    wait_until_metered(config)
    end_b, beats_b = in_thread(config, copy_name="b")
    while not running(beats_b):
        time.sleep(0.05)
    emit(config, 300, seed=2, first=100)
    wait_until_metered(config)
    end_a()
    end_b()
    assert_tiled(config, read(config, ROLLUPS))
    assert any(beat["state"] == "retrying" for beat in beats_a)


@pytest.mark.row(39)
def test_a_partition_that_the_client_forgot_makes_meter_start_over_and_nothing_is_lost(config, monkeypatch):
    monkeypatch.setattr("pipelines.meter.stage._LOOK_S", 0.2)
    made = []

    class Forgetful(Source):
        """The first of them drops one partition, as a resume that was lost would (librdkafka#5591)."""

        def assign(self, positions):
            super().assign(positions)
            made.append(self)
            if positions and made[0] is self:
                self._consumer.pause([TopicPartition(self.config.on_wire(EVENTS), 1)])

    monkeypatch.setattr("pipelines.meter.stage.Source", Forgetful)
    emit(config, 300)
    end, beats = in_thread(config, stalled_s=1.0)
    wait_until_metered(config)
    end()
    assert any("has stood at 0" in (beat["error"] or "") for beat in beats)
    assert_tiled(config, read(config, ROLLUPS))


@pytest.mark.row(17)
def test_a_topic_made_again_is_refused_until_it_is_adopted(config):
    emit(config, 60)
    end, _ = in_thread(config)
    wait_until_metered(config)
    end()
    source = Source(config, [EVENTS], group="meter")
    assert source.committed(ROLLUPS, range(PARTITIONS)) == {}, "monitors would show that as a lag for ever"
    source.close()
    admin = Admin(config)
    admin.delete_topics([EVENTS])
    while EVENTS in admin.topics():
        time.sleep(0.1)
    admin.create_topics([t for t in TOPICS if t.name == EVENTS], partitions=PARTITIONS)
    emit(config, 90)
    stop = threading.Event()
    giving_up = threading.Timer(20, stop.set)
    giving_up.start()
    with pytest.raises(TopicReplacedError, match="topics adopt"):
        run(MeterConfig(config), stop=stop, now=lambda: 0)
    giving_up.cancel()
    end, _ = in_thread(config, epoch=1)
    wait_until_metered(config)
    end()
    adopted = [h for r, h in rollups(read(config, ROLLUPS)) if r.key == b"*" and h["epoch"] == b"1"]
    assert sum(int(h["to"]) - int(h["from"]) for h in adopted) == 90


@pytest.mark.row(16)
def test_a_log_that_was_cut_is_refused_until_it_is_adopted(config):
    emit(config, 60)
    end, _ = in_thread(config)
    wait_until_metered(config)
    end()
    source = Source(config, [EVENTS], group="meter")
    source.commit({(EVENTS, 0): 10_000})  # what a position is once acknowledged records are gone; the id stays
    deadline = time.monotonic() + 20
    while source.committed(EVENTS, [0])[0][0] != 10_000:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    source.close()
    with pytest.raises(LogTruncatedError, match="topics adopt"):
        run(MeterConfig(config), stop=threading.Event(), now=lambda: 0)
    for _ in range(2):  # the second one must find no position of the old epoch
        end, _ = in_thread(config, epoch=1)
        wait_until_metered(config)
        end()
    counted = [h for r, h in rollups(read(config, ROLLUPS)) if r.key == b"*" and h["epoch"] == b"1"]
    assert {h["partition"] for h in counted} == {b"0"}, "the others go on where they stood"
    assert counted[0]["from"] == b"0"


@pytest.mark.slow
def test_a_broker_that_pauses_and_dies_under_it_leaves_no_hole(tmp_path):
    with Broker(tmp_path) as own:
        config = KafkaConfig(own.bootstrap, "t-outage.")
        Admin(config).create_topics(TOPICS, partitions=PARTITIONS)
        end, beats = in_thread(config)
        while not beats:
            time.sleep(0.1)
        emit(config, 300)
        own.pause()
        time.sleep(8)
        own.resume()
        wait_until_metered(config)
        emit(config, 300, seed=1, first=300)
        own.kill()
        time.sleep(1)
        own.start()
        wait_until_metered(config, timeout_s=120)
        end()
        assert_tiled(config, read(config, ROLLUPS))


class Sessions:
    """What each session of a meter meets, one after the other: an error at its start, or at its first step."""

    topic_id = "as before"

    def __init__(self, stop: threading.Event, *met: tuple[str, Exception]) -> None:
        self.stop, self.met = stop, list(met)

    def __call__(self, *_: object) -> "Sessions":
        self.error = self.met.pop(0) if self.met else None
        if self.error and self.error[0] == "start":
            raise self.error[1]
        return self

    def step(self) -> None:
        if self.error:
            raise self.error[1]
        self.stop.set()

    def close(self) -> None:
        pass


AWAY = ("start", KafkaUnavailableError("localhost:9", "start transactions", "timed out"))
FENCED = ("step", FencedError("meter-0", "fenced by a newer instance"))


@pytest.mark.parametrize(
    ("met", "ends"),
    [((AWAY, FENCED), True), ((FENCED,), False), ((AWAY, FENCED, FENCED), False), ((AWAY, FENCED, AWAY, FENCED), True)],
)
def test_a_start_that_was_given_up_may_fence_its_successor_once(
    met: tuple[tuple[str, Exception], ...], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # row 14: a broker frozen for 70 s answered the abandoned starts after the one that counted
    stop = threading.Event()
    monkeypatch.setattr(stage, "_Session", Sessions(stop, *met))
    with nullcontext() if ends else pytest.raises(FencedError):
        stage.run(stage.MeterConfig(KafkaConfig("nowhere")), stop=stop, now=lambda: 0)
    assert stop.is_set() is ends


def test_it_continues_where_an_older_meter_committed_and_commits_on_no_other_topic(config):
    emit(config, 60)
    source = Source(config, [EVENTS], group="meter")
    half = {p: high // 2 for p, (_, high) in source.partitions(EVENTS).items()}
    times = {(r.partition, r.offset): r.kafka_time for r in read(config, EVENTS)}
    notes = {(EVENTS, p): f"0 {times[p, offset - 1]}" for p, offset in half.items()}
    older = TransactionalProducer(config, "tailrace-meter-0")
    older.begin()
    topic_id = source.topic_id(EVENTS)
    notes[ROLLUPS, 0] = f"0 {topic_id}"
    older.commit({(ROLLUPS, 0): 0, **{(EVENTS, p): offset for p, offset in half.items()}}, source, notes=notes)
    older.close()
    end, _ = in_thread(config)
    wait_until_metered(config)
    end()
    assert {p: spans[0][0] for p, spans in tiles(read(config, ROLLUPS)).items()} == half
    assert {note.split()[::2] == ["0", topic_id] for _, note in source.committed(EVENTS, half).values()} == {True}
    assert {Tick.from_json(r.value).topic_id for r in read(config, ROLLUPS) if dict(r.headers)["kind"] == b"tick"} == {
        topic_id
    }
    source.close()
