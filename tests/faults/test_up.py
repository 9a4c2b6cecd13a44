"""Rows 8, 10, 11, 15 and 39: the whole of it, started as people start it."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_harness.invariants import bounded
from fault_harness.process import REPO, rss_mb, wait_until
from fault_harness.scene import Scene, spread
from fault_harness.whole import Up, gone

from tailrace.broker import Broker
from tailrace.home.layout import Home

pytestmark = pytest.mark.faults
ENDED_S = 10.0
"""What is promised of SIGTERM."""
HANDLES = 256
"""Open files of one stage: libraries, some sockets, a batch's Parquet files."""
RSS_MB = 1024
"""Of one stage with a backlog: a batch of 64 MB, decoded, and DuckDB's share beside it."""


@pytest.mark.row(10, 11, 39)
@pytest.mark.timeout(900)
def test_row_10_11_and_39_the_supervisor_restarts_what_stands_still_and_leaves_nobody_behind(
    up: Up, scenes: Callable[..., Scene]
) -> None:
    before = up.ready()
    bootstrap = before["kafka"]["bootstrap_servers"]
    scene = scenes(bootstrap, home=up.home, prefix="", partitions=4)
    scene.traffic.good(200)
    scene.settle(90)
    # 39: alive, and standing still
    os.kill(before["stages"]["meter"]["pid"], signal.SIGSTOP)

    def restarted() -> bool:
        return bool(up.status()["stages"]["meter"]["restarts"] == before["stages"]["meter"]["restarts"] + 1)

    wait_until(restarted, 120, "meter is restarted", up.tail)
    # 11: the supervisor is killed
    pids = up.pids()
    assert len(pids) >= 4
    up.process.kill()
    up.process.wait()
    wait_until(lambda: gone(pids), 20, "no child outlives the supervisor")
    left = up.status()["stages"]["land"]
    assert (left["state"], "with its supervisor" in str(left["error"])) == ("stopped", True), left
    up.again()
    up.ready()
    assert "ended without a word" in Home(up.home).log_file("land").read_text(), "its log says so as well"
    scene.traffic.good(200)
    scene.settle(90)
    # 10: everything is told to end, while calls come
    pids, stages = up.pids(), up.status()["stages"]
    thread = threading.Thread(target=spread, args=(scene, 6), daemon=True)
    thread.start()
    time.sleep(2)
    orphans = set(scene.lake.orphans())
    up.process.terminate()
    assert up.process.wait(ENDED_S) == 0, up.tail()
    assert gone(pids)
    said = {name: Home(up.home).read_run(name) or {} for name in stages}
    assert {name: (facts["pid"], facts["state"]) for name, facts in said.items()} == {
        name: (stage["pid"], "stopped") for name, stage in stages.items()
    }, "who was killed has not said that it ended"
    assert set(scene.lake.orphans()) <= orphans
    thread.join()
    with Broker(up.home):  # what it acknowledged last is in its log
        land = scene.land_until_settled()
        assert land.terminate() == 0, land.tail()
    scene.check(kills=3)


@pytest.mark.row(15)
def test_row_15_a_broker_that_never_comes_back_is_waited_for_within_bounds(
    scenes: Callable[..., Scene], tmp_path: Path
) -> None:
    with Broker(tmp_path / "own", heap_mb=256) as own:
        scene = scenes(own.bootstrap)
        land, meter = scene.start("land"), scene.start("meter")
        spread(scene, 3)
        scene.settle()
        scene.metered()
        size = {p.name: rss_mb(p.pid) for p in (land, meter)}
        own.kill()
    time.sleep(45)
    for process in (land, meter):
        assert process.alive, process.tail()
        bounded(process.pid, rss_mb=size[process.name] + 64, handles=HANDLES)
    scene.verified()
    assert [land.terminate(20), meter.terminate(20)] == [0, 0], scene.tails()


@pytest.mark.row(15)
def test_row_15_a_backlog_is_worked_off_within_bounds(scene: Scene) -> None:
    """What waited while a stage was away comes in batches, not at once."""
    scene.traffic.good(60_000)
    scene.traffic.flush()
    land, meter = scene.start("land"), scene.start("meter")

    def within_bounds() -> bool:
        for process in (land, meter):
            assert process.alive, process.tail()
            bounded(process.pid, rss_mb=RSS_MB, handles=HANDLES)
        return scene.caught_up()

    wait_until(within_bounds, 120, "the backlog has landed", scene.tails)
    scene.metered(120)
    within_bounds()


MERGE = """
import sys, time
from warehouse.storage.connect import LakeConfig
from warehouse.lake import Lake
with Lake.open(LakeConfig(sys.argv[1], sys.argv[2]), now=lambda: time.time_ns() // 1000, lander=False) as lake:
    print("open", flush=True)
    while True:
        for sql in (
            "CALL ducklake_merge_adjacent_files('lake', 'raw_calls')",
            "CALL ducklake_expire_snapshots('lake', older_than => now())",
            "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
        ):
            with lake.bulk_lock():
                try:
                    lake.connection.execute(sql)
                except Exception as error:
                    if "conflict" not in str(error).lower() and "locked" not in str(error).lower():
                        raise
"""


@pytest.mark.row(8)
def test_row_08_killed_in_merge_expiry_or_clean_up_the_lake_reads_as_before_or_after(scene: Scene) -> None:
    rng = random.Random(8)
    scene.traffic.good(50)
    scene.land_until_settled()
    for _ in range(12):
        for _ in range(4):
            scene.traffic.good(20)
            scene.settle()
        merge = subprocess.Popen(
            [sys.executable, "-c", MERGE, scene.catalog, str(scene.data_path)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{REPO}:{REPO}/emitter"},
        )
        assert merge.stdout is not None
        assert any(line == b"open\n" for line in merge.stdout)
        time.sleep(rng.uniform(0, 0.4))
        merge.kill()
        merge.communicate()
        scene.kills += 1
        scene.check()
