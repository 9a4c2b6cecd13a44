"""Sequences of actions that found something once, or that a random program would seldom draw, played as they stand."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from fault_harness.alerts import told_right
from fault_harness.program import Action, Program
from fault_harness.traffic import Traffic, call

from pipelines.kafka import Admin, KafkaConfig, Source
from pipelines.kafka.errors import unified
from pipelines.meter.counting import Counting
from pipelines.meter.plan import DEFAULT
from pipelines.meter.warmup import warm_up
from pipelines.pricing.published import PriceFeed
from schemas.errors import RetryableError
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Make a program, do its actions, validate at the end."""
    programs: list[Program] = []

    def run(*actions: Action) -> Program:
        programs.append(Program(tmp_path))
        for name, *arguments in [*actions, ["validate"]]:
            getattr(programs[-1], name)(*arguments)
        return programs[-1]

    yield run
    for program in programs:
        program.close()


@pytest.mark.faults
@pytest.mark.row(6, 7)
def test_every_way_to_die_around_an_alert_tells_it_under_one_id(play: Callable[..., Program]) -> None:
    program = play(
        ["crash", "detect", "before_send", 1],
        ["crash", "notify", "before_post", 1],
        ["spike", 1, 80, 0],
        ["dies", "detect"],
        ["dies", "notify"],
        ["crash", "detect", "after_send", 1],
        ["answer"],
        ["spike", 2, 80, 1],
        ["dies", "detect"],
        ["dies", "notify"],
        ["crash", "notify", "after_mark", 1],
        ["crash", "meter", "before_commit", 2],
        ["spike", 3, 80, 2],
        ["dies", "meter"],
        ["dies", "notify"],
    )
    assert program.told >= 3
    assert program.receiver.redelivered >= 1
    # the check must be able to fail: forget that one was heard
    program.receiver.accepted = [one for one in program.receiver.accepted if one != program.receiver.accepted[0]]
    with pytest.raises(AssertionError, match="never accepted"):
        told_right(program.scene.lake, program.receiver)


@pytest.mark.faults
@pytest.mark.row(8)
def test_maintain_killed_at_its_commits_and_deletions_changes_nothing_that_is_read(
    play: Callable[..., Program],
) -> None:
    rounds: list[Action] = []
    for what, suffix, nth in (("write", "-wal", 30), ("fsync", "-wal", 3), ("unlink", "", 2), ("write", "", 5)):
        rounds += [["good", nth, 200], ["sleep", 1.5], ["bad", nth, 3], ["sleep", 1.5], ["kill", "land"]]
        rounds += [["start", "land"], ["good", nth + 100, 100], ["sleep", 20], ["age"]]
        rounds += [["kill_maintain", what, suffix, nth], ["age"]]
    program = play(*rounds, ["validate"], ["age"], ["maintain"], ["expire"])
    assert program.kept["maintain killed"] >= 2
    assert program.kept["maintained"] >= 1


@pytest.mark.row(14)
def test_a_broker_that_is_fenced_for_a_moment_is_worth_another_try() -> None:
    # zippy: a broker frozen for 14 s, or starved by others, said so to who made or grew a topic next
    said = "Unable to replicate the partition 1 time(s): All brokers are currently fenced."
    error = KafkaError(KafkaError.INVALID_REPLICATION_FACTOR, said)
    assert isinstance(unified(error, "localhost:9092", "create topic x"), RetryableError)


@pytest.mark.row(5)
def test_a_meter_that_comes_back_reads_on_in_every_partition_without_pausing_one(broker: Broker, prefix: str) -> None:
    # zippy, seed 20261121: one of four partitions stood still for good, behind a lag that nobody worked off; what was
    # paused, assigned and resumed may stay paused (librdkafka#5591), one time in hundreds: so the pause is forbidden
    class Unpaused(Source):
        def pause(self, partitions: Iterable[tuple[str, int]]) -> None:
            raise AssertionError("a resume behind it may be lost")

    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics(TOPICS, partitions=2)
    traffic, sizes = Traffic(broker.bootstrap, prefix + EVENTS), {0: 300, 1: 3000}
    for partition, size in sizes.items():
        traffic.send_all((call() for _ in range(size)), partition=partition)
    traffic.flush()
    positions = {0: 200, 1: 2900}
    source = Unpaused(config, [EVENTS], group="meter")
    feed = PriceFeed(config)
    warm_up(
        source,
        Counting(DEFAULT, epoch=0, samples_per_s=20.0),
        positions,
        feed.books(),
        stop=threading.Event(),
        heartbeat=lambda: None,
        now=lambda: time.time_ns() // 1000,
    )
    read: dict[int, list[int]] = {0: [], 1: []}
    until = time.monotonic() + 30
    while source.positions() != {(EVENTS, p): size for p, size in sizes.items()} and time.monotonic() < until:
        for batch in source.poll():
            for partition, offset in zip(batch.partitions, batch.offsets, strict=True):
                read[partition].append(offset)
    source.close()
    feed.close()
    assert read == {p: list(range(positions[p], size)) for p, size in sizes.items()}
