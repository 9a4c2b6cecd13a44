"""Row 64: two schedulers on one lake."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fault_harness import postgres as pg
from fault_harness.process import REPO, wait_until
from fault_harness.scene import Scene

from pipelines.kafka import read_all
from schemas.topics import LOG
from tailrace.batch_jobs import JOBS
from tailrace.batch_jobs.maintain import MAINTAIN
from warehouse import claims
from warehouse.claims import Claim
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect

NOW = 1_795_000_000_000_000
HOUR = 3_600_000_000
DUE_TIMES = 5
# both make the row, and then both want every due time
RACE = """
import sys
from warehouse import claims
from warehouse.claims import Claim
from warehouse.storage.connect import LakeConfig
from warehouse.lake import Lake

catalog, data, owner, first, hour, times = *sys.argv[1:4], *map(int, sys.argv[4:])
with Lake.open(LakeConfig(catalog, data), now=lambda: first, lander=False) as lake:
    print("ready", flush=True)
    sys.stdin.readline()
    claims.move(lake, None, Claim("maintain", first, 0, owner, first, first, first))
    was = claims.read(lake.config, "maintain")
    for due in range(first + hour, first + hour * (times + 1), hour):
        while was.due_at < due:
            mine = Claim("maintain", due, 1, owner, due, due + hour, None)
            if claims.move(lake, was, mine):
                print("won", due, flush=True)
                was = mine
            else:
                was = claims.read(lake.config, "maintain")
"""


def race(config: LakeConfig) -> Counter[int]:
    """Let two processes fight for every due time; return how often each was won."""
    Lake.open(config, now=lambda: NOW).close()
    words = [sys.executable, "-c", RACE, config.catalog, config.data_path]
    numbers = [str(n) for n in (NOW, HOUR, DUE_TIMES)]
    racers = [
        subprocess.Popen([*words, owner, *numbers], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for owner in ("a", "b")
    ]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 2
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [line for racer in racers for line in racer.communicate(timeout=120)[0].splitlines()]
    assert [racer.returncode for racer in racers] == [0, 0]
    return Counter(int(line.split()[1]) for line in said if line.startswith("won "))  # there are log lines, too


EACH_ONCE = Counter(range(NOW + HOUR, NOW + HOUR * (DUE_TIMES + 1), HOUR))


@pytest.mark.row(64)
def test_row_64_of_two_processes_on_sqlite_one_takes_each_due_time(tmp_path: Path) -> None:
    assert race(LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))) == EACH_ONCE


@pytest.mark.row(64)
def test_row_64_of_two_processes_on_postgres_one_takes_each_due_time(postgres: pg.Postgres, tmp_path: Path) -> None:
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {postgres.database('claims')}"
    config = LakeConfig(catalog, str(tmp_path / "data"))
    assert race(config) == EACH_ONCE
    with connect(config, read_only=True) as connection:
        (files,) = connection.execute("SELECT count(*) FROM ducklake_list_files('lake', 'job_claims')").fetchone() or ()
    assert files == 0


def runs(scene: Scene) -> list[dict[str, Any]]:
    """What stands on llm.log about runs, in order."""
    rows = [msgspec.json.decode(record.value or b"") for record in read_all(scene.kafka, LOG)]
    return [row["row"] for row in sorted(rows, key=lambda row: row["at"])]


def ended(scene: Scene) -> list[tuple[str, int]]:
    return [(row["state"], row["attempt"]) for row in runs(scene) if row["job"] == MAINTAIN.name]


def overdue(scene: Scene) -> None:
    """Make a lake in which maintain ran last two hours ago: whoever looks has a run to make up."""
    now = time.time_ns() // 1000
    then = now - 2 * HOUR
    with Lake.open(scene.lake_config, now=lambda: now) as lake:
        for job in (each.line for each in JOBS):
            due = then if job is MAINTAIN.line else now  # one job is enough
            assert claims.move(lake, None, Claim(job.name, due, 1, "an earlier home", due, due, due))


@pytest.mark.faults
@pytest.mark.row(64)
def test_row_64_two_schedulers_of_two_homes_make_up_one_run_and_land_records_it(
    scene: Scene, scenes: Callable[..., Scene]
) -> None:
    overdue(scene)
    other = scenes(
        scene.kafka.bootstrap_servers, prefix=scene.kafka.prefix, catalog=scene.catalog, data_path=str(scene.data_path)
    )
    here, there = scene.start("schedule"), other.start("schedule")  # without budgets: that job is not on the timetable
    wait_until(lambda: ended(scene) == [("started", 1), ("done", 1)], 120, "one run", scene.tails)
    for one, process in ((scene, here), (other, there)):
        wait_until(
            lambda one=one: one.facts("schedule")["facts"].get("jobs_known") == len(JOBS) - 1,
            60,
            "it looked",
            one.tails,
        )
        assert process.terminate() == 0, process.tail()
    assert ended(scene) == [("started", 1), ("done", 1)]
    scene.start("land")

    def landed() -> list[tuple[str, str]]:
        found = scene.lake.rows("log_records", "row->>'job', row->>'state'", "\"table\" = 'job_runs'")
        return sorted(found)

    recorded = [(MAINTAIN.name, "done"), (MAINTAIN.name, "started")]
    wait_until(lambda: landed() == recorded, 60, "the lake has the runs", scene.tails)


@pytest.mark.row(64)
def test_row_64_a_job_killed_with_its_scheduler_is_made_up_by_the_next(scene: Scene) -> None:
    overdue(scene)
    first = scene.start("schedule", fault="job.before_run:hang")
    wait_until(lambda: ended(scene) == [("started", 1)], 120, "it runs", scene.tails)
    first.kill()
    second = scene.start("schedule")
    made_up = [("started", 1), ("started", 2), ("done", 2)]
    wait_until(lambda: ended(scene) == made_up, 120, "it is made up", scene.tails)
    scene.healthy("schedule")
    assert second.terminate() == 0
    assert ended(scene) == made_up
