"""Rows 16 and 17 under us: llm.events is deleted, made again and filled past the old offsets while stages read it."""

import re
import shutil
from collections.abc import Callable

import pytest
from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene, spread
from fault_harness.traffic import Sent, Traffic, call

from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker

BEYOND = 300
"""Records of the new log of partition 0 past the old end: what may be taken for a continuation."""


@pytest.mark.faults
@pytest.mark.row(17)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("frozen", [False, True], ids=["awake", "frozen"])
@pytest.mark.parametrize("partitions", [1, 2], ids=["every log is longer", "one log is longer, one shorter"])
def test_row_17_a_topic_made_again_under_running_stages_is_refused_before_a_record_of_it_counts(
    scene: Scene, partitions: int, frozen: bool
) -> None:
    stages, ends = at_work(scene)
    if frozen:  # nobody sees that there is no topic for a moment, or a short one
        for stage in stages:
            stage.stop()
    scene.admin.delete_topics([EVENTS])
    wait_until(lambda: EVENTS not in scene.admin.topics(), 30, "the topic is gone")
    old = scene.traffic.sent
    refused(scene, stages, lambda: refill(scene, ends, partitions))
    adopted(scene, old)


@pytest.mark.faults
@pytest.mark.row(16)
@pytest.mark.timeout(400)
def test_row_16_a_cluster_made_again_under_land_and_meter_is_refused_before_a_record_of_it_lands(
    own_broker: Broker, scenes: Callable[..., Scene]
) -> None:
    scene = scenes(own_broker.bootstrap)
    stages, ends = at_work(scene)
    own_broker.kill()
    shutil.rmtree(own_broker.folder / "data")
    own_broker.start(60)
    refused(scene, stages, lambda: refill(scene, ends, 2))


def at_work(scene: Scene) -> tuple[list[Process], dict[int, int]]:
    """Let land and meter read all that was sent; return them, and where the partitions end."""
    stages = [scene.start("land"), scene.start("meter")]
    spread(scene, 3)
    scene.settle()
    scene.metered()
    ends = {0: 0, 1: 0}
    for partition, offset in scene.traffic.sent.positions:
        ends[partition] = max(ends[partition], offset + 1)
    return stages, ends


def refill(scene: Scene, ends: dict[int, int], partitions: int) -> None:
    """Make the topics that are missing, and fill llm.events at once: partition 0 beyond its old end."""
    scene.admin.create_topics(TOPICS, partitions=partitions)
    scene.traffic = Traffic(scene.kafka.bootstrap_servers, scene.kafka.prefix + EVENTS)
    scene.traffic.send_all((call() for _ in range(ends[0] + BEYOND)), partition=0)
    if partitions > 1:
        scene.traffic.send_all((call() for _ in range(5)), partition=1)
    scene.traffic.flush()


def refused(scene: Scene, stages: list[Process], remake: Callable[[], None]) -> None:
    """All of ``stages`` end and say what to do, and nothing of the new log stands under the old epoch."""
    old, before = scene.traffic.sent, scene.lake.ledger()
    remake()
    for stage in stages:
        stage.cont()
    assert {stage.ended(90) for stage in stages} == {2}, scene.tails()
    for stage in stages:
        assert re.search(r"tailrace topics adopt llm\.", stage.said), stage.tail()
    assert landed(scene) == {0: old.ids}
    assert scene.lake.ledger() == before
    scene.verified()


def adopted(scene: Scene, old: Sent) -> None:
    """`topics adopt`, and both count the new log from its first record."""
    done = scene.tailrace("topics", "adopt", EVENTS)
    assert done.returncode == 0, done.stderr
    new = scene.traffic.sent
    land, meter = scene.start("land"), scene.start("meter")
    wait_until(lambda: len(landed(scene).get(1, ())) == len(new.ids), 60, "the new topic has landed", scene.tails)
    assert landed(scene) == {0: old.ids, 1: new.ids}
    expected = [(0, len(old.ids)), (1, len(new.ids))]
    wait_until(lambda: metered(scene) == expected, 60, f"metered {expected}", lambda: f"{metered(scene)}")
    assert [land.terminate(), meter.terminate()] == [0, 0], scene.tails()
    scene.verified()


def landed(scene: Scene) -> dict[int, set[str]]:
    """Epoch -> ids of the calls that stand under it."""
    found: dict[int, set[str]] = {}
    for epoch, name in scene.lake.rows("raw_calls", "_epoch, id"):
        found.setdefault(int(epoch), set()).add(str(name))
    return found


def metered(scene: Scene) -> list[tuple[int, int]]:
    """(epoch, calls) of the rollups that landed."""
    rows = scene.lake.rows(
        "rollups", "source_epoch, sum(calls)::BIGINT", "dims = 'app' GROUP BY source_epoch ORDER BY source_epoch"
    )
    return [(int(epoch), int(calls)) for epoch, calls in rows]
