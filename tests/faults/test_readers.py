"""Row 9: who reads may die in the middle of it; what lands takes no notice."""

import random
import threading

import pytest
from fault_harness.process import Process
from fault_harness.scene import Scene, spread

HEAVY = "SELECT count(*), max(hash(a.id, b.id)) FROM raw_calls AS a, raw_calls AS b, range(1000) AS r"


@pytest.mark.faults
@pytest.mark.row(9)
def test_row_9_readers_killed_in_the_middle_of_a_query_cost_landing_nothing(scene: Scene) -> None:
    land = scene.start("land")
    scene.traffic.good(2_000)
    scene.settle()
    feeding = threading.Thread(target=spread, args=(scene, 15.0), daemon=True)
    feeding.start()
    draw = random.Random(9)
    for n in range(6):
        log = scene.home / f"reader{n}.log"
        reader = Process("sql", ["sql", HEAVY], log, scene.environment())
        scene.processes.append(reader)
        feeding.join(draw.uniform(1.0, 3.0))
        assert reader.alive, reader.tail()
        reader.kill()
    feeding.join()
    scene.settle()
    scene.healthy()
    assert land.alive
    scene.check(kills=0)
