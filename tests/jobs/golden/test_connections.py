"""How a refresh is connected, on a real PostgreSQL; and what becomes of cases that an older Tailrace wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fault_harness import postgres as pg

from tests.jobs.golden.lake import Home, failed, now, review
from warehouse.golden import versions
from warehouse.golden.failed_calls import failures
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect


@pytest.mark.extended
def test_postgres_lets_a_refresh_read_for_as_long_as_it_takes(
    postgres: pg.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer's session ends after two minutes without a question to the catalog; Parquet files may take longer."""
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {postgres.database('golden')}"
    home = Home(LakeConfig(catalog, str(tmp_path / "data")))
    home.land([failed(i) for i in range(3)])
    write = versions.write
    limits: list[str] = []

    def limit(connection: Any) -> str:
        sql = "SELECT current_setting('idle_in_transaction_session_timeout') AS value"
        asked = connection.execute("FROM postgres_query('__ducklake_metadata_lake', $1)", [sql])
        return str(asked.fetchone()[0])

    def reading(connection: Any, *args: Any, **kwargs: Any) -> Any:
        limits.append(limit(connection))
        return failures(connection, *args, **kwargs)

    def writing(lake: Lake, *args: Any, **kwargs: Any) -> bool:
        limits.append(limit(lake.connection))
        return write(lake, *args, **kwargs)

    monkeypatch.setattr(versions, "failures", reading)
    monkeypatch.setattr(versions, "write", writing)
    assert home.refresh().added == 3
    assert limits == ["0", "2min"]
    home.land(log_records=[review(0, min(c["case_id"] for c in home.cases().values()), "rejected")])
    report = home.refresh()
    assert (report.version, report.blanked) == (2, 1)
    home.hashes()


def files(config: LakeConfig) -> set[str]:
    with Lake.open(config, now=now, lander=False) as lake:
        found = lake.query("SELECT data_file, delete_file FROM ducklake_list_files('lake', 'golden_cases')").to_pylist()
    assert not any(row["delete_file"] for row in found)
    return {str(Path(row["data_file"]).parent).partition("golden_cases")[2] for row in found}


@pytest.mark.extended
def test_cases_of_a_lake_that_kept_all_versions_in_one_file_are_parted_once(home: Home) -> None:
    home.land([failed(1)])
    home.refresh()
    home.land([failed(2)])
    home.refresh()
    connection = connect(home.config)
    connection.execute("CREATE TEMP TABLE whole AS FROM golden_cases")
    connection.execute("ALTER TABLE golden_cases RESET PARTITIONED BY")
    connection.execute("ALTER TABLE ticks RESET PARTITIONED BY")
    connection.execute("DELETE FROM golden_cases")
    connection.execute("ALTER TABLE golden_cases DROP COLUMN variables")
    connection.execute("INSERT INTO golden_cases BY NAME SELECT * EXCLUDE (variables) FROM whole")
    connection.execute("UPDATE lake_version SET digest = 'older'")
    connection.close()
    before = home.ask("FROM golden_cases ORDER BY ALL")
    versions = {f"/set_name=production/version={n}" for n in (1, 2)}
    assert files(home.config) == versions, "opening it brought it forward"
    assert home.ask("SELECT * EXCLUDE (variables) FROM golden_cases ORDER BY ALL") == before
    assert parted(home) == {"golden_cases", "ticks"}
    connection = connect(home.config)
    connection.execute("UPDATE lake_version SET digest = 'older'")
    connection.close()
    held = home.ask("SELECT rowid FROM golden_cases ORDER BY ALL")
    Lake.open(home.config, now=now, lander=False).close()
    assert home.ask("SELECT rowid FROM golden_cases ORDER BY ALL") == held, "once"
    home.land([failed(3)])
    home.refresh()
    assert files(home.config) == versions | {"/set_name=production/version=3"}
    home.hashes()


def parted(home: Home) -> set[str]:
    connection = connect(home.config, read_only=True)
    rows = connection.execute(
        "SELECT t.table_name FROM __ducklake_metadata_lake.ducklake_partition_column "
        "JOIN __ducklake_metadata_lake.ducklake_partition_info AS p USING (partition_id, table_id) "
        "JOIN __ducklake_metadata_lake.ducklake_table AS t USING (table_id) "
        "WHERE p.end_snapshot IS NULL AND t.end_snapshot IS NULL AND t.table_name IN ('golden_cases', 'ticks')"
    ).fetchall()
    connection.close()
    return {name for (name,) in rows}
