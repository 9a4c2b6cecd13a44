"""Maintenance changes files, never rows: in small slices, killable anywhere, under the eyes of land."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.records import Move
from warehouse.errors import LedgerMovedError
from warehouse.lake import Lake
from warehouse.storage import locks
from warehouse.upkeep import (
    OrphansRefusedError,
    Pace,
    clean_old_files,
    drop_old_days,
    expire_snapshots,
    merge,
    remove_orphans,
)
from warehouse.upkeep.merge import META
from warehouse.upkeep.pace import rest_after
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[3]
NOW = 1_795_000_000_000_000
EVENTS = "llm.events"
SOON = timedelta(hours=1)
AT = datetime(2026, 11, 18, tzinfo=UTC)


def land(lake, rows, offsets, table="raw_calls", **said):
    for o in offsets:
        lake.append({table: rows.calls(range(o, o + 1), **said)}, [Move(EVENTS, 0, o, o + 1)])


def pace(lake, **how):
    return Pace(lake, rest=0.0, **how)


def wall():
    return datetime.now(UTC)


def live_files(lake, table="raw_calls"):
    return [Path(p) for p in lake.query(f"SELECT data_file FROM ducklake_list_files('lake', '{table}')")[0].to_pylist()]


def files_on_disk(config):
    return sorted(Path(config.data_path).rglob("*.parquet"))


def fingerprint(lake):
    return lake.query("SELECT count(*), bit_xor(hash(r))::VARCHAR FROM raw_calls AS r").to_pylist()


def test_merging_leaves_one_sorted_file_a_day_and_every_row_as_it_was(lake, config, rows):
    for o in range(12):
        said = {"day": date(2026, 11, 18 + o % 2), "app": f"app{(o * 7) % 5}", "_offset": o}
        lake.append({"raw_calls": rows.calls(range(o, o + 1), **said)}, [Move(EVENTS, 0, o, o + 1)])
    before = fingerprint(lake)
    half = lake.query("SELECT max(snapshot_id) AS s FROM ducklake_snapshots('lake')")["s"][0].as_py() - 6
    then = lake.query(f"SELECT count(*) AS n FROM raw_calls AT (VERSION => {half})")["n"][0].as_py()
    merged = merge(pace(lake, size=4), "raw_calls")
    assert (merged.files_before, merged.files_after, merged.done) == (12, 2, True)
    assert fingerprint(lake) == before
    assert lake.query(f"SELECT count(*) AS n FROM raw_calls AT (VERSION => {half})")["n"][0].as_py() == then
    for file in live_files(lake):
        apps = pq.read_table(file, columns=["app"])["app"].to_pylist()
        assert apps == sorted(apps)
    assert len({file.parent for file in live_files(lake)}) == 2
    assert verify(config).ok
    assert merge(pace(lake), "raw_calls").slices == 0


def test_what_lands_is_not_sorted_land_pays_nothing_for_it(lake, rows):
    table = rows.table("raw_calls", [rows.call(o, app=app) for o, app in enumerate(("b", "a", "c"))])
    lake.append({"raw_calls": table}, [Move(EVENTS, 0, 0, 3)])
    (file,) = live_files(lake)
    assert pq.read_table(file, columns=["app"])["app"].to_pylist() == ["b", "a", "c"]


def test_the_ledger_is_never_merged_nor_flushed(lake, config, rows):
    land(lake, rows, range(3))
    with pytest.raises(ValueError, match="ledger"):
        merge(pace(lake), "ledger")
    for table in ("raw_calls", "dead", "gaps"):
        merge(pace(lake), table)
    assert live_files(lake, "ledger") == []
    assert lake.ledger()[EVENTS, 0] == 3


def test_files_of_a_good_size_are_left_alone(lake, rows):
    land(lake, rows, range(4))
    size = max(file.stat().st_size for file in live_files(lake))
    assert merge(pace(lake), "raw_calls", target_bytes=size // 2).slices == 0


def crowded(lake, monkeypatch, fits):
    """Roll every transaction of ``lake`` back while ``fits()`` is false, as lost races would; returns the tries."""
    transact, tried = lake.transact, []
    lake.session.retry_for_s = 0.1

    def race(body):
        def run(connection):
            body(connection)
            tried.append(None)
            if not fits():
                raise duckdb.TransactionException("Transaction conflict: somebody else has committed")

        transact(run)

    monkeypatch.setattr(lake, "transact", race)
    return tried


@pytest.mark.extended
def test_a_slice_that_never_fits_between_the_commits_of_others_is_made_smaller(lake, config, rows, monkeypatch):
    land(lake, rows, range(24))
    before = fingerprint(lake)
    slow = pace(lake, size=20)
    crowded(lake, monkeypatch, lambda: slow.size <= 5)
    merged = merge(slow, "raw_calls")
    monkeypatch.undo()
    assert merged.done
    assert merged.files_after == 1
    assert fingerprint(lake) == before
    assert verify(config).ok


def test_a_lake_that_leaves_no_time_for_large_files_gets_its_small_ones_merged_and_no_error(
    lake, config, rows, monkeypatch
):
    land(lake, rows, range(6))
    size = max(file.stat().st_size for file in live_files(lake))
    monkeypatch.setattr(sys.modules[merge.__module__], "_LEAST_BYTES", size // 8)
    tried = crowded(lake, monkeypatch, lambda: False)
    merged = merge(pace(lake, size=6), "raw_calls", target_bytes=4 * size)
    assert (merged.files_after, merged.slices, merged.done) == (6, 0, False)
    assert len(tried) >= 4, "not given up at once"
    monkeypatch.undo()
    assert merge(pace(lake), "raw_calls").files_after == 1
    assert verify(config).ok


@pytest.mark.extended
@pytest.mark.row(68)
def test_single_row_batches_shrink_to_few_files_within_the_memory_limit(lake, config, rows):
    """The small form of 100,000 files: bench/commits has more."""
    calls = rows.calls(range(300))
    lake.append({"raw_calls": calls.slice(0, 1)}, [Move(EVENTS, 0, 0, 1)])

    def many(connection):
        for o in range(1, 300):
            connection.register("one", calls.slice(o, 1))
            connection.execute("INSERT INTO raw_calls BY NAME SELECT * FROM one")

    lake.transact(many)
    assert len(live_files(lake)) == 300
    merged, peak_mb = in_own_process(config, "print(merge(Pace(lake, rest=0.0), 'raw_calls'))", memory="200MiB")
    assert "done=True" in merged
    assert len(live_files(lake)) < 200 / 20
    assert lake.query("SELECT count(DISTINCT _offset) AS n FROM raw_calls")["n"][0].as_py() == 300
    assert peak_mb < 600


def in_own_process(config, code, *, memory="200MiB"):
    """Run code on the lake in a process with a small memory; returns its output and its peak RSS in MB."""
    program = (
        "import sys\nfrom warehouse.storage.connect import LakeConfig\nfrom warehouse.lake import Lake\n"
        "from warehouse.upkeep import *\n"
        f"config = LakeConfig(sys.argv[1], sys.argv[2], memory_limit={memory!r})\n"
        f"lake = Lake.open(config, now=lambda: {NOW}, lander=False)\n{code}\nlake.close()\n"
        # not ru_maxrss: that one is inherited from the process that forked, here a pytest of any size
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) // 1024)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, config.catalog, config.data_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO,
        timeout=200,
    ).stdout.splitlines()
    return "\n".join(out[:-1]), int(out[-1])


def test_expiry_takes_old_snapshots_and_the_rows_of_replaced_ledgers_but_no_living_row(lake, config, rows):
    lake.replace_ledger_after = 3
    land(lake, rows, range(8))
    inlined = f"SELECT count(*) AS n FROM {META}.ducklake_inlined_data_tables"
    assert lake.query(inlined)["n"][0].as_py() == 3
    before = fingerprint(lake)
    expired = expire_snapshots(pace(lake), before=wall() + SOON)
    assert expired > 8
    assert lake.query(inlined)["n"][0].as_py() == 1
    assert lake.query("SELECT count(*) AS n FROM ducklake_snapshots('lake')")["n"][0].as_py() == 1
    assert fingerprint(lake) == before
    assert lake.ledger()[EVENTS, 0] == 8
    assert verify(config).ok


def test_young_snapshots_stay(lake, rows):
    land(lake, rows, range(2))
    assert expire_snapshots(pace(lake), before=wall() - SOON) == 0


def test_merged_files_stay_on_disk_until_their_day_is_over(lake, config, rows):
    """DuckLake compares times as texts: its own guard would delete them up to a day too early."""
    land(lake, rows, range(6))
    merge(pace(lake), "raw_calls")
    start_of_day = wall().replace(hour=0, minute=0, second=0, microsecond=0)
    own = "SELECT count(*) AS n FROM ducklake_cleanup_old_files('lake', dry_run => true, older_than => $1)"
    assert lake.query(own, [start_of_day])["n"][0].as_py() == 6, "DuckLake compares times now: our way can go"
    for before in (start_of_day, wall() - timedelta(days=2), wall() + SOON):
        if before.date() == start_of_day.date():
            assert clean_old_files(pace(lake), before=before) == 0
    assert len([f for f in files_on_disk(config) if "raw_calls" in f.parts]) == 7
    assert clean_old_files(pace(lake), before=wall() + timedelta(days=1)) == 6
    assert [f for f in files_on_disk(config) if "raw_calls" in f.parts] == live_files(lake)
    assert verify(config).ok


def test_a_file_that_is_already_gone_does_not_stop_the_clean_up(lake, config, rows):
    land(lake, rows, range(4))
    old = set(live_files(lake))
    merge(pace(lake), "raw_calls")
    old.pop().unlink()
    assert clean_old_files(pace(lake), before=wall() + timedelta(days=1)) == 4
    assert clean_old_files(pace(lake), before=wall() + timedelta(days=1)) == 0


def leave_orphan(lake, config, *, age):
    (file, *_) = live_files(lake)
    orphan = file.with_name("ducklake-0-orphan.parquet")
    shutil.copy(file, orphan)
    at = time.time() - age.total_seconds()
    os.utime(orphan, (at, at))
    return orphan


def test_orphans_of_killed_processes_go_after_two_days_and_younger_ones_stay(lake, config, rows):
    land(lake, rows, range(2))
    old = leave_orphan(lake, config, age=timedelta(days=3))
    assert remove_orphans(pace(lake), now=wall()).removed == 1
    assert not old.exists()
    young = leave_orphan(lake, config, age=timedelta(days=1, hours=23))
    assert remove_orphans(pace(lake), now=wall()).found == 0
    assert young.exists()
    assert verify(config).ok


def test_a_short_guard_for_orphans_is_refused(lake):
    with pytest.raises(ValueError, match="in flight"):
        remove_orphans(pace(lake), now=wall(), older_than=timedelta(hours=47))


def test_a_listed_file_that_the_catalog_names_stops_the_clean_up(lake, config, rows):
    """ducklake#815: the list once held live files. Here a copy under a live name plays the part."""
    land(lake, rows, range(2))
    elsewhere = Path(config.data_path) / "main" / "moved" / live_files(lake)[0].name
    elsewhere.parent.mkdir()
    shutil.copy(live_files(lake)[0], elsewhere)
    os.utime(elsewhere, (0, 0))
    other = leave_orphan(lake, config, age=timedelta(days=9))
    with pytest.raises(OrphansRefusedError, match="still named by the catalog"):
        remove_orphans(pace(lake), now=wall())
    assert elsewhere.exists()
    assert other.exists()


def test_old_days_are_dropped_whole_without_rewriting_a_file(lake, config, rows):
    for o, day in enumerate((date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 17))):
        table = rows.table("dead_bytes", [{"topic": EVENTS, "_epoch": 0, "_partition": 0, "_offset": o, "day": day}])
        lake.insert({"dead_bytes": table})
    assert drop_old_days(pace(lake), "dead_bytes", before=date(2026, 11, 11), at=AT) == 2
    assert lake.query("SELECT day FROM dead_bytes")["day"].to_pylist() == [date(2026, 11, 17)]
    assert lake.query(f"SELECT count(*) AS n FROM {META}.ducklake_delete_file")["n"][0].as_py() == 0
    assert lake.query("SELECT count(*) AS n FROM retired_days")["n"][0].as_py() == 0
    with pytest.raises(ValueError, match="gaps"):
        drop_old_days(pace(lake), "gaps", before=date(2026, 11, 11), at=AT)


def test_days_of_calls_and_dead_letters_that_are_dropped_stay_accounted_for(lake, config, rows):
    days = [date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 17)]
    calls = rows.table("raw_calls", [rows.call(o, day=day) for o, day in enumerate(days)])
    buried = rows.dead(4).set_column(rows.dead(4).schema.get_field_index("day"), "day", pa.array([days[0]]))
    lake.append({"raw_calls": calls, "dead": buried}, [Move(EVENTS, 0, 0, 5)])
    for table in ("raw_calls", "dead"):
        drop_old_days(pace(lake), table, before=date(2026, 11, 11), at=AT)
    assert lake.query("SELECT _offset FROM raw_calls")["_offset"].to_pylist() == [3]
    assert lake.query(f"SELECT count(*) AS n FROM {META}.ducklake_delete_file")["n"][0].as_py() == 0
    report = verify(config)
    assert report.ok, report.problems
    assert (report.partitions[0].landed, report.partitions[0].dead, report.partitions[0].retired) == (1, 0, 4)
    lake.connection.execute("DELETE FROM raw_calls")
    assert [p.check for p in verify(config).problems] == ["positions"]


def test_days_of_positions_without_a_record_that_are_dropped_stay_accounted_for(lake, config, rows):
    place = {"topic": EVENTS, "_epoch": 0, "_partition": 0}
    spans = [(0, 3, date(2026, 11, 1)), (5, 9, date(2026, 11, 1)), (9, 11, date(2026, 11, 17))]
    ranges = [{**place, "from_offset": a, "to_offset": b, "day": day} for a, b, day in spans]
    tables = {"raw_calls": rows.calls(range(3, 5)), "no_record_ranges": rows.table("no_record_ranges", ranges)}
    lake.append(tables, [Move(EVENTS, 0, 0, 11)])
    assert drop_old_days(pace(lake), "no_record_ranges", before=date(2026, 11, 11), at=AT) == 2
    report = verify(config)
    assert report.ok, report.problems
    assert (report.partitions[0].landed, report.partitions[0].no_record, report.partitions[0].retired) == (2, 2, 7)


ROUND = """
import sys
from datetime import UTC, datetime, timedelta
from warehouse.storage.connect import LakeConfig
from warehouse.lake import Lake
from warehouse.upkeep import *
lake = Lake.open(LakeConfig(sys.argv[1], sys.argv[2]), now=lambda: 0, lander=False)
later = datetime.now(UTC) + timedelta(days=2)
print("ready", flush=True)
for table in ("raw_calls", "dead"):
    merge(Pace(lake, rest=0.1, size=3), table)
expire_snapshots(Pace(lake, rest=0.1), before=later)
clean_old_files(Pace(lake, rest=0.1), before=later)
lake.close()
print("done", flush=True)
"""


def start_round(config, **env):
    return subprocess.Popen(
        [sys.executable, "-c", ROUND, config.catalog, config.data_path],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


@pytest.mark.row(8)
def test_killed_anywhere_the_lake_reads_as_before(lake, config, rows):
    """Merge, expiry and clean-up change no row, so every moment must read the same."""
    land(lake, rows, range(20))
    before = fingerprint(lake)
    lake.close()
    finished = 0
    for wait_s in (0.1, 0.3, 0.6, 1.0, 1.6):
        with start_round(config) as worker:
            assert worker.stdout.readline() == "ready\n"
            time.sleep(wait_s)
            worker.kill()
            finished += "done" in worker.stdout.read()
        with Lake.open(config, now=lambda: NOW) as again:
            assert fingerprint(again) == before
            assert again.ledger()[EVENTS, 0] == 20
        assert verify(config).ok
    with start_round(config) as worker:
        assert "done" in worker.communicate(timeout=60)[0]
    with Lake.open(config, now=lambda: NOW) as again:
        assert fingerprint(again) == before
        assert len(live_files(again)) == 1


def test_land_lands_everything_while_maintenance_runs(lake, config, rows):
    """Two processes on one SQLite catalog; the compare-and-set is never lost to the merge."""
    land(lake, rows, range(10))
    at, moved = 10, 0
    with start_round(config) as worker:
        while worker.poll() is None:
            try:
                land(lake, rows, range(at, at + 1))
            except LedgerMovedError:
                moved += 1
            at += 1
            time.sleep(0.2)
        assert worker.returncode == 0
    assert moved == 0
    assert at > 12
    assert lake.query("SELECT count(*) AS n, count(DISTINCT _offset) AS d FROM raw_calls").to_pylist() == [
        {"n": at, "d": at}
    ]
    assert lake.ledger()[EVENTS, 0] == at
    report = verify(config)
    assert report.ok, json.loads(report.to_json())["problems"]


class Costly:
    """A lake whose slices cost a fixed time and one a file, by a clock of its own."""

    def __init__(self, fixed_s, each_s):
        self.now_s = 0.0
        self.fixed_s, self.each_s = fixed_s, each_s

    def cost(self, files):
        self.now_s += self.fixed_s + self.each_s * files

    def transact(self, body):
        body(None)


@pytest.mark.parametrize(("fixed_s", "each_s", "least", "most"), [(0.05, 0.0, 30, 500), (0.0, 0.01, 2, 3)])
def test_slices_shrink_where_that_makes_them_shorter_and_only_there(fixed_s, each_s, least, most):
    lake = Costly(fixed_s, each_s)
    slow = Pace(lake, slice_s=0.02, rest=0.0, size=20, clock=lambda: lake.now_s)
    sizes = []
    for _ in range(12):
        slow.run(lambda _: lake.cost(slow.size))
        sizes.append(slow.size)
    assert least <= sizes[-1] <= most, sizes


def test_how_busy_others_are_is_seen_at_their_lock(lake, config):
    calm = Pace(lake)
    for _ in range(6):
        calm.run(lambda c: time.sleep(0.02))
    done = threading.Event()

    def busy():
        while not done.is_set():
            with locks.commit_slice(config.catalog, wait_s=1.0):
                time.sleep(0.04)
            time.sleep(0.01)

    thread = threading.Thread(target=busy)
    thread.start()
    crowded = Pace(lake)
    for _ in range(12):
        crowded.run(lambda c: time.sleep(0.02))
    done.set()
    thread.join()
    assert calm.busy < 0.2 < crowded.busy


def test_the_busier_others_are_the_longer_they_are_left_alone():
    rests = [rest_after(0.2, 1.0, busy) for busy in (0.0, 0.1, 0.3, 0.5, 0.6, 0.9, 1.0)]
    assert rests[0] == 0.2
    assert rests == sorted(rests)
    assert rests[3] > 5 * rests[0]
    assert rests[-1] == 5.0
    assert rest_after(0.2, 0.0, 0.9) == 0.0
