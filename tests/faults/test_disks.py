"""Rows 18 to 21: no room for data, catalog, the broker's log, or a query's spill."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_harness.process import wait_until
from fault_harness.scene import Scene
from fault_harness.traffic import INPUT_USD, MODEL, OUTPUT_USD, Sent

from tailrace.broker import Broker
from tailrace_emitter import Emitter
from warehouse.errors import QueryFailedError
from warehouse.query.readonly import ReadOnlyLake

pytestmark = pytest.mark.faults
WAITING = 300
"""Events that the emitter may keep while there is no broker."""
TOKENS = 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a tmpfs of so many MiB; needs root."""
    made: list[Path] = []

    def make(size_mb: int) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting a tmpfs needs root")
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this machine does not let us mount a tmpfs")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(os.urandom(65536))
                file.flush()
        except OSError:
            pass
    return ballast


@pytest.mark.row(18)
def test_row_18_a_full_data_disk_is_waited_for(
    small_disk: Callable[[int], Path], scenes: Callable[..., Scene], broker: Broker
) -> None:
    disk = small_disk(16)
    scene = scenes(broker.bootstrap, data_path=str(disk / "data"))
    scene.traffic.good(300)
    land = scene.land_until_settled()
    ballast = fill(disk)
    scene.traffic.good(300)
    scene.traffic.flush()
    land.says("append_delayed")
    assert not scene.caught_up()
    scene.verified()
    ballast.unlink()
    scene.settle()
    scene.healthy()
    assert land.alive
    # what a failed write left behind is at most a file a try
    scene.check(kills=land.said.count("append_delayed"))


@pytest.mark.row(19)
def test_row_19_a_full_catalog_disk_is_waited_for(
    small_disk: Callable[[int], Path], scenes: Callable[..., Scene], broker: Broker, tmp_path: Path
) -> None:
    disk = small_disk(16)
    scene = scenes(broker.bootstrap, catalog=str(disk / "catalog.sqlite"), data_path=str(tmp_path / "data"))
    scene.traffic.good(300)
    land = scene.land_until_settled()
    ballast = fill(disk)
    scene.traffic.good(300)
    scene.traffic.flush()
    wait_until(
        lambda: "append_delayed" in land.said or "transaction_retried" in land.said or "interrupted" in land.said,
        60,
        "land notices",
        land.tail,
    )
    assert not scene.caught_up()
    ballast.unlink()
    scene.settle()
    scene.healthy()
    assert land.alive
    scene.check(kills=20)


@pytest.mark.row(20)
def test_row_20_a_full_broker_disk_stops_the_broker_the_emitter_counts_and_space_brings_it_back(
    small_disk: Callable[[int], Path], scenes: Callable[..., Scene]
) -> None:
    disk = small_disk(96)
    with Broker(disk / "broker", heap_mb=256) as own:
        scene = scenes(own.bootstrap, prefix="")
        sent = scene.traffic.sent
        emitter = Emitter(
            "shop",
            bootstrap_servers=own.bootstrap,
            content="full",
            queue_max=WAITING,
            on_delivery=ledger(sent),
            sigterm=False,
        )
        emitted = emit(emitter, 200)
        assert emitter.flush(30) == 0
        land = scene.land_until_settled()
        ballast = fill(disk)

        def stopped() -> bool:
            nonlocal emitted
            emitted += emit(emitter, 5, output="x" * 7000)
            return not own.alive

        wait_until(stopped, 90, "the broker stops", land.tail)
        emitted += emit(emitter, 3 * WAITING)
        wait_until(lambda: emitter.stats()["dropped"], 30, "the emitter has no more room", lambda: f"{emitter.stats()}")
        assert emitter.stats()["waiting"]
        ballast.unlink()
        own.stop()
        own.start(60)
        assert emitter.flush(120) == 0, emitter.stats()
        emitted += emit(emitter, 200)
        assert emitter.flush(30) == 0, emitter.stats()
        scene.settle(120)
        stats = emitter.stats()
        assert stats["emitted"] == emitted == stats["delivered"] + sum(stats["dropped"].values())
        assert set(stats["dropped"]) <= {"queue_full", "buffer_full"}
        assert stats["delivered"] == len(sent.positions) == len(sent.ids)
        assert {str(i) for (i,) in scene.lake.rows("raw_calls", "id")} == sent.ids
        assert land.alive
        scene.check()
        emitter.close()


def emit(emitter: Emitter, count: int, **fields: str) -> int:
    """Record so many calls as an app would; return how many."""
    for _ in range(count):
        emitter.call(MODEL, input_tokens=TOKENS, output_tokens=TOKENS, **fields)
    return count


def ledger(sent: Sent) -> Callable[..., None]:
    """Return an ``on_delivery`` that writes down what was acknowledged; the rest is the emitter's to count."""

    def delivered(name: str, topic: str, partition: int, offset: int, error: str | None) -> None:
        if error is None:
            sent.positions[partition, offset] = name
            sent.cost[name] = TOKENS * (INPUT_USD + OUTPUT_USD)

    return delivered


@pytest.mark.row(21)
def test_row_21_a_query_without_room_to_spill_fails_alone(scene: Scene) -> None:
    scene.traffic.good(200)
    land = scene.land_until_settled()
    config = scene.lake_config
    tight = type(config)(config.catalog, config.data_path, memory_limit="64MiB", max_temp_size="1MiB")
    reader = ReadOnlyLake.open(tight)
    try:
        with pytest.raises(QueryFailedError):
            # (DuckDB 1.5.5 holds its limit on spilling in joins and groups; a sort went past it)
            reader.query("SELECT i % 9999999 AS k, count(*), max(i::VARCHAR) FROM range(30000000) t(i) GROUP BY ALL")
        assert reader.query("SELECT count(*) AS n FROM calls").to_pylist() == [{"n": 200}]
    finally:
        reader.close()
    scene.traffic.good(50)
    scene.settle()
    assert land.alive
    assert shutil.disk_usage(scene.home).free
