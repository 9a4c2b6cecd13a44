"""Rows 22 to 24 and 52: the catalog is locked, away, cut off in the middle of a COMMIT, or shared with a zombie."""

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pytest
from fault_harness.invariants import bounded
from fault_harness.process import REPO, rss_mb, wait_until
from fault_harness.proxy import Proxy
from fault_harness.scene import Scene
from fault_harness.traffic import call

from pipelines.clock import now_us
from schemas.records import Move
from schemas.topics import EVENTS
from tailrace.settings.model import Settings
from tailrace.supervisor.stages import STAGES
from tailrace.supervisor.supervisor import Supervisor
from tests.warehouse.conftest import Rows
from warehouse import ledger
from warehouse.errors import LakeUnavailableError, LedgerMovedError
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.upkeep import Pace, expire_snapshots

LOCK_S = 8.0
"""Longer than the busy time-out of 5 s, so that a transaction fails and is tried again."""
DEAD_TOPIC = "llm.alerts"
HOLE_S = 75.0
"""Longer than the supervisor's patience of 60 s."""


@pytest.mark.row(22)
def test_row_22_a_locked_catalog_delays_a_commit_and_loses_nothing(scene: Scene) -> None:
    scene.traffic.good(50)
    land = scene.land_until_settled()
    holder = sqlite3.connect(scene.catalog, isolation_level=None, timeout=30)
    holder.execute("BEGIN IMMEDIATE")
    scene.traffic.good(50)
    scene.traffic.flush()
    time.sleep(LOCK_S)
    assert not scene.caught_up()
    holder.execute("ROLLBACK")
    holder.close()
    scene.settle()
    assert scene.facts()["facts"]["retries"] > 0
    scene.healthy()
    scene.check()
    assert land.alive


@pytest.mark.row(23)
def test_row_23_a_catalog_that_is_away_is_waited_for(on_postgres: tuple[Scene, Proxy]) -> None:
    scene, proxy = on_postgres
    scene.traffic.good(50)
    land = scene.land_until_settled()
    proxy.refuse = True
    proxy.cut()
    scene.traffic.good(50)
    scene.traffic.flush()
    land.says("append_delayed")
    wait_until(lambda: scene.facts()["facts"].get("state") == "waiting", 20, "land says that it waits")
    proxy.refuse = False
    scene.settle()
    scene.healthy()
    scene.check(kills=2)
    assert land.alive


@pytest.mark.faults
@pytest.mark.row(23)
@pytest.mark.timeout(700)
@pytest.mark.parametrize("forgotten", [False, True], ids=["packets come late", "open connections are dead"])
def test_row_23_a_catalog_that_does_not_answer_stops_land_no_longer_than_the_supervisors_patience(
    on_postgres: tuple[Scene, Proxy], monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    scene, proxy = on_postgres
    for name, value in scene.settings.items():
        monkeypatch.setenv(name, value)
    stages = [stage for stage in STAGES if stage.name == "land"]
    supervisor = Supervisor(Settings(), scene.kafka.bootstrap_servers, stages=stages)

    def landed() -> bool:
        supervisor.look()
        return scene.caught_up()

    try:
        scene.traffic.good(50)
        scene.traffic.flush()
        wait_until(landed, 180, "land is there", scene.tails)
        size = rss_mb(supervisor.pid("land") or 0)
        proxy.hole = True
        if forgotten:
            proxy.forget()
        end = time.monotonic() + HOLE_S
        while time.monotonic() < end:
            scene.traffic.good(20)
            supervisor.look()
            if pid := supervisor.pid("land"):
                bounded(pid, rss_mb=size + 128, handles=256)
            time.sleep(0.5)
        scene.traffic.flush()
        assert not scene.caught_up()
        proxy.hole = False
        wait_until(landed, 300, "land has come back by itself", lambda: f"{supervisor.facts()}\n{scene.tails()}")
        scene.healthy()
        facts = supervisor.facts()["stages"]["land"]
        assert facts["restarts"] <= 2, facts
    finally:
        supervisor.stop()
    scene.check(kills=facts["restarts"] + 1)


@pytest.mark.representatives(1)
@pytest.mark.row(24)
@pytest.mark.parametrize("arrived", [False, True], ids=["the COMMIT was lost", "its answer was lost"])
def test_row_24_a_commit_of_unknown_outcome_lands_once(on_postgres: tuple[Scene, Proxy], arrived: bool) -> None:
    scene, proxy = on_postgres
    scene.traffic.good(50)
    land = scene.land_until_settled()
    for _ in range(3):
        proxy.cut_after, cuts = arrived, proxy.cuts
        proxy.cut_at = b"COMMIT"
        scene.traffic.good(50)
        scene.settle()
        assert proxy.cuts == cuts + 1
        # for an instant after the commit the files are gone: until land has its answer
        scene.healthy()
    scene.check(kills=3)
    assert land.alive


RE_PRICES = """
import sys
from datetime import UTC, datetime, timedelta
from jobs.prices import reprice
from pipelines.pricing import default_book
from schemas.errors import RetryableError
from pipelines.clock import now_us
from warehouse.adjust import Adjuster, Choice
from warehouse.storage.connect import LakeConfig

write = Adjuster.write

def asked_first(self, rows):
    print("about to write", flush=True)
    sys.stdin.readline()
    write(self, rows)

Adjuster.write = asked_first
today = datetime.now(UTC).date()
choice = Choice(today - timedelta(days=1), today + timedelta(days=1))
rule = {"model": "inhouse-7b", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
for _ in range(3):  # what is not known to be written may be tried again
    try:
        reprice(LakeConfig(sys.argv[1], sys.argv[2]), default_book([rule]), choice, now=now_us)
    except RetryableError as error:
        print("once more:", type(error).__name__, flush=True)
"""
"""In a process of its own: DuckDB may hold Python's lock while it waits for the catalog, and so for our proxy."""


@pytest.mark.representatives(1)
@pytest.mark.row(24, 40)
@pytest.mark.parametrize(
    "arrived",
    [
        pytest.param(False, marks=pytest.mark.faults, id="the COMMIT was lost"),
        pytest.param(True, id="its answer was lost"),
    ],
)
def test_row_24_a_re_pricing_of_unknown_outcome_counts_once(on_postgres: tuple[Scene, Proxy], arrived: bool) -> None:
    scene, proxy = on_postgres
    calls = [call(model="inhouse-7b") for _ in range(90)]
    scene.traffic.send_all(calls)
    scene.land_until_settled().terminate()  # the next COMMIT is of the re-pricing
    arguments = [sys.executable, "-c", RE_PRICES, scene.catalog, str(scene.data_path)]
    with subprocess.Popen(
        arguments,
        cwd=REPO,
        env=scene.environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as repricing:
        assert repricing.stdin
        assert repricing.stdout
        heard = []
        for line in repricing.stdout:
            heard.append(line)
            if line.startswith("about to write"):
                if not proxy.cuts:
                    proxy.cut_after, proxy.cut_at = arrived, b"COMMIT"
                repricing.stdin.write("go on\n")
                repricing.stdin.flush()
    assert (repricing.returncode, proxy.cuts) == (0, 1), "".join(heard)
    usd = sum(Decimal(e["tokens"]["input"] + 2 * e["tokens"]["output"]) / 1_000_000 for e in calls)
    with ReadOnlyLake.open(scene.lake_config) as reader:
        (known,) = reader.query("SELECT sum(cost_usd) AS usd, count(cost_usd) AS n FROM calls").to_pylist()
    assert known == {"usd": usd, "n": 90}, "".join(heard)
    scene.verified()


@pytest.mark.extended
@pytest.mark.row(52)
def test_row_52_a_zombie_that_sleeps_inside_a_transaction_holds_up_its_heir_for_a_while_only(
    on_postgres: tuple[Scene, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, _ = on_postgres
    rows, config = Rows(), replace(scene.lake_config, idle_s=3)
    moves = [Move(EVENTS, 0, 0, 5)]
    with Lake.open(config, now=now_us) as zombie, Lake.open(config, now=now_us) as heir:
        zombie.ensure_partitions(EVENTS, "one", {0: 0})
        heir.ledger()
        slept: list[bool] = []

        def sleep(name: str) -> None:
            if name == "land.before_commit" and not slept:
                slept.append(True)
                # as DuckLake does it, and more: the ledger's very row is locked
                lock = "CALL postgres_execute('__ducklake_metadata_lake', 'LOCK TABLE ducklake_snapshot')"
                zombie.connection.execute(lock)
                heir.append({"raw_calls": rows.calls(range(5))}, moves)

        monkeypatch.setattr("schemas.faults.point", sleep)
        with pytest.raises((LedgerMovedError, LakeUnavailableError)):
            zombie.append({"raw_calls": rows.calls(range(5))}, moves)
    assert slept
    assert [o for (o,) in scene.lake.rows("raw_calls", "_offset", "true ORDER BY 1")] == list(range(5))
    scene.verified()


@pytest.mark.extended
@pytest.mark.row(52)
def test_row_52_a_zombie_that_wakes_when_its_snapshot_is_forgotten_is_refused(
    on_postgres: tuple[Scene, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, _ = on_postgres
    rows = Rows()

    def append(lake: Lake, start: int) -> None:
        lake.append({"raw_calls": rows.calls(range(start, start + 5))}, [Move(EVENTS, 0, start, start + 5)])

    with Lake.open(scene.lake_config, now=now_us) as zombie, Lake.open(scene.lake_config, now=now_us) as heir:
        zombie.ensure_partitions(EVENTS, "one", {0: 0})
        append(zombie, 0)
        heir.ledger()
        slept: list[bool] = []

        def sleep(name: str) -> None:
            if name == "land.before_commit" and not slept:
                slept.append(True)
                for start in range(5, 30, 5):
                    append(heir, start)
                expire_snapshots(Pace(heir, rest=0.0), before=datetime.now(UTC) + timedelta(hours=1))

        monkeypatch.setattr("schemas.faults.point", sleep)
        with pytest.raises(LedgerMovedError):
            append(zombie, 5)
    assert slept
    offsets = [o for (o,) in scene.lake.rows("raw_calls", "_offset", "true ORDER BY 1")]
    assert offsets == list(range(30))
    scene.verified()


@pytest.mark.row(52)
@pytest.mark.parametrize("by", ["a landing", "an epoch"])
def test_row_52_a_ledger_is_not_replaced_over_what_another_one_committed_meanwhile(
    on_postgres: tuple[Scene, Proxy], by: str
) -> None:
    scene, _ = on_postgres
    rows = Rows()
    with Lake.open(scene.lake_config, now=now_us) as zombie, Lake.open(scene.lake_config, now=now_us) as heir:
        zombie.ensure_partitions(EVENTS, "one", {0: 0})
        heir.ledger()
        ledger.prepare_replacement(zombie.connection)
        tried: list[bool] = []

        def replace_meanwhile(connection: duckdb.DuckDBPyConnection) -> None:
            if tried:
                return
            tried.append(True)
            ledger.replace(connection)
            if by == "a landing":
                heir.append({"raw_calls": rows.calls(range(5))}, [Move(EVENTS, 0, 0, 5)])
            else:
                heir.adopt(EVENTS, "two", {0: 0}, cause="made anew")

        zombie.session.run(replace_meanwhile, lambda: False)
        assert zombie.session.retries == 1
        assert heir.ledger() == {(EVENTS, 0): 5 if by == "a landing" else 0}
        assert heir.epoch(EVENTS) == (0 if by == "a landing" else 1)
        assert heir.topic_ids() == {EVENTS: "one" if by == "a landing" else "two"}
        zombie.replace_ledger()
        heir.ledger()
        heir.append({"raw_calls": rows.calls(range(5, 9))}, [Move(EVENTS, 0, heir.ledger()[EVENTS, 0], 9)])


@pytest.mark.row(52)
def test_row_52_of_two_first_landers_one_makes_the_ledgers_rows(on_postgres: tuple[Scene, Proxy]) -> None:
    scene, _ = on_postgres
    rows = Rows()
    with Lake.open(scene.lake_config, now=now_us) as one, Lake.open(scene.lake_config, now=now_us) as other:
        tried: list[bool] = []

        def add_meanwhile(connection: duckdb.DuckDBPyConnection) -> None:
            if ledger.read(connection):
                return
            ledger.add(connection, [(EVENTS, "one", 0, 0, 0)], alone=False)
            if not tried:
                tried.append(True)
                other.ensure_partitions(EVENTS, "one", {0: 0})

        one.session.run(add_meanwhile, lambda: False)
        assert one.session.retries == 1
        one.ledger()
        one.append({"raw_calls": rows.calls(range(5))}, [Move(EVENTS, 0, 0, 5)])
        assert other.ledger() == {(EVENTS, 0): 5}
    scene.verified()


@pytest.mark.row(52)
def test_row_52_a_refused_commit_leaves_no_file(
    on_postgres: tuple[Scene, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, _ = on_postgres
    rows = Rows()
    with Lake.open(scene.lake_config, now=now_us) as one, Lake.open(scene.lake_config, now=now_us) as other:
        one.ensure_partitions(EVENTS, "one", {0: 0})
        other.ensure_partitions(DEAD_TOPIC, "two", {0: 0})
        one.ledger()
        met: list[int] = []

        def meet(name: str) -> None:
            if name == "land.before_commit" and len(met) in (0, 2, 4):
                met.append(1)
                at = len(met) // 2
                other.append({"raw_calls": rows.calls(range(at, at + 1), 1)}, [Move(DEAD_TOPIC, 0, at, at + 1)])
                met.append(1)

        monkeypatch.setattr("schemas.faults.point", meet)
        one.append({"raw_calls": rows.calls(range(5))}, [Move(EVENTS, 0, 0, 5)])
        assert one.session.retries == 3
    files = list(scene.data_path.rglob("raw_calls/**/*.parquet*"))
    assert len(files) == 4, files


@pytest.mark.row(23, 52)
def test_row_52_what_only_reads_may_take_longer_than_a_writer_may_do_nothing(on_postgres: tuple[Scene, Proxy]) -> None:
    scene, _ = on_postgres
    with Lake.open(replace(scene.lake_config, idle_s=1), now=now_us) as lake:
        with lake.reading() as reader:
            reader.execute("BEGIN TRANSACTION")
            reader.execute("SELECT count(*) FROM ledger").fetchall()
            time.sleep(3)
            assert reader.execute("SELECT count(*) FROM ledger").fetchall() == [(0,)]
            reader.execute("ROLLBACK")
        lake.connection.execute("BEGIN TRANSACTION")
        lake.query("SELECT count(*) FROM ledger")
        time.sleep(3)
        with pytest.raises(duckdb.Error, match=r"idle-in-transaction|terminating|closed"):
            lake.query("SELECT count(*) FROM job_claims")


@pytest.mark.faults
@pytest.mark.row(52)
def test_row_52_a_zombie_on_postgres_is_refused_by_the_ledger_and_ends(on_postgres: tuple[Scene, Proxy]) -> None:
    scene, _ = on_postgres
    scene.traffic.good(50)
    zombie = scene.land_until_settled()
    zombie.stop()
    scene.traffic.good(50)
    heir = scene.land_until_settled()
    zombie.cont()
    scene.traffic.good(50)
    scene.settle()
    # both read every record: whoever comes second at a commit ends, and one always goes on
    scene.traffic.good(50)
    scene.settle()
    wait_until(lambda: not (zombie.alive and heir.alive), 60, "one of the two has ended", scene.tails)
    loser, winner = (zombie, heir) if not zombie.alive else (heir, zombie)
    assert loser.ended() == 2, loser.tail()
    assert "another land moved the ledger" in loser.said
    scene.traffic.good(50)
    scene.settle()
    assert winner.alive
    scene.check(kills=4)


@pytest.mark.row(52)
def test_row_52_on_sqlite_a_second_lander_is_refused_at_its_start(scene: Scene) -> None:
    scene.traffic.good(50)
    first = scene.land_until_settled()
    first.stop()
    second = scene.start("land")
    assert second.ended() == 2
    assert str(first.pid) in second.said
    first.cont()
    scene.traffic.good(50)
    scene.settle()
    scene.check()
