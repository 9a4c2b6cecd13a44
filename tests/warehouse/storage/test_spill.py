"""What DuckDB spills: no two instances into one folder, and nothing left by the dead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from warehouse.lake import Lake
from warehouse.storage import spill
from warehouse.storage.connect import connect

ROWS = 2_000_000
FILL = f"CREATE TEMP TABLE {{name}} AS SELECT i, hash(i + {{seed}}) AS h FROM range({ROWS}) t(i)"
RIGHT = "SELECT count(*) FROM {name} WHERE h = hash(i + {seed})"


def test_two_that_spill_at_the_same_time_read_back_what_they_wrote(lake: Lake) -> None:
    small = replace(lake.config, memory_limit="40MiB")
    two = [connect(small, read_only=True) for _ in range(2)]
    folders = [one.execute("SELECT current_setting('temp_directory')").fetchall()[0][0] for one in two]
    assert folders[0] != folders[1]
    for seed, one in enumerate(two):
        one.execute(FILL.format(name="filled", seed=seed))
        assert os.listdir(folders[seed]), "nothing was spilled: the test says nothing"
    for seed, one in enumerate(two):
        assert one.execute(RIGHT.format(name="filled", seed=seed)).fetchone() == (ROWS,)
    for one in two:
        one.close()
    assert [os.path.exists(folder) for folder in folders] == [False, False]


def test_what_the_dead_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    base = tmp_path / "tmp"
    mine = Path(spill.folder(base))
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host = socket.gethostname()
    alive, foreign, other = (f"{host}-{os.getppid()}-a", f"elsewhere-{process.pid}-b", "somebodys-work")
    dead, reborn = f"{host}-{process.pid}-c", f"{host}-{os.getpid()}-d"
    for name in (mine.name, alive, foreign, other, dead, reborn):
        (base / name).mkdir()
        (base / name / "duckdb_temp_storage_DEFAULT-0.tmp").touch()
    assert Path(spill.folder(base)).parent == base
    assert set(os.listdir(base)) == {mine.name, alive, foreign, other}


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="no folder that may not be written")
def test_a_reader_who_may_not_write_there_can_still_read() -> None:
    assert spill.folder(Path("/proc/nobody/tmp")).startswith("/proc/nobody/tmp/")
