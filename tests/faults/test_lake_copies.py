"""`lake move`, `backup` and `restore` to PostgreSQL and a bucket and back, killed on the way, run again, row by row."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fault_harness.bucket import Bucket, server
from fault_harness.mirror import Mirror
from fault_harness.postgres import Postgres
from fault_harness.rawlake import RawLake
from fault_harness.scene import Scene
from fault_harness.traffic import past, spike

from schemas.tables import TABLES
from schemas.topics import LANDED
from warehouse.storage.connect import LakeConfig

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), pytest.mark.row(72)]
DAYS = 5
KILLS = ("copy.after_insert:kill:2", "copy.after_insert:kill:1", "copy.after_commit:kill:3", "copy.after_insert:kill:3")
"""Inside a transaction, when its files are there, and between two."""


class OnServers(Scene):
    """A scene whose lake is in a new PostgreSQL database and a new bucket."""

    def __init__(self, bootstrap: str, home: Path, *, postgres: Postgres, port: int, **how: Any) -> None:
        self.mirror = Mirror(Bucket(port), home.with_suffix(".mirror"))
        database = postgres.database(self.mirror.bucket.name)
        self.environment_of_lake = {
            **self.mirror.bucket.environment,
            "TAILRACE_LAKE__CATALOG": f"postgres:host=127.0.0.1 port={postgres.port} {database}",
        }
        super().__init__(bootstrap, home, settings=self.environment_of_lake, **how)
        self.catalog = self.direct = self.environment_of_lake["TAILRACE_LAKE__CATALOG"]

    @property
    def lake(self) -> RawLake:
        return self.mirror.lake(self.catalog)

    @property
    def lake_config(self) -> LakeConfig:
        config = self.mirror.bucket.config(Path(), self.mirror.bucket.port)
        return LakeConfig(self.catalog, config.data_path, settings=config.settings)


@pytest.fixture
def servers(postgres: Postgres, scene: Scene, tmp_path: Path) -> Iterator[Callable[[str], OnServers]]:
    """Make scenes on the topics of ``scene`` with other lakes; they share its traffic."""
    made: list[OnServers] = []
    with server(tmp_path / "s3.log") as port:

        def make(name: str) -> OnServers:
            kafka = scene.kafka
            how = {"prefix": kafka.prefix, "postgres": postgres, "port": port}
            made.append(OnServers(kafka.bootstrap_servers, tmp_path / name, **how))
            made[-1].traffic = scene.traffic
            return made[-1]

        yield make
        for each in made:
            each.close()


@pytest.fixture
def landed(scene: Scene) -> Scene:
    """A lake on SQLite and a folder: calls of several days, dead events, rollups, ticks and alerts."""
    stages = [scene.start(name) for name in ("land", "meter", "detect")]
    scene.traffic.send_all(past(45 * 60, 2))
    for day in range(DAYS):
        scene.traffic.good(200, ts=int(time.time() * 1000) - day * 86_400_000)
        scene.traffic.send(b"not json", partition=day % 2, bad=True)
    scene.settle()
    scene.traffic.send_all(spike(1, 80, 0))
    scene.settle()
    scene.metered()
    for process in reversed(stages):
        assert process.terminate() == 0
    at_rest(scene)
    return scene


def at_rest(scene: Scene) -> None:
    """Let land take in everything that there is, and end."""
    land = scene.start("land")
    scene.settle()
    scene.healthy()
    assert land.terminate() == 0


def same(one: RawLake, other: RawLake) -> Mapping[str, int]:
    """Return table -> rows; fails where a row of the Parquet files, or a position, is in only one of the two."""
    counts, names = {}, {table.name for table in TABLES}
    assert one.all_files().keys() & names == other.all_files().keys() & names
    for table in one.all_files().keys() & names:
        whole = one.table(table, "*")
        assert whole is not None
        columns = ", ".join(f'"{c}"' for c in whole.column_names if c != "file_row_number")
        here, there = one.table(table, columns), other.table(table, columns)
        differing = "(FROM here EXCEPT ALL FROM there) UNION ALL (FROM there EXCEPT ALL FROM here)"
        assert here is not None
        assert there is not None
        with duckdb.connect() as connection:
            connection.register("here", here)
            connection.register("there", there)
            assert not connection.execute(differing).fetchall(), table
        counts[table] = here.num_rows
    for topic in LANDED:
        assert one.ledger(topic) == other.ledger(topic)
    return counts


def killed_and_run_again(scene: Scene, *command: str) -> None:
    """Kill a command at each of KILLS, each time farther on, and let it end."""
    for kill in KILLS:
        died = scene.tailrace(*command, TAILRACE_FAULT=kill)
        assert died.returncode == -9, died.stdout + died.stderr
    done = scene.tailrace(*command)
    assert done.returncode == 0, done.stderr
    assert "are equal" in done.stdout


def refused(scene: Scene) -> None:
    """land ends at once and names the remedy: nothing lands in half a lake."""
    before = scene.lake.ledger()
    land = scene.start("land")
    assert land.ended(60) == 2, land.tail()
    assert "did not finish" in land.said
    assert scene.lake.ledger() == before == {}


def goes_on(scene: OnServers) -> None:
    """New events land behind those that were copied; everything that was ever sent is there once."""
    scene.traffic.good(300)
    at_rest(scene)
    scene.check(kills=len(KILLS) + 1)


def test_a_lake_is_moved_backed_up_and_restored_through_kills_row_by_row(
    landed: Scene, servers: Callable[[str], OnServers], tmp_path: Path
) -> None:
    before = landed.lake
    moved = servers("moved")
    keys = {k: v for k, v in moved.environment_of_lake.items() if "S3" in k}
    landed.settings |= keys
    move = ("lake", "move", "--to", moved.catalog, moved.mirror.bucket.data_path)
    for kill in KILLS[:2]:
        assert landed.tailrace(*move, TAILRACE_FAULT=kill).returncode == -9
    refused(moved)
    killed_and_run_again(landed, *move)
    counts = same(before, moved.lake)
    assert counts["raw_calls"] == len(landed.traffic.sent.ids)
    assert min(counts[name] for name in ("dead", "dead_bytes", "rollups", "ticks", "alerts")) > 0
    assert same(before, landed.lake) == counts, "the old lake is as it was"
    goes_on(moved)

    half, whole = tmp_path / "half", tmp_path / "whole"
    assert moved.tailrace("lake", "backup", str(half), TAILRACE_FAULT=KILLS[2]).returncode == -9
    assert moved.tailrace("lake", "backup", str(whole)).returncode == 0
    backup = RawLake(str(whole / "catalog.sqlite"), whole / "data")
    assert same(moved.lake, backup)["raw_calls"] == len(landed.traffic.sent.ids)

    moved.traffic.good(100)  # behind the backup: land reads them again where it is restored
    at_rest(moved)
    restored = servers("restored")
    incomplete = restored.tailrace("lake", "restore", str(half))
    assert incomplete.returncode == 2
    assert "is not whole" in incomplete.stderr
    killed_and_run_again(restored, "lake", "restore", str(whole))
    same(backup, restored.lake)
    goes_on(restored)
