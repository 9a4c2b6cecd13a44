"""The stage over a real lake and a real broker, with a clock that is handed in; the jobs are tiny processes."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from fault_harness.proxy import Proxy

from jobs.job_runner import ScheduleConfig
from jobs.process import run_to_end
from jobs.runs import RunLog
from jobs.schedule import Job
from jobs.scheduler import SchedulerRunsError, owned, run
from pipelines.kafka import Admin, KafkaConfig, Producer, read_all
from schemas.errors import KafkaUnavailableError
from schemas.tables import LOG_RECORDS
from schemas.topics import LOG, TOPICS
from tailrace.broker import Broker
from warehouse import claims
from warehouse.claims import Claim
from warehouse.errors import LakeNewerError
from warehouse.lake import Lake
from warehouse.migrate import LAKE_VERSION
from warehouse.storage.connect import LakeConfig

HOUR_US = 3_600_000_000
NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1_000_000)
# never at a wall-clock hour of a test run: only the clock that is handed in makes these due
TIDY = Job("tidy", "17 * * * *", "", grace_s=3600, limit_s=60)
COUNT = Job("count", "47 * * * *", "", grace_s=3600, limit_s=60)
DONE = [("started", 1), ("done", 1)]
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
        return ScheduleConfig(self.kafka, self.lake, folder, lambda name: [*command, name], jobs, first_check_s=0.0)

    @contextmanager
    def scheduler(self, config: ScheduleConfig) -> Iterator[threading.Event]:
        """Run one in a thread; what ends it early is raised at the end of the block."""
        stop, failed = threading.Event(), []
        self.beats[config.folder] = beats = []

        def body() -> None:
            try:
                run(config, stop=stop, now=self.clock, heartbeat=lambda facts: beats.append(facts.flat()))
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


@pytest.mark.extended
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


SLEEP = "import time; time.sleep(600)"


def runs_are(world: World, count: int) -> Callable[[], bool]:
    return lambda: len(world.runs()) == count


def claimed(world: World) -> Claim:
    claim = world.taken()
    assert claim is not None
    return claim


def test_runs_that_were_ended_with_their_scheduler_are_begun_again_and_are_no_attempts(world: World) -> None:
    with world.scheduler(world.config()):
        world.looked()
    world.clock.at += HOUR_US
    for times in range(1, 4):
        with world.scheduler(world.config(SLEEP)):
            wait("it runs", runs_are(world, 2 * times - 1))
    with world.scheduler(world.config(home="other")):
        wait("another home makes it up at once", lambda: len(world.runs()) == 8)
    assert [(row["state"], row["attempt"]) for row in world.runs()] == [*[("started", 1), ("failed", 1)] * 3, *DONE]
    assert claimed(world).ended_at is not None


@pytest.mark.extended
def test_a_claim_outlives_its_run_and_the_run_ends_with_its_time_by_the_wall_clock(world: World) -> None:
    slow = replace(TIDY, limit_s=600)
    with world.scheduler(world.config(SLEEP, jobs=(slow,))):
        world.looked()
        world.clock.at += HOUR_US
        wait("it runs", lambda: world.states() == [("tidy", "12:17", "started")])
        claim = claimed(world)
        assert claim.lease_until - claim.claimed_at >= (slow.limit_s + 60) * 1_000_000
        world.clock.at = claim.claimed_at + slow.limit_s * 1_000_000  # asleep: no other clock moved
        wait("it has ended", lambda: len(world.runs()) == 2)
    assert world.runs()[-1]["detail"] == "ended: it ran longer than its limit"
    ended_at = claimed(world).ended_at
    assert ended_at is not None
    assert ended_at < claim.lease_until


@pytest.mark.extended
def test_a_process_that_cannot_be_made_is_tried_again_and_is_no_attempt(world: World) -> None:
    script = world.folder / "job"
    config = replace(world.config(), command=lambda _: [str(script)])
    with world.scheduler(config):
        world.looked()
        world.clock.at += HOUR_US
        beats = world.beats[config.folder]
        wait("it is said", lambda: "cannot start" in str(beats[-1]["error"]))
        assert world.runs() == []
        script.write_text(f"#!{sys.executable}\n{GOOD}\n")
        script.chmod(0o700)
        wait("it has run", lambda: len(world.runs()) == 2)
        wait("the trouble is over", lambda: beats[-1]["error"] is None)
    assert [(row["state"], row["attempt"]) for row in world.runs()] == DONE


def test_a_lake_that_does_not_answer_for_a_while_does_not_end_the_stage(world: World) -> None:
    config = world.config()
    with world.scheduler(config):
        world.looked()

    def spoil(times: str) -> None:
        with closing(sqlite3.connect(world.lake.catalog)) as catalog, catalog:
            (table,) = catalog.execute(
                "SELECT i.table_name FROM ducklake_inlined_data_tables i JOIN ducklake_table t USING (table_id) "
                "WHERE t.table_name = 'job_claims'"
            ).fetchone()
            catalog.execute(f"UPDATE {table} SET due_at = {times}")

    spoil("'x' || due_at")
    with world.scheduler(config):
        beats = world.beats[config.folder]
        wait("it is said", lambda: beats and "read the claims of" in str(beats[-1]["error"]))
        assert beats[-1]["state"] == "waiting"
        spoil("substr(due_at, 2)")
        world.looked()
        wait("the trouble is over", lambda: beats[-1]["error"] is None)


@pytest.mark.extended
def test_a_defect_in_one_job_is_said_and_the_others_go_on(world: World) -> None:
    config = world.config(jobs=(TIDY, COUNT))
    whole = config.command

    def command(name: str) -> Sequence[str]:
        if name == "tidy":
            raise KeyError(name)
        return whole(name)

    config = replace(config, command=command)
    with world.scheduler(config):
        world.looked(jobs=2)
        world.clock.at += HOUR_US
        wait("the other has run", lambda: world.states() == [("count", "12:47", s) for s in ("started", "done")])
        wait("it is said", lambda: world.beats[config.folder][-1]["error"] == "KeyError: 'tidy'")


FAILING = {
    "found": ('print(\'{"ok": false, "problems": ["a file is gone"]}\'); exit(1)', 60, "exit 1: a file is gone"),
    "broke": ("import sys; sys.exit('tailrace: no lake')", 60, "exit 1: tailrace: no lake"),
    "slow": (SLEEP, 0, "ended: it ran longer than its limit"),
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
        run(world.config(), stop=threading.Event(), now=world.clock, heartbeat=lambda facts: None)


@pytest.mark.extended
def test_records_wait_for_the_brokers_and_the_job_does_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.runs._AGAIN_S", 0.5)
    host, port = world.kafka.bootstrap_servers.split(":")
    with Proxy(int(port), host) as between:  # what asks it is told where the brokers are, and goes there
        between.refuse = True
        away = KafkaConfig(f"127.0.0.1:{between.port}", world.kafka.prefix)
        with world.scheduler(replace(world.config(), kafka=away)):
            world.looked()
            world.clock.at += HOUR_US
            wait("it ran and ended", lambda: (claim := world.taken()) and claim.ended_at and claim.attempt)
            assert world.runs() == []
            between.refuse = False
            wait("its records arrive", lambda: len(world.runs()) == 2)
    assert [(row["state"], row["attempt"]) for row in world.runs()] == DONE


def test_a_record_whose_acknowledgement_was_lost_is_sent_again_and_shown_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.runs._AGAIN_S", 0.0)
    flush = Producer.flush

    def unanswered(producer: Producer, timeout_s: float) -> None:
        flush(producer, timeout_s)
        raise KafkaUnavailableError("here", "send", "no acknowledgement")

    runs = RunLog(world.kafka)
    with monkeypatch.context() as patched:
        patched.setattr(Producer, "flush", unanswered)
        for number in (1, 2):
            runs.emit(Claim("tidy", NOON, number, "here", NOON, NOON, NOON), "started", NOON)
    runs.flush()
    assert [row["attempt"] for row in world.runs()] == [1, 1, 2, 1, 2]
    old = [{"job": "tidy", "state": "started"}] * 2
    landed = [{"table": "job_runs", "row": msgspec.json.encode(row).decode()} for row in (*world.runs(), *old)]
    with Lake.open(world.lake, now=world.clock, lander=False) as lake:
        lake.insert({"log_records": pa.Table.from_pylist(landed, schema=LOG_RECORDS.schema)})
        shown = lake.query("SELECT (run->>'attempt')::INT AS attempt FROM job_runs ORDER BY 1 NULLS LAST")
    assert shown["attempt"].to_pylist() == [1, 2, None, None]


def test_a_process_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jobs.process._END_WITHIN_S", 0.2)
    armed = tmp_path / "armed"
    deaf = (
        "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(armed)!r}).touch(); time.sleep(600)"
    )
    ended = run_to_end([sys.executable, "-c", deaf], limit_s=600, ending=armed.exists)
    assert (ended.code, ended.why, ended.report) == (-9, "stopped", None)
