"""A batch and its ledger move commit together, or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from schemas.records import Move
from warehouse.errors import (
    LakeBusyError,
    LakeLockedError,
    LakeMissingError,
    LakeRefusedError,
    LakeUnavailableError,
    LedgerMovedError,
)
from warehouse.lake import Lake
from warehouse.storage.connect import connect
from warehouse.storage.day_slices import day_slices
from warehouse.verify.verify import verify

NOW = 1_795_000_000_000_000
REPO = Path(__file__).parents[2]
EVENTS = "llm.events"


def count(lake, table="raw_calls"):
    return lake.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py()


def sqlite(config, statements, *, pause_s=0.0):
    """Another program on the catalog: a process of its own, because POSIX locks are per process."""
    program = (
        "import json, sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for s in json.loads(sys.argv[2]): print(json.dumps(c.execute(s).fetchall()), flush=True)\n"
        "time.sleep(float(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", program, config.catalog, json.dumps(statements), str(pause_s)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@contextmanager
def lock_holder(config, seconds):
    with sqlite(config, ["BEGIN IMMEDIATE"], pause_s=seconds) as holder:
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.kill()


def ask(config, statement):
    with sqlite(config, [statement]) as process:
        return json.loads(process.communicate(timeout=30)[0].splitlines()[0])


def test_rows_land_and_read_back_with_every_kind_of_column(lake, rows):
    said = {
        "extra": '{"k": [1, 2]}',
        "cost_usd": Decimal("0.000000001"),
        "messages": [{"role": "user", "text": "'; DROP TABLE ledger; --"}],
        "guardrails": [{"name": "pii", "action": "block", "score": 0.5}],
        "tags": ["a", "b"],
        "latency_ms": 1.5,
        "stream": True,
    }
    lake.append({"raw_calls": rows.calls(range(1), **said)}, [Move(EVENTS, 0, 0, 1)])
    (row,) = lake.query(f"SELECT {', '.join(said)}, id::VARCHAR AS id FROM raw_calls").to_pylist()
    assert row["id"] == rows.call(0)["id"]
    assert row["extra"] == said["extra"]
    assert row["cost_usd"] == said["cost_usd"]
    assert row["messages"] == said["messages"]
    assert row["guardrails"][0]["action"] == "block"
    assert (row["tags"], row["latency_ms"], row["stream"]) == (["a", "b"], 1.5, True)


def test_all_partitions_of_a_batch_move_at_once(lake, rows):
    batch = {"raw_calls": rows.calls(range(3)), "dead": rows.dead(0, 1)}
    lake.append(batch, [Move(EVENTS, 0, 0, 3), Move(EVENTS, 1, 0, 1)])
    assert lake.ledger() == {(EVENTS, 0): 3, (EVENTS, 1): 1}
    assert (count(lake), count(lake, "dead")) == (3, 1)


def test_a_batch_whose_start_is_not_where_the_ledger_stands_is_refused_whole(lake, rows):
    lake.append({"raw_calls": rows.calls(range(3))}, [Move(EVENTS, 0, 0, 3)])
    with pytest.raises(LedgerMovedError) as refused:
        lake.append({"raw_calls": rows.calls(range(1, 5))}, [Move(EVENTS, 0, 1, 5), Move(EVENTS, 1, 0, 2)])
    assert refused.value.positions[EVENTS, 0] == 3
    assert lake.ledger() == {(EVENTS, 0): 3, (EVENTS, 1): 0}
    assert count(lake) == 3


def test_the_same_batch_again_changes_nothing(lake, rows):
    for _ in range(2):
        lake.append({"raw_calls": rows.calls(range(3))}, [Move(EVENTS, 0, 0, 3)])
    assert count(lake) == 3


def test_a_second_lander_without_the_lock_is_refused_by_the_ledger(lake, config, rows):
    with Lake.open(config, now=lambda: NOW, lander=False) as zombie:
        lake.append({"raw_calls": rows.calls(range(4))}, [Move(EVENTS, 0, 0, 4)])
        with pytest.raises(LedgerMovedError):
            zombie.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    assert count(lake) == 4


def test_a_second_land_process_is_refused_by_name(lake, config):
    with pytest.raises(LakeLockedError, match=f"process {os.getpid()} lands there already"):
        Lake.open(config, now=lambda: NOW)


def test_a_filter_on_a_flat_column_skips_files(lake, rows):
    for n, app in enumerate(("a", "b", "c")):
        lake.append({"raw_calls": rows.calls(range(n, n + 1), app=app)}, [Move(EVENTS, 0, n, n + 1)])
    plan = lake.connection.execute("EXPLAIN ANALYZE SELECT count(*) FROM raw_calls WHERE app = 'b'").fetchall()[0][1]
    assert "Total Files Read: 1" in plan, plan


def test_wal_is_on_and_files_are_zstd_and_events_never_inlined(lake, config, rows):
    lake.append({"raw_calls": rows.calls(range(1))}, [Move(EVENTS, 0, 0, 1)])
    (file,) = Path(config.data_path).rglob("raw_calls/day=*/*.parquet")
    codec = duckdb.sql(f"SELECT DISTINCT compression FROM parquet_metadata('{file}')").fetchall()
    assert codec == [("ZSTD",)]
    assert ask(config, "PRAGMA journal_mode") == [["wal"]]
    assert not list(Path(config.data_path).rglob("ledger/*.parquet"))


@pytest.mark.row(22)
def test_a_lock_held_for_seconds_by_another_writer_is_waited_for(lake, config, rows):
    waits = []
    lake.session.on_wait = lambda: waits.append(time.monotonic())
    with lock_holder(config, 5.0):
        lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    assert waits
    assert lake.session.retries > 0
    assert (count(lake), lake.ledger()[EVENTS, 0]) == (2, 2)


@pytest.mark.parametrize("ask", [count, lambda lake: lake.ledger(), lambda lake: lake.topic_ids()])
def test_a_question_asked_while_another_program_keeps_the_catalog_is_asked_again(lake, config, ask):
    before = ask(lake)
    with sqlite(config, ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"], pause_s=60.0) as other:
        lake.session.on_wait = other.kill
        assert [json.loads(other.stdout.readline()) for _ in range(2)] == [[["exclusive"]], []]
        assert ask(lake) == before
        assert other.wait() == -signal.SIGKILL


def test_a_question_inside_a_transaction_is_not_asked_again(lake):
    asked = []

    def refused(connection):
        asked.append(connection)
        raise duckdb.Error("database is locked")

    def body(connection):
        with pytest.raises(duckdb.Error):
            lake.session.ask(refused)

    lake.session.run(body, lambda: False)
    assert len(asked) == 1


@pytest.mark.row(22)
def test_a_lock_that_never_ends_is_said_and_nothing_landed(lake, config, rows):
    lake.session.retry_for_s = 0.0
    with lock_holder(config, 60.0), pytest.raises(LakeBusyError, match="another writer holds it"):
        lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    assert count(lake) == 0
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    assert count(lake) == 2


@pytest.mark.parametrize("lander", [True, False])
def test_a_lake_opens_although_another_program_holds_its_catalog(config, lander):
    """An option that is missing is set at the opening. A lock met there is no corruption; it is waited for."""
    with sqlite(config, ["DELETE FROM ducklake_metadata WHERE key = 'data_inlining_row_limit'"]) as other:
        assert other.wait() == 0
    with lock_holder(config, 7.0), Lake.open(config, now=lambda: NOW, lander=lander) as opened:
        assert opened.session.retries > 0
        options = opened.query(
            "SELECT value FROM ducklake_options('lake') WHERE option_name = 'data_inlining_row_limit'"
        )
        assert options.num_rows > 1


def test_a_catalog_that_another_program_keeps_is_unavailable_and_not_refused(config, monkeypatch):
    def locked(connection):
        raise duckdb.Error("Failed to query most recent snapshot for DuckLake: database is locked")

    monkeypatch.setattr("warehouse.ledger.dead_rows", locked)
    with pytest.raises(LakeUnavailableError, match="database is locked"):
        Lake.open(config, now=lambda: NOW)


def test_a_disk_that_fails_while_folders_are_watched_is_waited_for(lake, rows, monkeypatch):
    lake.ensure_partitions("llm.events", "topic-1", {0: 0})

    def fails(self):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("warehouse.storage.written_files.InotifyFiles.prepare", fails)
        with pytest.raises(LakeUnavailableError):
            lake.append({"raw_calls": rows.calls(range(3))}, [Move("llm.events", 0, 0, 3)])
    lake.append({"raw_calls": rows.calls(range(3))}, [Move("llm.events", 0, 0, 3)])
    assert count(lake) == 3


def test_replacing_the_ledger_keeps_where_it_stands_and_sheds_dead_rows(lake, config, rows):
    lake.replace_ledger_after = 8
    for n in range(20):
        lake.append({}, [Move(EVENTS, 0, n, n + 1)])
    assert lake.ledger()[EVENTS, 0] == 20
    ((living,),) = ask(
        config,
        "SELECT i.table_name FROM ducklake_inlined_data_tables i JOIN ducklake_table t USING (table_id) "
        "WHERE t.table_name = 'ledger' AND t.end_snapshot IS NULL",
    )
    assert ask(config, f"SELECT count(*) FROM {living}")[0][0] < 12
    assert not list(Path(config.data_path).rglob("ledger*/*.parquet"))


def test_a_successor_of_the_ledger_that_another_one_took_is_no_end(lake, config, rows, monkeypatch):
    lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
    run = lake.session.run

    def taken_first(body, was_committed, **how):
        with connect(config) as other:
            other.execute("DROP TABLE ledger_next")
        run(body, was_committed, **how)

    with monkeypatch.context() as patch:
        patch.setattr(lake.session, "run", taken_first)
        lake.replace_ledger()
    lake.append({"raw_calls": rows.calls(range(3))}, [Move(EVENTS, 0, 0, 3)])
    lake.replace_ledger()
    assert lake.ledger()[EVENTS, 0] == 3


def test_a_writer_that_read_the_old_ledger_is_refused_after_a_replacement(lake, config, rows):
    other = connect(config)
    other.execute("BEGIN TRANSACTION")
    other.execute("UPDATE ledger SET next_offset = 7 WHERE partition = 0 AND next_offset = 0")
    lake.replace_ledger()
    with pytest.raises(duckdb.Error):
        other.execute("COMMIT")
    other.close()
    assert lake.ledger()[EVENTS, 0] == 0


def test_partitions_get_their_row_once_and_keep_it(lake, rows):
    lake.append({}, [Move(EVENTS, 0, 0, 5)])
    lake.ensure_partitions(EVENTS, "topic-1", {0: 0, 1: 0, 2: 9})
    assert lake.ledger() == {(EVENTS, 0): 5, (EVENTS, 1): 0, (EVENTS, 2): 9}


def test_an_adopted_topic_goes_on_under_a_new_epoch_and_the_old_one_stays_provable(lake, config, rows):
    lake.append({"raw_calls": rows.calls(range(3))}, [Move(EVENTS, 0, 0, 3)])
    assert lake.adopt(EVENTS, "topic-2", {0: 0, 1: 0}, cause="made again") == 1
    assert (lake.epoch(EVENTS), lake.topic_ids()[EVENTS]) == (1, "topic-2")
    lake.append({"raw_calls": rows.calls(range(2), _epoch=1)}, [Move(EVENTS, 0, 0, 2)])
    assert {(r["_epoch"], r["partition"]) for r in lake.query("FROM gaps").to_pylist()} == {(0, 0), (0, 1)}
    assert verify(config).ok


def test_a_gap_is_recorded_with_the_move_over_it(lake, config):
    lake.add_gap(Move(EVENTS, 1, 0, 40), "retention")
    assert lake.ledger()[EVENTS, 1] == 40
    (gap,) = lake.query("SELECT partition, from_offset, to_offset, cause FROM gaps").to_pylist()
    assert gap == {"partition": 1, "from_offset": 0, "to_offset": 40, "cause": "retention"}
    assert verify(config).ok


def test_a_row_the_lake_cannot_hold_is_refused_and_its_batch_rolled_back(lake, rows):
    with pytest.raises(LakeRefusedError):
        lake.append({"raw_calls": rows.calls(range(2), id="no uuid")}, [Move(EVENTS, 0, 0, 2)])
    assert lake.ledger()[EVENTS, 0] == 0
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])


def test_a_catalog_that_is_gone_is_not_made_anew_over_old_files(lake, config, rows):
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    lake.close()
    Path(config.catalog).rename(config.catalog + ".away")
    with pytest.raises(LakeMissingError, match="the catalog is gone"):
        Lake.open(config, now=lambda: NOW)


@pytest.mark.row(23)
def test_a_catalog_moved_away_under_a_writer_is_waited_for_and_resumed(lake, config, rows):
    lake.session.drop()
    away = Path(config.catalog).rename(config.catalog + ".away")
    with pytest.raises(LakeUnavailableError):
        lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    away.rename(config.catalog)
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    assert count(lake) == 2


def test_a_lake_that_moved_house_opens_where_it_is_now(lake, config, rows, tmp_path):
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    lake.close()
    shutil.move(tmp_path / "home", tmp_path / "elsewhere")
    moved = type(config)(str(tmp_path / "elsewhere/catalog.sqlite"), str(tmp_path / "elsewhere/data"))
    with Lake.open(moved, now=lambda: NOW) as there:
        assert count(there) == 2
        there.append({"raw_calls": rows.calls(range(2, 3))}, [Move(EVENTS, 0, 2, 3)])
    assert verify(moved).ok


@pytest.mark.row(25)
def test_an_older_catalog_put_back_lands_the_rest_again(lake, config, rows, tmp_path):
    lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
    lake.close()
    backup = tmp_path / "backup.sqlite"
    ask(config, f"VACUUM INTO '{backup}'")
    with Lake.open(config, now=lambda: NOW) as later:
        later.append({"raw_calls": rows.calls(range(2, 5))}, [Move(EVENTS, 0, 2, 5)])
    for suffix in ("-wal", "-shm"):
        Path(config.catalog + suffix).unlink(missing_ok=True)
    shutil.copy(backup, config.catalog)
    with Lake.open(config, now=lambda: NOW) as again:
        assert again.ledger()[EVENTS, 0] == 2
        again.append({"raw_calls": rows.calls(range(2, 5))}, [Move(EVENTS, 0, 2, 5)])
        assert count(again) == 5
    assert verify(config).ok


WRITER = textwrap.dedent(
    """
    import sys, time
    sys.path[:0] = [{repo!r}, {repo!r} + "/emitter", {repo!r} + "/tests/warehouse"]
    from conftest import Rows
    from schemas.records import Move
    from warehouse.storage.connect import LakeConfig
    from warehouse.errors import LedgerMovedError
    from warehouse.lake import Lake
    lake = Lake.open(LakeConfig({catalog!r}, {data!r}), now=lambda: time.time_ns() // 1000, lander={lander})
    lost = landed = 0
    while True:
        at = lake.ledger()["llm.events", {partition}]
        if at >= {until}:
            break
        batch = {{"raw_calls": Rows.calls(range(at, at + 5), {partition})}}
        try:
            lake.append(batch, [Move("llm.events", {partition}, at, at + 5)])
            landed += 1
            print("stands at", at + 5, flush=True)
        except LedgerMovedError:
            lost += 1
    lake.close()
    print(landed, lost, lake.session.retries)
    """
)


def writer(config, *, until, partition=0, lander=True, fault=""):
    program = WRITER.format(
        repo=str(REPO),
        catalog=config.catalog,
        data=config.data_path,
        until=until,
        partition=partition,
        lander=lander,
    )
    environment = {**os.environ, "TAILRACE_FAULT": fault}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("point", ["before_insert", "after_insert", "before_commit", "after_commit"])
@pytest.mark.row(2, 4)
def test_kill_9_at_every_point_of_a_landing_loses_and_doubles_nothing(lake, config, point):
    lake.close()
    dying = writer(config, until=50, fault=f"land.{point}:kill:3")
    dying.communicate(timeout=60)
    assert dying.returncode == -signal.SIGKILL
    with Lake.open(config, now=lambda: NOW) as after:  # the kernel has freed the lock
        stood = 15 if point == "after_commit" else 10
        assert (after.ledger()[EVENTS, 0], count(after)) == (stood, stood)
    resumed = writer(config, until=50)
    resumed.communicate(timeout=60)
    report = verify(config)
    assert report.ok, report.problems
    assert next(p for p in report.partitions if p.partition == 0).landed == 50


@pytest.mark.representatives(1)
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=[pytest.mark.faults, pytest.mark.timeout(900)])])
@pytest.mark.row(3)
def test_random_kills_inside_a_transaction_leave_all_or_nothing(lake, config, kills):
    """SIGKILL spread over the second transaction, commit included (tests/faults/test_land.py kills inside it)."""
    lake.close()
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    stood = 0
    for _ in range(kills):
        with writer(config, until=1_000_000) as dying:
            first = next((line for line in dying.stdout if line.startswith("stands at")), "it ended before it landed")
            time.sleep(chance.uniform(0, 0.06))
            dying.kill()
            said = [first, *dying.communicate()[0].splitlines()]
        told = max(int(line.split()[-1]) for line in said if line.startswith("stands at"))
        report = verify(config)
        assert report.ok, report.problems
        positions = next(p.next for p in report.partitions if p.partition == 0)
        # what it was told stands; of the transaction after that all or nothing
        assert stood < told <= positions <= told + 5
        assert positions % 5 == 0
        stood = positions


@pytest.mark.row(52)
def test_two_processes_on_one_partition_lose_and_double_nothing(lake, config):
    lake.close()
    pair = [writer(config, until=100, lander=False), writer(config, until=100, lander=False)]
    results = [[int(n) for n in p.communicate(timeout=120)[0].split()[-3:]] for p in pair]  # after lines of the log
    assert all(p.returncode == 0 for p in pair)
    assert sum(landed for landed, _, _ in results) >= 20
    report = verify(config)
    assert report.ok, report.problems
    assert next(p for p in report.partitions if p.partition == 0).landed == 100


def test_a_bulk_writer_and_a_lander_take_turns(lake, config, rows):
    with Lake.open(config, now=lambda: NOW, lander=False) as bulk:
        with bulk.bulk_lock():
            bulk.connection.execute("INSERT INTO late_duplicates (id) VALUES ('x')")
        lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
        assert count(bulk) == 2
        with bulk.bulk_lock(), pytest.raises(LakeBusyError):  # noqa: SIM117
            with lake.bulk_lock(wait_s=0.05):
                pass


def test_a_landing_reads_no_statistics_of_files(lake, rows):
    """DuckLake reads those of all columns of all files for every filter on the ledger: commits would slow down."""
    lake.append({"raw_calls": rows.calls(range(3))}, [Move(EVENTS, 0, 0, 3)])
    lake.connection.execute("CALL enable_logging('QueryLog')")
    lake.append({"raw_calls": rows.calls(range(3, 6))}, [Move(EVENTS, 0, 3, 6)])
    lake.connection.execute("CALL disable_logging()")
    asked = [" ".join(sql.split()) for (sql,) in lake.connection.execute("SELECT message FROM duckdb_logs").fetchall()]
    assert any("ducklake_inlined_data" in sql for sql in asked)
    assert [sql for sql in asked if "ducklake_file_column_stats WHERE column_id" in sql] == []


def test_rows_of_many_days_land_a_few_days_at_a_time_in_one_transaction(lake, config, rows):
    days = [date(2024, 1, 1) + timedelta(days=n * 37 % 100) for n in range(300)]
    table = rows.table("raw_calls", [rows.call(n, day=day) for n, day in enumerate(days)])
    assert [len(set(part["day"].to_pylist())) for part in day_slices(table)] == [32, 32, 32, 4]
    beats = []
    lake.session.on_wait = lambda: beats.append(1)
    before = lake.query("SELECT max(snapshot_id) AS n FROM ducklake_snapshots('lake')")["n"][0].as_py()
    lake.append({"raw_calls": table}, [Move(EVENTS, 0, 0, 300)])
    assert len(beats) >= 4, "a heartbeat between two statements"
    after = lake.query("SELECT max(snapshot_id) AS n FROM ducklake_snapshots('lake')")["n"][0].as_py()
    assert after == before + 1
    landed = lake.query("SELECT _offset, day FROM raw_calls ORDER BY 1").to_pydict()
    assert landed == {"_offset": list(range(300)), "day": days}
    assert len(list(Path(config.data_path).rglob("raw_calls/**/*.parquet"))) == 100, "one file a day"
