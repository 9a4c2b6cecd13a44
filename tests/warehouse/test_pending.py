"""`upgrade --check` names what land then changes, and changes nothing; a newer lake is refused."""

from __future__ import annotations

import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest

from tailrace.cli.upgrade import _lines
from tests.jobs.data_quality.lake import WELL, micros
from warehouse.errors import LakeNewerError
from warehouse.lake import Lake
from warehouse.migrate import columns
from warehouse.pending import pending
from warehouse.storage.connect import LakeConfig, connect

LATER = micros(WELL.replace(year=2030))
"""After the release that made the home."""
HOME = Path(__file__).parents[1] / "fixtures" / "home-0.1.0.tar.gz"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One lake for all: each test leaves it as the next one wants it."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(HOME) as tar:
        tar.extractall(folder, filter="data")
    lake = folder / "home" / "lake"
    return LakeConfig(str(lake / "catalog.sqlite"), str(lake / "data"))


def have(config):
    connection = connect(config, read_only=True)
    try:
        return {f"{table}.{column}" for table, found in columns(connection).items() for column in found}
    finally:
        connection.close()


def test_it_is_said_in_words(config):
    planned = pending(config)
    text = "\n".join(_lines(planned))
    assert f"add the columns {planned.columns[0]}" in text
    assert "no row is rewritten" in text
    assert set(asdict(planned)) == {"found", "known", "current", "tables", "columns", "types", "views"}


def test_what_it_names_is_what_land_then_adds(config):
    before, planned = have(config), pending(config)
    assert not planned.current
    assert planned.columns
    assert (have(config), pending(config)) == (before, planned)
    Lake.open(config, now=lambda: LATER).close()
    added = have(config) - before
    assert set(planned.columns) <= added
    made = {name.partition(".")[0] for name in added - set(planned.columns)}
    views = made - {name.partition(".")[0] for name in before}
    assert views == {*planned.tables, *planned.views}  # the others are views that show the new columns
    after = pending(config)
    assert after.current
    assert (after.tables, after.columns, after.types, after.views) == ((), (), (), ())
    assert list(_lines(after)) == ["ok: the lake is of version 1, nothing would change"]


def test_a_newer_lake_is_refused(config):
    with Lake.open(config, now=lambda: LATER) as lake:
        lake.transact(lambda c: c.execute("INSERT INTO lake_version VALUES (99, 'x', now())") and None)
    with pytest.raises(LakeNewerError, match="install the newer Tailrace"):
        pending(config)
