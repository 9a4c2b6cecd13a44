"""Rows 14 and 61 under the real supervisor: the broker alone is frozen, or everything sleeps, and all goes on."""

import json
import time
from collections.abc import Callable

import pytest
from fault_harness.process import wait_until
from fault_harness.receiver import Receiver
from fault_harness.scene import Scene, spread
from fault_harness.traffic import past, spike
from fault_harness.whole import Up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]
PAST_S = 45 * 60
"""As long as an app must be known before a spike in it rings."""
FROZEN_S, ASLEEP_S = 90, 100
"""Longer than the 60 s after which a stage that says nothing is killed, and than any time-out of a client."""
QUIET_S = 30
WITHIN_S = 240
"""What is waited for comes in seconds; six stages that start at once on a busy machine take minutes."""


@pytest.fixture
def running(up: Up, scenes: Callable[..., Scene]) -> Scene:
    """Everything at work, with a past to judge by."""
    scene = scenes(up.ready()["kafka"]["bootstrap_servers"], home=up.home, prefix="", partitions=4)
    scene.traffic.send_all(past(PAST_S, apps=2, content={"mode": "none"}))  # no texts: drift has a model to load
    scene.settle(WITHIN_S)
    scene.metered(WITHIN_S)
    scene.healthy("detect", WITHIN_S)
    return scene


def goes_on(up: Up, scene: Scene, receiver: Receiver, restarts: dict[str, int]) -> None:
    """Nobody is restarted any more, only what was planted is told, once, and all that was acknowledged is there."""
    scene.settle(WITHIN_S)
    scene.metered(WITHIN_S)
    for stage in ("land", "meter", "detect"):
        scene.healthy(stage, WITHIN_S)
    assert told(scene) == []
    since = up.restarts()
    time.sleep(QUIET_S)
    assert up.restarts() == since, up.tail()
    assert {stage: count - restarts[stage] for stage, count in since.items() if count > restarts[stage]} == {}
    scene.traffic.send_all(spike(1, 80, app=0))
    scene.settle(WITHIN_S)
    wait_until(lambda: told(scene), WITHIN_S, "the spike is in the lake", up.tail)
    wait_until(lambda: receiver.accepted, WITHIN_S, "the spike is told", up.tail)
    scene.metered(WITHIN_S)
    up.process.terminate()
    assert up.process.wait(20) == 0
    assert told(scene) == ["steady-0"]
    assert len(receiver.bodies) == 1
    scene.check(kills=0)


def told(scene: Scene) -> list[str]:
    """Apps of the alerts that fired, in the order of the lake."""
    rows = scene.lake.rows("alerts", "alert", "state = 'firing'")
    return [json.loads(alert)["series"].get("app", "") for (alert,) in rows]


@pytest.mark.row(14)
def test_row_14_a_frozen_broker_makes_the_supervisor_restart_nobody_and_a_spike_behind_it_is_told(
    up: Up, running: Scene, receiver: Receiver
) -> None:
    restarts = up.restarts()
    with up.frozen(up.broker_pid()):
        spread(running, 10, 100)
        time.sleep(FROZEN_S - 10)
    goes_on(up, running, receiver, restarts)


@pytest.mark.row(61)
def test_row_61_all_asleep_at_once_nobody_is_restarted_and_the_gap_is_no_alert(
    up: Up, running: Scene, receiver: Receiver
) -> None:
    restarts = up.restarts()
    spread(running, 5, 100)
    with up.frozen():
        time.sleep(ASLEEP_S)
    spread(running, 5, 100)
    goes_on(up, running, receiver, restarts)
