"""The claim on a job: read back as written, moved only by who knows how it stands. Races: tests/faults."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.records import Move
from warehouse import claims
from warehouse.claims import Claim
from warehouse.errors import LakeMissingError, LakeUnavailableError
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

NOW = 1_795_000_000_000_000
HOUR = 3_600_000_000
FIRST = Claim("maintain", NOW, 0, "here", NOW, NOW, NOW)


def test_a_claim_is_read_as_it_was_written_and_moves_on(lake, config):
    assert claims.read(config, "maintain") is None
    assert claims.move(lake, None, FIRST)
    assert claims.read(config, "maintain") == FIRST
    second = replace(FIRST, due_at=NOW + HOUR, attempt=1, ended_at=None)
    assert claims.move(lake, FIRST, second)
    assert (claims.read(config, "maintain"), claims.read(config, "duplicates")) == (second, None)


@pytest.mark.row(64)
def test_who_believes_in_an_older_claim_gets_nothing(lake, config):
    claims.move(lake, None, FIRST)
    mine, theirs = (replace(FIRST, due_at=NOW + HOUR, owner=owner, ended_at=None) for owner in ("me", "them"))
    assert claims.move(lake, FIRST, theirs)
    assert not claims.move(lake, FIRST, mine)
    assert not claims.move(lake, None, mine)
    assert claims.read(config, "maintain") == theirs


def test_a_move_whose_answer_was_lost_is_found_to_have_succeeded(lake):
    assert claims.move(lake, None, FIRST)
    assert claims.move(lake, None, FIRST)


def test_claims_write_no_file(lake, config):
    was = None
    for n in range(5):
        new = replace(FIRST, due_at=NOW + n * HOUR)
        assert claims.move(lake, was, new)
        was = new
    assert not list(Path(config.data_path).rglob("job_claims/*"))


def test_there_is_nothing_to_read_where_there_is_no_lake_or_an_older_one(tmp_path, lake, config):
    with pytest.raises(LakeMissingError):
        claims.read(LakeConfig(str(tmp_path / "no.sqlite"), str(tmp_path / "no")), "maintain")
    assert not (tmp_path / "no.sqlite").exists()
    lake.transact(lambda connection: connection.execute("DROP TABLE job_claims"))
    with pytest.raises(LakeMissingError, match="start `tailrace land` once"):
        claims.read(config, "maintain")


@contextmanager
def inlined(config: LakeConfig) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Open the catalog by SQLite's own means; yields the name of the table that holds the claims."""
    with closing(sqlite3.connect(config.catalog)) as catalog, catalog:
        (name,) = catalog.execute(
            "SELECT i.table_name FROM ducklake_inlined_data_tables i JOIN ducklake_table t USING (table_id) "
            "WHERE t.table_name = 'job_claims' AND t.end_snapshot IS NULL"
        ).fetchone()
        yield catalog, name


@pytest.mark.parametrize(
    "breaks", ["UPDATE {} SET due_at = 'nonsense'", "ALTER TABLE {} RENAME TO away"], ids=["a value", "a table"]
)
def test_a_lake_that_cannot_answer_is_unavailable_and_not_missing(lake, config, breaks):
    claims.move(lake, None, FIRST)
    lake.close()
    with inlined(config) as (catalog, name):
        catalog.execute(breaks.format(name))
    with pytest.raises(LakeUnavailableError, match="read the claims of"):
        claims.read(config, "maintain")


def test_landing_does_not_open_the_dead_rows_of_claims(lake, config, rows):
    claims.move(lake, None, FIRST)
    lake.close()
    with inlined(config) as (catalog, name):
        catalog.execute(f"ALTER TABLE {name} RENAME TO away")
    with Lake.open(config, now=lambda: NOW) as again:
        again.append({"raw_calls": rows.calls(range(2))}, [Move("llm.events", 0, 0, 2)])
        assert again.ledger()["llm.events", 0] == 2


def test_a_lake_is_not_made_by_who_says_so(tmp_path):
    config = LakeConfig(str(tmp_path / "no.sqlite"), str(tmp_path / "no"))
    with pytest.raises(LakeMissingError, match="start `tailrace land` once"):
        Lake.open(config, now=lambda: NOW, lander=False, create=False)
    assert list(tmp_path.iterdir()) == []
