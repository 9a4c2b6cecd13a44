"""Waiting until nothing moves any more, so that what each stage has made can be compared with the others'."""

import signal
import time
from collections.abc import Callable, Mapping

from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene
from pipelines.kafka import Source
from schemas.topics import ALERTS, ROLLUPS


def rest(
    scene: Scene,
    running: Mapping[str, Process],
    revive: Callable[..., None] = lambda *names: None,
    within_s: float = 180.0,
) -> None:
    """End meter, and wait until detect, notify and land are done with what it said; they go on living.

    Args:
        scene: theirs.
        running: stage -> its process now.
        revive: called with the names of stages, to start again those of them that have died by plan.
        within_s: for each of the waits.
    """
    _end_meter(running, revive)

    def until(true: Callable[[], object], what: str) -> None:
        def met() -> object:
            revive("land", "detect", "notify")
            return true()

        wait_until(met, within_s, what, scene.tails)

    rollups = tops(scene, ROLLUPS)
    until(lambda: judged(scene, running["detect"], rollups), "all rollups are judged")
    alerts = tops(scene, ALERTS)
    until(lambda: landed(scene, ROLLUPS, {p: top - 1 for p, top in rollups.items()}), "all rollups have landed")
    until(lambda: landed(scene, ALERTS, alerts), "all alerts have landed")
    until(lambda: not undelivered(scene), "all alerts are delivered")


def _end_meter(running: Mapping[str, Process], revive: Callable[..., None]) -> None:
    """Its last transaction must be one that counts: what was aborted at the end of a partition nobody gets to see."""
    code = None
    while code != 0:
        revive("meter")
        meter = running["meter"]
        try:
            meter.says("partitions_assigned", 60)
            time.sleep(1.5)  # it ticks twice a second
        except AssertionError:
            if meter.alive:
                raise
        code = meter.terminate(30) if meter.alive else None
        assert code in (0, None, -signal.SIGKILL), f"meter ended with {code} when asked to end\n{meter.tail()}"


def tops(scene: Scene, topic: str) -> dict[int, int]:
    """Partition -> end of ``topic``."""
    source = Source(scene.kafka, [topic], group=None)
    try:
        return {p: high for p, (_, high) in source.partitions(topic).items()}
    finally:
        source.close()


def landed(scene: Scene, topic: str, upto: Mapping[int, int]) -> bool:
    """Whether the ledger of ``topic`` has reached ``upto``."""
    ledger = scene.lake.ledger(topic)
    return all(ledger.get(p, (0, 0))[1] >= top for p, top in upto.items())


def judged(scene: Scene, detect: Process, upto: Mapping[int, int]) -> bool:
    """Whether ``detect`` has judged all rollups below ``upto``, less the marker of the last transaction."""
    said = scene.facts("detect")
    positions = said.get("facts", {}).get("position", {})
    return said.get("pid") == detect.pid and all(
        positions.get(f"{ROLLUPS}[{p}]", 0) >= top - 1 for p, top in upto.items()
    )


def undelivered(scene: Scene) -> set[tuple[str, int]]:
    """Alerts in the lake that notify has not said to be delivered, as far as its records have landed."""
    alerts = set(scene.lake.rows("alerts", "id, seq"))
    return alerts - set(scene.lake.rows("deliveries", "alert_id, seq", "state = 'delivered'"))
