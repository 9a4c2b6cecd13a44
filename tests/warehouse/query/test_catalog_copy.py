"""A catalog where nothing may be written is read from a copy: of one moment, for one reader, removed after it."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from warehouse.errors import LakeUnavailableError
from warehouse.query.catalog_copy import readable
from warehouse.storage.connect import LakeConfig


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A catalog whose two tables always have as many rows, in a folder that may not be written."""
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    with sqlite3.connect(config.catalog) as catalog:
        catalog.execute("PRAGMA journal_mode=WAL")
        catalog.execute("CREATE TABLE a (n INTEGER)")
        catalog.execute("CREATE TABLE b (n INTEGER)")
    allowed = os.access
    # root may write everywhere, so that a mode cannot forbid it here
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    return config


def rows(config):
    with sqlite3.connect(config.catalog) as copy:
        return copy.execute("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)").fetchone()


def test_a_folder_that_may_be_written_needs_no_copy(tmp_path):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path))
    Path(config.catalog).touch()
    assert readable(config)[0] is config


def test_the_copy_is_its_reader_s_alone_and_removed_after_it(config):
    found, remove = readable(config)
    assert found.catalog != config.catalog
    assert found.data_path == config.data_path
    assert os.stat(Path(found.catalog).parent).st_mode & 0o077 == 0
    assert rows(found) == (0, 0)
    remove()
    assert not Path(found.catalog).parent.exists()


def test_a_copy_is_of_one_moment_while_a_writer_commits(config):
    stop, written = threading.Event(), threading.Event()

    def write():
        catalog = sqlite3.connect(config.catalog, isolation_level=None)
        while not stop.wait(0.15):
            catalog.execute("BEGIN")
            catalog.executemany("INSERT INTO a VALUES (?)", [(n,) for n in range(500)])
            catalog.executemany("INSERT INTO b VALUES (?)", [(n,) for n in range(500)])
            catalog.execute("COMMIT")
            written.set()
        catalog.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(60)
        for _ in range(5):
            found, remove = readable(config)
            in_a, in_b = rows(found)
            assert in_a == in_b
            remove()
        assert in_a > 0
    finally:
        stop.set()
        writer.join()


def test_a_catalog_that_never_rests_is_given_up_and_nothing_is_left(config, monkeypatch, tmp_path):
    monkeypatch.setattr("warehouse.query.catalog_copy._TRIES", 3)
    monkeypatch.setattr("warehouse.query.catalog_copy._steady", lambda stamp: False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(LakeUnavailableError, match="without a pause"):
        readable(config)
    assert list((tmp_path / "tmp").iterdir()) == []
