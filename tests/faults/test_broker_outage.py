"""Rows 12 and 14: the broker dies or freezes under an emitter and two stages."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_harness.scene import Scene, spread

from tailrace.broker import Broker

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
