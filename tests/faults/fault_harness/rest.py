"""Waiting until nothing moves any more, so that what each stage has made can be compared with the others'."""

from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene
from pipelines.kafka import Source
from schemas.topics import ALERTS, ROLLUPS


def tops(scene: Scene, topic: str) -> dict[int, int]:
    """Partition -> end of ``topic``."""
    source = Source(scene.kafka, [topic], group=None)
    try:
        return {p: high for p, (_, high) in source.partitions(topic).items()}
    finally:
        source.close()


def landed(scene: Scene, topic: str, upto: dict[int, int]) -> bool:
    """Whether the ledger of ``topic`` has reached ``upto``."""
    ledger = scene.lake.ledger(topic)
    return all(ledger.get(p, (0, 0))[1] >= top for p, top in upto.items())


def undelivered(scene: Scene) -> set[tuple[str, int]]:
    """Alerts in the lake that notify has not said to be delivered, as far as its records have landed."""
    alerts = set(scene.lake.rows("alerts", "id, seq"))
    return alerts - set(scene.lake.rows("deliveries", "alert_id, seq", "state = 'delivered'"))


def judged(scene: Scene, detect: Process, upto: dict[int, int]) -> bool:
    """Whether ``detect`` has judged all rollups below ``upto``, less the marker of the last transaction."""
    said = scene.facts("detect")
    positions = said.get("facts", {}).get("position", {})
    return said.get("pid") == detect.pid and all(positions.get(str(p), 0) >= top - 1 for p, top in upto.items())


def rest(scene: Scene, meter: Process, detect: Process, within_s: float = 180.0) -> None:
    """End ``meter``, and wait until detect, notify and land are done with what it said; they go on living."""
    code = meter.terminate(30)
    assert code == 0, f"meter ended with {code} when asked to end\n{meter.tail()}"
    rollups = tops(scene, ROLLUPS)
    wait_until(lambda: judged(scene, detect, rollups), within_s, "all rollups are judged", scene.tails)
    alerts = tops(scene, ALERTS)
    for topic, upto in ((ROLLUPS, {p: top - 1 for p, top in rollups.items()}), (ALERTS, alerts)):
        wait_until(lambda t=topic, u=upto: landed(scene, t, u), within_s, f"{topic} has landed", scene.tails)
    wait_until(lambda: not undelivered(scene), within_s, "all alerts are delivered", lambda: f"{undelivered(scene)}")
