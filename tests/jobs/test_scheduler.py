"""The stage over a real lake and a real broker, with a clock that is handed in; the jobs are tiny processes."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from jobs.desk import ScheduleConfig
from jobs.process import run_to_end
from jobs.schedule import Job
from jobs.scheduler import SchedulerRunsError, owned, run
from pipelines.kafka import Admin, KafkaConfig, read_all
from schemas.topics import LOG, TOPICS
from tailrace.broker import Broker
from warehouse import claims
from warehouse.claims import Claim
from warehouse.connect import LakeConfig
from warehouse.errors import LakeNewerError
from warehouse.lake import Lake
from warehouse.migrate import LAKE_VERSION

HOUR_US = 3_600_000_000
NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1_000_000)
# never at a wall-clock hour of a test run: only the clock that is handed in makes these due
TIDY = Job("tidy", "17 * * * *", "", grace_s=3600, limit_s=60)
COUNT = Job("count", "47 * * * *", "", grace_s=3600, limit_s=60)
GOOD = 'print(\'{"ok": true, "files": 3}\')'


def wait(what: str, true: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.3)  # what is asked costs a DuckDB or a consumer each time


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> int:
        return self.at


class World:
    """One lake, one log of runs, and schedulers on it."""

    def __init__(self, kafka: KafkaConfig, folder: Path, lake: LakeConfig) -> None:
        self.kafka, self.folder, self.lake = kafka, folder, lake
        self.clock = Clock()
        self.beats: dict[Path, list[dict[str, object]]] = {}

    def config(self, script: str = GOOD, jobs: tuple[Job, ...] = (TIDY,), home: str = "home") -> ScheduleConfig:
        folder = self.folder / home
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", script]
        return ScheduleConfig(self.kafka, self.lake, folder, lambda name: [*command, name], jobs, first_look_s=0.0)

    @contextmanager
    def scheduler(self, config: ScheduleConfig) -> Iterator[threading.Event]:
        """Run one in a thread; what ends it early is raised at the end of the block."""
        stop, failed = threading.Event(), []
        self.beats[config.folder] = beats = []

        def body() -> None:
            try:
                run(config, stop=stop, now=self.clock, beat=beats.append)
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    def runs(self) -> list[dict[str, object]]:
        """What stands on llm.log, in order."""
        rows = [msgspec.json.decode(record.value or b"") for record in read_all(self.kafka, LOG)]
        return [row["row"] for row in sorted(rows, key=lambda row: row["at"])]

    def states(self) -> list[tuple[object, object, object]]:
        return [(row["job"], str(row["due_at"])[11:16], row["state"]) for row in self.runs()]

    def taken(self, job: Job = TIDY) -> Claim | None:
        return claims.read(self.lake, job.name)

    def looked(self, jobs: int = 1) -> None:
        """Wait until every scheduler has asked the lake about so many jobs."""
        wait("all have looked", lambda: all(b and b[-1]["jobs_known"] == jobs for b in self.beats.values()))

    def quiet(self) -> None:
        """Wait until each scheduler has found nothing to do for a few rounds."""
        seen = {home: len(beats) for home, beats in self.beats.items()}

        def idle(home: Path) -> bool:
            last = self.beats[home][seen[home] :][-3:]
            return [b["lag"] or b["jobs_running"] for b in last] == [0] * 3

        wait("rounds without work", lambda: all(idle(home) for home in seen))


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    Lake.open(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), now=lambda: NOON).close()
    return folder


@pytest.fixture
def world(broker: Broker, prefix: str, tmp_path: Path, fresh: Path) -> World:
    kafka = KafkaConfig(broker.bootstrap, prefix)
    Admin(kafka).create_topics([t for t in TOPICS if t.name == LOG], partitions=1, replication=1)
    shutil.copytree(fresh, tmp_path / "lake")
    return World(kafka, tmp_path, LakeConfig(str(tmp_path / "lake/catalog.sqlite"), str(tmp_path / "lake/data")))


@pytest.mark.row(61)
def test_after_eight_hours_asleep_each_job_runs_once_and_is_recorded(world: World) -> None:
    with world.scheduler(world.config(jobs=(TIDY, COUNT))):
        world.looked(jobs=2)
        assert world.runs() == []
        world.clock.at += 8 * HOUR_US
        wait("both have run", lambda: len(world.runs()) == 4)
        world.quiet()
    assert sorted(world.states()) == [
        ("count", "19:47", "done"),
        ("count", "19:47", "started"),
        ("tidy", "19:17", "done"),
        ("tidy", "19:17", "started"),
    ]
    (done,) = (row for row in world.runs() if row["job"] == "tidy" and row["state"] == "done")
    assert (done["attempt"], done["detail"], done["report"]) == (1, "files 3", {"ok": True, "files": 3})


@pytest.mark.row(62)
def test_a_clock_that_goes_back_an_hour_runs_nothing_twice(world: World) -> None:
    with world.scheduler(world.config()):
        world.looked()
        world.clock.at += HOUR_US
        wait("12:17 has run", lambda: world.states()[-1:] == [("tidy", "12:17", "done")])
        for hours in (-1, 1):
            world.clock.at += hours * HOUR_US
            world.quiet()
    assert world.states() == [("tidy", "12:17", "started"), ("tidy", "12:17", "done")]


@pytest.mark.row(64)
def test_two_schedulers_run_a_due_time_once(world: World) -> None:
    here, there = world.config(home="here"), world.config(home="there")
    with world.scheduler(here), world.scheduler(there):
        world.looked()
        world.clock.at += HOUR_US
        wait("it has run", lambda: len(world.runs()) == 2)
        world.quiet()
    assert world.states() == [("tidy", "12:17", "started"), ("tidy", "12:17", "done")]


def test_a_second_scheduler_of_one_home_stands_by(tmp_path: Path) -> None:
    with owned(tmp_path) as first, pytest.raises(SchedulerRunsError, match="takes over"), owned(tmp_path):
        pass
    with owned(tmp_path) as second:
        assert second == first


def test_a_run_that_was_ended_with_its_scheduler_is_begun_again_by_the_next(world: World) -> None:
    with world.scheduler(world.config("import time; time.sleep(600)")) as stop:
        world.looked()
        world.clock.at += HOUR_US
        wait("it runs", lambda: world.states() == [("tidy", "12:17", "started")])
        stop.set()
    with world.scheduler(world.config()):
        wait("it is made up", lambda: len(world.runs()) == 4)
    assert [(row["state"], row["attempt"]) for row in world.runs()] == [
        ("started", 1),
        ("failed", 1),
        ("started", 2),
        ("done", 2),
    ]
    assert world.taken().ended_at is not None


FAILING = {
    "found": ('print(\'{"ok": false, "problems": ["a file is gone"]}\'); exit(1)', 60, "exit 1: a file is gone"),
    "broke": ("import sys; sys.exit('tailrace: no lake')", 60, "exit 1: tailrace: no lake"),
    "slow": ("import time; time.sleep(600)", 0, "ended: it ran longer than its limit"),
}


def test_runs_that_failed_are_recorded_and_wait_for_their_next_due_time(world: World) -> None:
    jobs = tuple(Job(name, "17 * * * *", "", 3600, limit_s) for name, (_, limit_s, _) in FAILING.items())
    scripts = {name: script for name, (script, _, _) in FAILING.items()}
    config = replace(world.config(jobs=jobs), command=lambda name: [sys.executable, "-c", scripts[name]])
    with world.scheduler(config):
        world.looked(len(jobs))
        world.clock.at += HOUR_US
        wait("all have failed", lambda: len(world.runs()) == 2 * len(jobs))
        world.quiet()
    ends = {row["job"]: (row["state"], row["detail"]) for row in world.runs() if row["ended_at"]}
    assert ends == {name: ("failed", detail) for name, (_, _, detail) in FAILING.items()}
    assert len(world.runs()) == 2 * len(jobs)


def test_a_due_time_found_after_its_grace_is_skipped_and_recorded_once(world: World) -> None:
    hasty = Job("tidy", "17 * * * *", "", grace_s=60)
    with world.scheduler(world.config(jobs=(hasty,))):
        world.looked()
        world.clock.at += HOUR_US
        wait("it is skipped", lambda: world.states() == [("tidy", "12:17", "skipped")])
        world.quiet()
    assert len(world.runs()) == 1


def test_what_was_killed_three_times_is_given_up(world: World) -> None:
    config = world.config()
    world.clock.at += 20 * 60 * 1_000_000
    with owned(config.folder) as owner, Lake.open(world.lake, now=world.clock, lander=False) as lake:
        at = world.clock.at - 60_000_000
        claims.move(lake, None, Claim("tidy", NOON + 17 * 60_000_000, 3, owner, at, at + HOUR_US, None))
    with world.scheduler(config):
        wait("it is given up", lambda: world.states() == [("tidy", "12:17", "failed")])
        world.quiet()
    assert [row["detail"] for row in world.runs()] == ["given up: killed in attempt 3"]


def test_without_a_lake_it_waits_quietly_and_begins_when_there_is_one(world: World, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (tmp_path / "lake").rename(away)
    config = world.config()
    with world.scheduler(config):
        beats = world.beats[config.folder]
        wait("rounds", lambda: len(beats) > 2)
        assert {(b["state"], b["lag"], b["error"]) for b in beats} == {("running", 0, None)}
        assert not (tmp_path / "lake").exists()
        away.rename(tmp_path / "lake")
        world.looked()


def test_a_lake_of_a_newer_tailrace_ends_the_stage(world: World) -> None:
    with Lake.open(world.lake, now=world.clock, lander=False) as lake:
        newer = f"INSERT INTO lake_version VALUES ({LAKE_VERSION + 1}, 'x', now())"
        lake.transact(lambda connection: connection.execute(newer))

    with pytest.raises(LakeNewerError):
        run(world.config(), stop=threading.Event(), now=world.clock, beat=lambda facts: None)


def test_records_wait_for_the_brokers_and_the_job_does_not(world: World) -> None:
    there, world.kafka = world.kafka, KafkaConfig("127.0.0.1:1", world.kafka.prefix)
    config = world.config(f"open({str(world.folder / 'ran')!r}, 'w')")
    world.kafka = there
    with world.scheduler(config):
        world.looked()
        world.clock.at += HOUR_US
        wait("it ran", (world.folder / "ran").exists)
        wait("it ended", lambda: (world.taken() or Claim).ended_at)


def test_a_process_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jobs.process._END_WITHIN_S", 0.2)
    armed = tmp_path / "armed"
    deaf = (
        "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(armed)!r}).touch(); time.sleep(600)"
    )
    ended = run_to_end([sys.executable, "-c", deaf], limit_s=600, ending=armed.exists)
    assert (ended.code, ended.why, ended.report) == (-9, "stopped", None)
