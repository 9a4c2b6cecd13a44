"""Row 62: the wall clock jumps while land is at work."""

import threading
import time

import pytest
from fault_harness.scene import Scene
from fault_harness.traffic import PRICES

from pipelines.land import LandConfig, run
from schemas.stage_facts import HeartbeatCallback, StageFacts

pytestmark = pytest.mark.faults
HOUR_US = 3_600_000_000


@pytest.mark.row(62)
def test_row_62_a_clock_that_jumps_an_hour_back_and_a_day_ahead_changes_no_row(scene: Scene) -> None:
    shift = 0

    def now() -> int:
        return time.time_ns() // 1000 + shift

    stop, beats = threading.Event(), list[StageFacts]()
    beat: HeartbeatCallback = beats.append
    config = LandConfig(scene.kafka, scene.lake_config, batch_wait_s=0.2, price_overrides=PRICES)
    land = threading.Thread(target=run, args=(config,), kwargs={"stop": stop, "now": now, "heartbeat": beat})
    land.start()
    try:
        for shift in (0, -HOUR_US, 24 * HOUR_US, 0):  # noqa: B007 - the clock reads it
            scene.traffic.good(50)
            scene.settle()
            heard = len(beats)
            time.sleep(1.5)
            assert len(beats) > heard, "land fell silent after the clock jumped"
    finally:
        stop.set()
        land.join(30)
    assert not land.is_alive()
    scene.check()
