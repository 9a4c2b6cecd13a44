"""A lake of an older Tailrace is brought forward while it is being read and written; a newer one is left alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from schemas.records import Move
from warehouse.errors import LakeNewerError, LakeRefusedError
from warehouse.lake import Lake
from warehouse.migrate import LAKE_VERSION
from warehouse.storage.connect import connect
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[2]
EVENTS = "llm.events"


def execute(config, *statements):
    connection = connect(config)
    for sql in statements:
        connection.execute(sql)
    connection.close()


def older(config):
    """Take the lake back to before two columns and a view were declared."""
    execute(
        config,
        "DROP VIEW cost_per_success",
        "ALTER TABLE raw_calls DROP COLUMN agent",
        "ALTER TABLE raw_calls ALTER COLUMN retries SET DATA TYPE SMALLINT",
        "UPDATE lake_version SET digest = 'older'",
    )


@pytest.mark.row(69)
def test_missing_columns_and_views_are_added_and_old_rows_read_null(lake, config, rows):
    lake.append({"raw_calls": rows.calls(range(2), agent="a")}, [Move(EVENTS, 0, 0, 2)])
    lake.close()
    older(config)
    with Lake.open(config, now=lambda: 1) as forward:
        forward.append({"raw_calls": rows.calls(range(2, 3), agent="planner")}, [Move(EVENTS, 0, 2, 3)])
        assert forward.query("SELECT agent FROM calls ORDER BY _offset")["agent"].to_pylist() == [None, None, "planner"]
        assert forward.query("FROM cost_per_success").num_rows == 1


def test_opening_a_lake_that_is_up_to_date_writes_nothing(lake, config):
    lake.close()
    before = snapshot(config)
    Lake.open(config, now=lambda: 1).close()
    assert snapshot(config) == before


def snapshot(config):
    connection = connect(config, read_only=True)
    try:
        return connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchone()
    finally:
        connection.close()


@pytest.mark.row(69)
def test_a_newer_lake_is_refused_and_not_touched(lake, config):
    lake.close()
    execute(config, f"INSERT INTO lake_version VALUES ({LAKE_VERSION + 1}, 'x', now())")
    before = snapshot(config)
    with pytest.raises(LakeNewerError, match="install the newer Tailrace"):
        Lake.open(config, now=lambda: 1)
    assert snapshot(config) == before


def test_a_column_that_cannot_become_what_is_declared_is_refused_whole(lake, config):
    lake.close()
    execute(
        config,
        "ALTER TABLE gaps DROP COLUMN from_offset",
        "ALTER TABLE gaps ADD COLUMN from_offset VARCHAR",
        "UPDATE lake_version SET digest = 'older'",
    )
    with pytest.raises(LakeRefusedError, match=r"gaps\.from_offset"):
        Lake.open(config, now=lambda: 1)


ALTERING = textwrap.dedent(
    """
    import random, sys, time
    sys.path[:0] = [{repo!r}, {repo!r} + "/emitter"]
    import duckdb
    from warehouse.storage.connect import LakeConfig, connect
    connection = connect(LakeConfig({catalog!r}, {data!r}))
    print("ready", flush=True)
    for n, _ in enumerate(sys.stdin):
        tries = 0
        time.sleep(random.uniform(0, 0.1))
        while True:
            tries += 1
            try:
                connection.execute("BEGIN TRANSACTION")
                connection.execute(f"ALTER TABLE raw_calls ADD COLUMN later_{{n}} INTEGER DEFAULT {{n}}")
                connection.execute("COMMIT")
                break
            except duckdb.Error as error:
                if not any(sign in str(error).lower() for sign in ("conflict", "locked")):
                    raise
                try:
                    connection.execute("ROLLBACK")
                except duckdb.Error:
                    pass
        print(n, tries, flush=True)
    """
)


@pytest.mark.row(48)
def test_columns_added_by_another_process_while_landing_lose_no_batch(lake, config, rows):
    """By a program that knows no lock of ours: the Lakes of two processes would take turns and never collide."""
    program = ALTERING.format(repo=str(REPO), catalog=config.catalog, data=config.data_path)
    end, n, again = time.monotonic() + 120, 0, 0
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "ready\n"
        while n < 10 or lake.session.retries + again == 0:
            assert time.monotonic() < end, "no two of them ever collided"
            # one for each batch, at some moment of its transaction: in a tight loop columns would leave it no gap
            other.stdin.write("\n")
            other.stdin.flush()
            lake.append({"raw_calls": rows.calls(range(n * 3, n * 3 + 3))}, [Move(EVENTS, 0, n * 3, n * 3 + 3)])
            column, tries = other.stdout.readline().split()
            assert int(column) == n
            again += int(tries) - 1
            n += 1
        other.stdin.close()
    print("retried here", lake.session.retries, "there", again)
    assert other.returncode == 0
    assert lake.ledger()[EVENTS, 0] == n * 3
    counted = lake.query("SELECT count(*) AS n, count(DISTINCT _offset) AS positions FROM raw_calls").to_pylist()
    assert counted == [{"n": n * 3, "positions": n * 3}]
    columns = lake.query("DESCRIBE raw_calls")["column_name"].to_pylist()
    assert [c for c in columns if c.startswith("later_")] == [f"later_{i}" for i in range(n)]
    report = verify(config)
    assert report.ok, report.problems
