"""Rows 1 to 4, 44 and 54: land is killed, stopped and fed twice."""

import shutil
import time

import pytest
from fault_harness.process import killer
from fault_harness.scene import Scene

from pipelines.kafka import TransactionalProducer
from schemas.topics import EVENTS

KILL_POINTS = {
    1: "land.after_poll:kill:3",
    2: "land.after_insert:kill:3",
    4: "land.after_commit:kill:3",
}


def killed_at(scene: Scene, fault: str) -> int:
    """Feed land until it dies at ``fault``, then let another finish; return how many orphans the dead one left."""
    land = scene.start("land", fault=fault)
    land.says("land_assigned")
    for _ in range(200):
        if not land.alive:
            break
        scene.traffic.good(40)
        scene.traffic.send(b"not json")
        scene.traffic.flush()
        time.sleep(0.1)
    scene.killed(land, 5)
    assert not scene.caught_up() or "after_commit" in fault
    orphans = len(scene.lake.orphans())
    again = scene.land_until_settled()
    assert again.terminate() == 0
    scene.check(kills=int(orphans > 0))
    return orphans


@pytest.mark.row(1)
def test_row_01_a_lander_killed_before_the_insert_reads_the_batch_again(scene: Scene) -> None:
    assert killed_at(scene, KILL_POINTS[1]) == 0


@pytest.mark.row(2)
def test_row_02_a_lander_killed_after_the_insert_leaves_an_orphan_and_lands_once(scene: Scene) -> None:
    assert killed_at(scene, KILL_POINTS[2]) > 0


@pytest.mark.row(4)
def test_row_04_a_lander_killed_after_its_commit_goes_on_from_the_lake(scene: Scene) -> None:
    assert killed_at(scene, KILL_POINTS[4]) == 0


@pytest.mark.faults
@pytest.mark.parametrize("fault", [pytest.param(KILL_POINTS[n], marks=pytest.mark.row(n)) for n in (2, 4)])
def test_positions_without_a_record_land_once_wherever_the_lander_is_killed(scene: Scene, fault: str) -> None:
    app = TransactionalProducer(scene.kafka, "an-app")
    land = scene.start("land", fault=fault)
    land.says("land_assigned")
    for n in range(200):
        if not land.alive:
            break
        scene.traffic.good(20)
        scene.traffic.flush()
        app.begin()
        app.send(EVENTS, b"aborted, and never seen", partition=n % 2)
        app.flush()
        app.abort()
    scene.killed(land, 5)
    scene.land_until_settled().terminate()
    app.close()
    assert scene.lake.rows("no_record_ranges", "1"), "the aborted records are nowhere"
    assert not scene.lake.rows("dead", "1")
    assert not scene.lake.rows("gaps", "1")
    scene.check(kills=1)


@pytest.mark.faults
@pytest.mark.row(3)
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed (make setup-system)")
def test_row_03_a_lander_killed_inside_its_commit_shows_all_or_nothing(scene: Scene) -> None:
    scene.traffic.good(50)
    scene.land_until_settled().terminate()
    # SQLite's n-th write to its log, its fsync, its writes back into the file: moments inside a COMMIT, by name
    for call, file, nth in (("write", "-wal", 2), ("write", "-wal", 13), ("fsync", "-wal", 1), ("write", "", 2)):
        land = scene.start("land")
        land.says("land_assigned")
        with killer(land, call, f"{scene.catalog}{file}", nth):
            scene.traffic.good(60)
            scene.traffic.send(b"{")
            scene.traffic.flush()
            scene.killed(land)
    scene.land_until_settled()
    scene.check()
