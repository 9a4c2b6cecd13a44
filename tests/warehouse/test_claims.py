"""The claim on a job: read back as written, moved only by who knows how it stands. Races: tests/faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from warehouse import claims
from warehouse.claims import Claim
from warehouse.connect import LakeConfig
from warehouse.errors import LakeMissingError

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
