"""Rows 12 and 14: the broker dies or freezes under an emitter and two stages."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_harness.process import wait_until
from fault_harness.scene import Scene, spread

from pipelines.kafka import Admin, KafkaConfig, Source
from pipelines.kafka.config import TIMEOUT_S
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker
from tailrace.supervisor.stages import STAGES

PAUSE_S = 70
"""Longer than librdkafka's socket time-out of 60 s, so that requests die and not only wait."""


@pytest.fixture
def running(own_broker: Broker, scenes: Callable[..., Scene]) -> Scene:
    """Land and meter at work."""
    scene = scenes(own_broker.bootstrap)
    land, meter = scene.start("land"), scene.start("meter")
    scene.traffic.good(100)
    scene.settle()
    land.says("batch_landed")
    meter.says("batch_metered")
    return scene


def emitting(scene: Scene, seconds: float) -> threading.Thread:
    thread = threading.Thread(target=spread, args=(scene, seconds, 100), daemon=True)
    thread.start()
    return thread


def ends_well(scene: Scene) -> None:
    scene.settle(120)
    scene.healthy("land", 60)
    scene.healthy("meter", 60)
    assert [p.alive for p in scene.processes] == [True, True], scene.tails()
    scene.metered()
    assert [p.terminate() for p in scene.processes] == [0, 0], scene.tails()
    scene.check(kills=1)


@pytest.mark.row(12)
def test_row_12_acknowledged_events_survive_the_brokers_kill(
    running: Scene, own_broker: Broker, tmp_path: Path
) -> None:
    thread = emitting(running, 6)
    running.settle(60)
    own_broker.kill()
    own_broker.start(60)
    thread.join()
    ends_well(running)


@pytest.mark.faults
@pytest.mark.row(14)
@pytest.mark.timeout(400)
def test_row_14_a_broker_that_is_frozen_costs_time_and_nothing_else(running: Scene, own_broker: Broker) -> None:
    thread = emitting(running, 10)
    own_broker.pause()
    try:
        assert not threading.Event().wait(PAUSE_S)
    finally:
        own_broker.resume()
    thread.join()
    ends_well(running)


@pytest.mark.row(14)
def test_row_14_a_reader_lets_go_of_a_frozen_broker_before_a_supervisor_would_think_that_it_hangs(
    own_broker: Broker,
) -> None:
    """A commit that is under way when the broker freezes holds up the end of the reader for as long as it is frozen."""
    kafka = KafkaConfig(own_broker.bootstrap)
    Admin(kafka).create_topics([t for t in TOPICS if t.name == EVENTS], partitions=1)
    source = Source(kafka, [EVENTS], group="lets-go")
    source.assign({(EVENTS, 0): 0})
    source.commit({(EVENTS, 0): 0})
    wait_until(lambda: source.committed(EVENTS, [0]), 60, "the group has its coordinator")
    own_broker.pause()
    try:
        source.commit({(EVENTS, 0): 0})
        closing = threading.Thread(target=source.close, daemon=True)
        closing.start()
        closing.join(min(stage.stall_after_s for stage in STAGES) - TIMEOUT_S)  # a question before it went unanswered
        assert not closing.is_alive()
    finally:
        own_broker.resume()
