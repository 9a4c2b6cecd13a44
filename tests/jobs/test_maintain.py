"""The maintain job: one run over a lake that has been used for a while."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from fault_harness.zygote import run_command

from jobs.maintain import MaintainSettings, maintain
from schemas.records import Move
from schemas.tables import JOB_CLAIMS, TABLES
from tailrace.batch_jobs import JOBS
from warehouse import claims, ledger
from warehouse.errors import LakeMissingError
from warehouse.lake import Lake
from warehouse.storage import locks
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import RETAINED
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[2]
NOW = 1_795_000_000_000_000
EVENTS = "llm.events"


def calls(offset):
    at = datetime.fromtimestamp(NOW / 1e6, UTC)
    schema = next(t for t in TABLES if t.name == "raw_calls").schema
    row = {"id": f"00000000-0000-4000-8000-{offset:012d}", "ts": at, "app": "bot", "day": at.date(), "_dup": False}
    place = {"_epoch": 0, "_partition": 0, "_offset": offset, "_kafka_time": at}
    import pyarrow as pa

    return pa.Table.from_pylist([{**row, **place}], schema=schema)


@pytest.fixture
def config(tmp_path):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "lake"))
    with Lake.open(config, now=lambda: NOW) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        for o in range(6):
            lake.append({"raw_calls": calls(o)}, [Move(EVENTS, 0, o, o + 1)])
    return config


def test_a_run_merges_what_is_small_drops_what_is_old_and_says_so(config):
    import pyarrow as pa

    schema = next(t for t in TABLES if t.name == "dead_bytes").schema
    with Lake.open(config, now=lambda: NOW, lander=False) as lake:
        row = {"topic": EVENTS, "_epoch": 0, "_partition": 0, "_offset": 9, "day": date(2026, 11, 1)}
        lake.insert({"dead_bytes": pa.Table.from_pylist([row], schema=schema)})
    report = maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0))
    assert (report.ok, report.done, report.problems) == (True, True, ())
    assert report.rows_dropped == {"rollups": 0, "ticks": 0, "embeddings": 0, "dead_bytes": 1}
    (merged,) = (m for m in report.merged if m.table == "raw_calls")
    assert (merged.files_before, merged.files_after) == (6, 1)
    assert json.loads(report.to_json())["merged"][0]["table"] == "raw_calls"
    assert verify(config).ok
    with Lake.open(config, now=lambda: NOW, lander=False) as lake:
        assert lake.query("SELECT count(*) AS n FROM raw_calls")["n"][0].as_py() == 6


def test_two_days_on_the_old_snapshots_and_files_are_gone(config):
    maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0))
    later = int((datetime.now(UTC) + timedelta(days=4)).timestamp() * 1e6)
    report = maintain(config, now=lambda: later, settings=MaintainSettings(rest=0.0))
    assert report.snapshots_expired > 6
    assert report.old_files_removed == 6
    assert report.ok
    assert verify(config).ok


@pytest.mark.extended
def test_between_two_runs_files_are_merged_and_snapshots_expire_and_nothing_is_deleted(config):
    four_days_on = int((datetime.now(UTC) + timedelta(days=4)).timestamp() * 1e6)
    kept = {path.name for path in Path(config.data_path).rglob("*.parquet")}
    settings = MaintainSettings(rest=0.0, clean=False, retention_days={"raw_calls": 1})
    report = maintain(config, now=lambda: four_days_on, settings=settings)
    assert report.snapshots_expired > 6
    assert (report.rows_dropped, report.old_files_removed, report.orphans_found) == ({}, 0, 0)
    (merged,) = (m for m in report.merged if m.table == "raw_calls")
    assert (merged.files_before, merged.files_after) == (6, 1)
    assert kept < {path.name for path in Path(config.data_path).rglob("*.parquet")}
    assert verify(config).ok


def test_two_at_once_do_not_merge_the_same_and_old_days_go_all_the_same(config):
    with locks.upkeep(config.catalog) as first:
        assert first
        report = maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0))
    assert (report.alone, report.merged, report.snapshots_expired) == (False, (), 0)
    assert set(report.rows_dropped) == {"rollups", "ticks", "embeddings", "dead_bytes"}
    assert maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0)).alone


@pytest.mark.extended
def test_claims_that_cannot_be_shed_now_are_left_to_the_next_run(config, monkeypatch):
    monkeypatch.setattr("jobs.maintain._DEAD_CLAIMS", 1)
    with Lake.open(config, now=lambda: NOW, lander=False) as lake:
        claims.ensure(lake, "maintain")

    def refused(connection, table):
        raise duckdb.TransactionException("another writer is in the way")

    monkeypatch.setattr(ledger, "prepare_replacement", refused)
    report = maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0))
    assert (report.ok, report.done) == (True, True)
    assert claims.read(config, "maintain") is not None


def test_dead_rows_of_claims_are_shed_and_the_claims_stay(config, monkeypatch):
    monkeypatch.setattr("jobs.maintain._DEAD_CLAIMS", 5)
    with Lake.open(config, now=lambda: NOW, lander=False) as lake:
        claim = claims.ensure(lake, "maintain")
        for attempt in range(1, 9):
            following = replace(claim, due_at=NOW, attempt=attempt, owner="me")
            assert claims.move(lake, claim, following)
            claim = following
        assert ledger.dead_rows(lake.connection, JOB_CLAIMS) > 5
        maintain(config, now=lambda: NOW, settings=MaintainSettings(rest=0.0))
        assert ledger.dead_rows(lake.connection, JOB_CLAIMS) == 1
        assert claims.read(config, "maintain") == claim
        assert claims.move(lake, claim, replace(claim, attempt=9))


def test_a_run_that_is_stopped_ends_between_two_slices(config):
    report = maintain(config, now=lambda: NOW, stop=lambda: True)
    assert (report.done, report.slices) == (False, 0)


def test_no_lake_is_made_where_there_is_none(tmp_path):
    config = LakeConfig(str(tmp_path / "no.sqlite"), str(tmp_path / "lake"))
    with pytest.raises(LakeMissingError):
        maintain(config, now=lambda: NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("short", [{"files_days": 1}, {"snapshots_h": 0.2}])
def test_guards_that_are_too_short_are_refused(short):
    with pytest.raises(ValueError, match="still read"):
        MaintainSettings(**short)


def test_every_table_with_a_retention_is_one_that_may_lose_days():
    assert set(MaintainSettings().retention_days) < set(RETAINED)


@pytest.mark.parametrize("wrong", [{"raw_calls": 0}, {"ledger": 30}])
def test_a_retention_that_would_take_todays_rows_or_prove_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MaintainSettings(retention_days=wrong)


def test_the_command_prints_the_report_and_lists_the_job(config):
    home = Path(config.catalog).parent
    env = {"TAILRACE_LAKE__CATALOG": config.catalog, "TAILRACE_LAKE__DATA_PATH": config.data_path}

    def tailrace(*words):
        return run_command(["--home", str(home), "job", *words], env=env)

    ran = tailrace("run", "maintain", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["files"] >= 1
    assert [json.loads(line)["name"] for line in tailrace("list", "--json").stdout.splitlines()] == [
        job.name for job in JOBS
    ]
    assert tailrace("run", "nonsense").returncode == 2
