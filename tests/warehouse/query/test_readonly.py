"""Readers ask; they cannot write, read files, attach, or see what is hidden (docs/engine-notes.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from schemas.records import Move
from warehouse.errors import (
    LakeDamagedError,
    LakeMissingError,
    LakeUnavailableError,
    QueryFailedError,
    QueryRefusedError,
)
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

EVENTS = "llm.events"
REFUSED = [
    "INSERT INTO ledger VALUES ('t', 'i', 0, 0, 0, 0)",
    "DELETE FROM raw_calls",
    "UPDATE ledger SET next_offset = 0",
    "DROP TABLE raw_calls",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "ALTER TABLE ledger ADD COLUMN x INTEGER",
    "COPY (SELECT 1) TO '{data}/x.parquet'",
    "COPY (SELECT 1) TO '/tmp/x.parquet'",
    "EXPORT DATABASE '{data}/x'",
    "ATTACH '{catalog}' AS other (TYPE sqlite)",
    "DETACH lake",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL ducklake_expire_snapshots('lake')",
    "CALL ducklake_cleanup_old_files('lake')",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT 1; SELECT 2",
    "SELECT * FROM sqlite_scan('{catalog}', 'ducklake_snapshot')",
    "SELECT * FROM sqlite_query('__ducklake_metadata_lake', 'PRAGMA journal_mode')",
    "FROM __ducklake_metadata_lake.ducklake_data_file",
    "FROM ducklake_list_files('lake', 'raw_calls')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('{data}/**')",
    "FROM read_csv('/etc/passwd')",
    "FROM read_json('/etc/passwd')",
    "FROM read_parquet('{data}/**/*.parquet')",
    "FROM parquet_scan('{data}/**/*.parquet')",
    "FROM parquet_metadata('{data}/x.parquet')",
    "FROM '{data}/x.parquet'",
    "FROM '/etc/passwd'",
    'FROM "/etc/passwd"',
    "SELECT * FROM glob('/**')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
    "SELECT 1 WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "FROM query('SELECT * FROM dead_bytes')",
    "FROM query_table('dead_bytes')",
    "FROM dead_bytes",
    'FROM lake.main."Dead_Bytes"',
    "SUMMARIZE dead_bytes",
    "DESCRIBE dead_bytes",
    "SELECT count(*) FROM calls, dead_bytes",
    "EXPLAIN ANALYZE DELETE FROM ledger",
    "EXPLAIN COPY (SELECT 1) TO 'x'",
    "-- explain \nEXPLAIN ANALYZE FROM dead_bytes",
    "/* explain */ EXPLAIN ANALYZE FROM dead_bytes",
    "-- explain \nEXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/x.parquet'",
    "-- explain \nEXPLAIN SELECT 1",
    "FROM duckdb_databases()",
    "FROM duckdb_databases",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM pragma_database_list",
    "SELECT current_setting('temp_directory')",
    "SELECT getenv('HOME')",
    "FROM pg_settings",
    "FROM pg_catalog.pg_settings",
    "SELECT setting FROM main.pg_settings WHERE name ILIKE 's3%'",
    "FROM sqlite_master",
    "FROM main.csv",
    'FROM "lake"."main"."csv"',
    "FROM information_schema.csv",
    "FROM lake.main.json",
    "FROM information_schema.character_sets",
    "SHOW DATABASES",
    "WITH pg_settings AS (SELECT 1) SELECT * FROM pg_settings",
    "WITH a AS (WITH pg_settings AS (SELECT 1) FROM pg_settings) FROM a, pg_settings",
    'WITH "/etc/passwd" AS (SELECT 1) FROM "/etc/passwd"',
    "WITH csv AS (SELECT 1) FROM main.csv",
    "SELECT " + "+".join(["1"] * 5_000),
    "SELECT 1 -- \0",
    "SELECT '\ud800'",
]
ALLOWED = [
    "SELECT count(*) FROM calls",
    "FROM calls LIMIT 1",
    "VALUES (1)",
    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
    "DESCRIBE calls",
    "SHOW TABLES",
    "SUMMARIZE ledger",
    "EXPLAIN SELECT * FROM calls",
    "EXPLAIN ANALYZE SELECT count(*) FROM calls",
    "FROM calls_as_known_at(TIMESTAMPTZ '2026-11-18 12:00:00+00')",
    "SELECT unnest(range(3))",
    "PIVOT ledger ON partition IN (0, 1) USING sum(next_offset) GROUP BY topic",
    "SELECT column_name FROM information_schema.columns WHERE table_name = 'calls'",
    "SELECT table_name FROM duckdb_tables",
    "FROM lake.main.calls",
    "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 3) FROM t",
    'WITH "top-models (my own)" AS (FROM calls) FROM "top-models (my own)"',
    "WITH Calls AS (FROM calls) SELECT count(*) FROM cALLS",
    "FROM (VALUES (1)) AS v(a), LATERAL (SELECT v.a + 1)",
]


@pytest.fixture(scope="module")
def shared(fresh_home, rows, tmp_path_factory):
    """One lake of five calls for all that only read."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(fresh_home, home)
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: 1) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0, 1: 0})
        lake.append({"raw_calls": rows.calls(range(5))}, [Move(EVENTS, 0, 0, 5)])
    return config


@pytest.fixture(scope="module")
def readers(shared):
    with ReadOnlyLake.open(shared, timeout_s=20) as opened:
        yield opened


@pytest.mark.parametrize("sql", REFUSED)
def test_what_does_more_than_read_the_lake_is_refused(readers, shared, sql):
    sql = sql.format(data=shared.data_path, catalog=shared.catalog)
    before = set(Path(shared.data_path).rglob("*"))
    with pytest.raises((QueryRefusedError, QueryFailedError)) as refused:
        readers.query(sql)
    assert ";" in str(refused.value)  # names a remedy
    assert set(Path(shared.data_path).rglob("*")) == before
    assert readers.query("SELECT count(*) AS n FROM raw_calls").to_pylist() == [{"n": 5}]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ledger VALUES ('t', 'i', 0, 0, 0, 0)",
        "DROP TABLE raw_calls",
        "FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/x.parquet'",
        "ATTACH '/tmp/x.duckdb'",
        "INSTALL httpfs",
        "SET memory_limit = '100GB'",
    ],
)
def test_duckdb_itself_refuses_too_where_the_first_guard_were_passed(readers, sql):
    with pytest.raises(duckdb.Error):
        readers._connection.execute(sql)


@pytest.mark.parametrize("sql", ALLOWED)
def test_reading_is_allowed(readers, sql):
    assert readers.query(sql).num_columns > 0


def test_values_are_parameters(readers):
    hostile = "bot' OR 1=1 --"
    found = readers.query("SELECT count(*) AS n FROM calls WHERE app = ?", [hostile])
    assert found.to_pylist() == [{"n": 0}]


def test_a_query_that_takes_too_long_is_ended_and_the_next_one_runs(shared):
    with ReadOnlyLake.open(shared, timeout_s=0.5) as readers:
        with pytest.raises(QueryFailedError, match=r"longer than 0\.5 s"):
            readers.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b")
        assert readers.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_an_answer_that_is_too_large_is_ended_before_it_fills_the_memory(shared):
    with ReadOnlyLake.open(shared) as readers:
        with pytest.raises(QueryFailedError, match=r"larger than 512 MiB; add LIMIT"):
            readers.query("SELECT range, range + 1 FROM range(2000000000)")
        assert readers.query("SELECT count(*) AS n FROM calls").to_pylist() == [{"n": 5}]


def test_a_query_that_takes_too_long_in_the_midst_of_its_rows_is_ended_as_well(shared):
    slow = "SELECT a.range FROM range(300000) a WHERE (SELECT sum(sqrt(b.range + a.range)) FROM range(30000) b) > 0"
    with ReadOnlyLake.open(shared, timeout_s=1.5) as readers:
        with pytest.raises(QueryFailedError, match=r"longer than 1\.5 s"):
            readers.query(f"SELECT range FROM range(300000) UNION ALL ({slow})")
        assert readers.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_file_that_goes_in_the_midst_of_an_answer_is_the_lakes_failure_and_not_the_querys(fresh_home, rows, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(fresh_home, home)
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: 1) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        lake.append({"raw_calls": rows.calls(range(5))}, [Move(EVENTS, 0, 0, 5)])
    for path in Path(config.data_path).rglob("*.parquet"):
        path.unlink()
    with ReadOnlyLake.open(config) as readers, pytest.raises(LakeUnavailableError):
        readers.query("SELECT range, '' FROM range(300000) UNION ALL SELECT 1, id::VARCHAR FROM calls")


def test_a_reader_sees_what_landed_after_it_opened(config, lake, rows):
    with ReadOnlyLake.open(config) as early:
        lake.append({"raw_calls": rows.calls(range(2))}, [Move(EVENTS, 0, 0, 2)])
        assert early.query("SELECT count(*) AS n FROM calls").to_pylist() == [{"n": 2}]


def test_a_wrong_name_is_answered_with_the_names_there_are(readers):
    with pytest.raises(QueryRefusedError, match="cost_daily"):
        readers.query("SELECT * FROM cals")


def test_no_lake_is_said_and_none_is_made(tmp_path):
    with pytest.raises(LakeMissingError):
        ReadOnlyLake.open(LakeConfig(str(tmp_path / "none.sqlite"), str(tmp_path / "data")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["cut", "emptied", "overwritten", "footer"])
def test_a_damaged_file_of_the_lake_is_named_and_no_column_is_blamed(how, shared, tmp_path):
    shutil.copytree(Path(shared.catalog).parent, tmp_path / "home")
    config = LakeConfig(str(tmp_path / "home" / "catalog.sqlite"), str(tmp_path / "home" / "data"))
    (file,) = Path(config.data_path).rglob("*raw_calls/**/*.parquet")
    whole = file.read_bytes()
    file.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "emptied": b"",
            "overwritten": b"x" * len(whole),
            "footer": whole[:-40] + b"\xff" * 32 + whole[-8:],
        }[how]
    )
    with ReadOnlyLake.open(config) as lake, pytest.raises(LakeDamagedError) as damaged:
        lake.query("SELECT * FROM calls")
    assert file.name in str(damaged.value) or how == "footer"
    assert "`tailrace verify`" in str(damaged.value)
