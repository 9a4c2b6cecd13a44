"""A lake of an older Tailrace is brought forward while it is being read and written; a newer one is left alone."""

from __future__ import annotations

import pytest

from schemas.records import Move
from warehouse.connect import connect
from warehouse.errors import LakeNewerError, LakeRefusedError
from warehouse.lake import Lake
from warehouse.migrate import LAKE_VERSION

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


@pytest.mark.row(48)
def test_columns_added_by_another_process_while_landing_lose_no_batch(lake, config, rows):
    with Lake.open(config, now=lambda: 1, lander=False) as other:
        for n in range(6):
            other.transact(lambda c, n=n: c.execute(f"ALTER TABLE raw_calls ADD COLUMN later_{n} VARCHAR"))
            lake.append({"raw_calls": rows.calls(range(n, n + 1))}, [Move(EVENTS, 0, n, n + 1)])
    assert lake.ledger()[EVENTS, 0] == 6
    assert lake.query("SELECT count(*) AS n FROM raw_calls").to_pylist() == [{"n": 6}]
