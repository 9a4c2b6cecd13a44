"""Partitions that are judged side by side give what one process gives, and end with their parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from schemas.errors import SettingsError
from schemas.topics import ROLLUPS
from tailrace.job_runs.run_detectors_again import run_detectors_again
from tests.pipelines.detect.landing import land
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

PARTITIONS = 3


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LakeConfig:
    """A lake with rollups of three partitions, an app and an incident in each."""
    folder = tmp_path_factory.mktemp("lake")
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    with Lake.open(config, now=lambda: T0) as lake:
        lake.ensure_partitions(ROLLUPS, "one", dict.fromkeys(range(PARTITIONS), 0))
        for partition in range(PARTITIONS):
            spike = Incident(T0 + 60 * SECOND, T0 + 240 * SECOND, factor=9)
            app = App(f"app-{partition}", rate=1.0, users=20, cost=0.02)
            stream = Stream(40 + partition, apps=(app,), partitions=1, incidents=(spike,))
            records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=300))
            records += stream.records(T0, T0 + 300 * SECOND, live=True)
            land(lake, records, partition=partition)
    return config


def test_partitions_judged_side_by_side_give_the_same_alerts_in_the_same_order(config: LakeConfig) -> None:
    totals, done = list[int](), list[int]()
    with ReadOnlyLake.open(config) as lake:
        one = run_detectors_again(lake, {}, 0, 2 * T0, processes=1)
        many = run_detectors_again(lake, {}, 0, 2 * T0, processes=2, progress=done.append, total=totals.append)
    assert {alert.series["app"] for alert in one} == {f"app-{n}" for n in range(PARTITIONS)}
    assert [alert.to_json() for alert in many] == [alert.to_json() for alert in one]
    assert len(done) == PARTITIONS
    assert sum(done) == totals[0] > 0


def test_a_rule_that_is_not_there_is_refused_before_anything_is_judged(config: LakeConfig) -> None:
    with ReadOnlyLake.open(config) as lake, pytest.raises(SettingsError):
        run_detectors_again(lake, {"spike": {"no_such_field": 1}}, 0, 2 * T0, processes=2)


def test_its_processes_end_when_the_command_is_killed(config: LakeConfig, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig
from tailrace.job_runs.run_detectors_again import run_detectors_again

if __name__ == "__main__":
    with ReadOnlyLake.open(LakeConfig({config.catalog!r}, {config.data_path!r})) as lake:
        while True:
            run_detectors_again(lake, {{}}, 0, {2 * T0}, processes=2)
""")
    with subprocess.Popen([sys.executable, str(program)]) as command:
        parent, workers = psutil.Process(command.pid), list[psutil.Process]()
        until = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < until:
            workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
            time.sleep(0.05)
        assert len(workers) >= 2
        command.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
