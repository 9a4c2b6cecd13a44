"""Several copies of land and meter share the partitions: copies come, are killed and go under load; nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_harness.postgres import Postgres
from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene, spread

from tailrace.broker import Broker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
SPREAD_S = 3.0
"""Load between two changes."""


class Copies:
    """Copies of land and meter on one scene, each with a home of its own, as on machines of their own."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.running: dict[str, list[Process]] = {}

    def add(self, name: str) -> None:
        home = self.scene.home / name
        home.mkdir(exist_ok=True)
        more = {"TAILRACE_HOME": str(home), "TAILRACE_COPY_NAME": name}
        self.running[name] = [self.scene.start(stage, **more) for stage in ("land", "meter")]
        for process in self.running[name]:
            process.says("share_dealt", 120)
        spread(self.scene, SPREAD_S)

    def kill(self, name: str) -> None:
        for process in self.running.pop(name):
            process.kill()
            self.scene.kills += 1
        spread(self.scene, SPREAD_S)

    def leave(self, name: str) -> None:
        for process in self.running.pop(name):
            process.popen.terminate()
        spread(self.scene, SPREAD_S)


@pytest.fixture
def scene(broker: Broker, postgres: Postgres, scenes: Callable[..., Scene], prefix: str, tmp_path: Path) -> Scene:
    """A lake with its catalog on PostgreSQL: there several may land."""
    database = postgres.database(f"copies_{prefix.strip('.')}")
    # one key for all homes: a user has one pseudonym
    settings: dict[str, Any] = {"TAILRACE_USER_KEY": "a-key-of-this-test-0123456789abcdef"}
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {database}"
    data = str(tmp_path / "shared" / "data")
    return scenes(broker.bootstrap, catalog=catalog, data_path=data, partitions=8, settings=settings)


@pytest.mark.row(5, 52, 71)
def test_one_two_four_and_one_copy_with_kills_under_load_lose_and_double_nothing(scene: Scene) -> None:
    copies = Copies(scene)
    copies.add("a")
    copies.add("b")
    copies.add("c")
    copies.add("d")
    copies.kill("b")
    copies.kill("a")
    copies.add("b")  # the name of one that was killed
    copies.leave("c")
    copies.leave("b")
    assert set(copies.running) == {"d"}
    scene.settle(180)
    scene.metered(180)
    landed = copies.running["d"][0]
    wait_until(lambda: landed.alive, 1, "the last copy runs")
    scene.check()
