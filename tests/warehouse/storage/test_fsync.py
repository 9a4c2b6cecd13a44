"""What a transaction wrote: found among much that it did not, synced, kept through a COMMIT without an answer."""

from __future__ import annotations

import os
import time

import pytest

from warehouse.storage import fsync
from warehouse.storage.hard_links import HardLinks, recover

NOW_NS = time.time_ns()
OLD = "ducklake-01900000-0000-7000-8000-000000000000.parquet"


@pytest.fixture
def lake(tmp_path):
    """A table with a day of its own, both made long ago."""
    day = tmp_path / "main" / "raw_calls" / "day=2026-11-18"
    day.mkdir(parents=True)
    (day / OLD).touch()
    (day / "odd.parquet").touch()
    for path in (day / "odd.parquet", day, day.parent, day.parent.parent, tmp_path):
        os.utime(path, ns=(NOW_NS - 10**12, NOW_NS - 10**12))
    return tmp_path


def made(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"PAR1")
    return folder / name


def test_new_files_are_found_wherever_they_are_and_old_ones_are_not(lake):
    assert fsync.written_since(str(lake), NOW_NS) == []
    new = {
        made(lake / "main/raw_calls/day=2026-11-18", "delete.parquet"),
        made(lake / "main/raw_calls/day=2026-11-19", f"ducklake-{time.time_ns() // 10**6:012x}"[:17] + ".parquet"),
        made(lake / "main/gaps", "x.parquet"),
    }
    assert set(fsync.written_since(str(lake), NOW_NS)) == new


def test_the_name_says_when_a_file_was_made(lake):
    day = lake / "main/raw_calls/day=2026-11-18"
    stamp = f"{time.time_ns() // 10**6:012x}"
    new = made(day, f"ducklake-{stamp[:8]}-{stamp[8:]}-7000-8000-000000000000.parquet")
    os.utime(new, ns=(0, 0))
    old = f"{time.time_ns() // 10**6 - 5_000:012x}"
    made(day, f"ducklake-{old[:8]}-{old[8:]}-7000-8000-000000000000.parquet")
    fourth = made(day, "ducklake-00000000-0000-4000-8000-000000000000.parquet")
    assert set(fsync.written_since(str(lake), time.time_ns())) == {new, fourth}


def test_folders_are_looked_into_where_the_file_system_counts_no_links(lake, monkeypatch):
    new = made(lake / "main/raw_calls/day=2026-11-18", "x.parquet")
    for folder in (lake / "main/raw_calls", lake / "main", lake):
        os.utime(folder, ns=(0, 0))
    real = os.stat

    def uncounted(path, **how):
        found = list(real(path, **how))
        found[3] = 2
        return os.stat_result(found, {"st_mtime_ns": real(path, **how).st_mtime_ns})

    monkeypatch.setattr(fsync.os, "stat", uncounted)
    assert fsync.written_since(str(lake), NOW_NS) == [new]


def test_what_we_may_not_open_is_not_the_lakes(lake, monkeypatch):
    new = made(lake / "main/gaps", "x.parquet")
    made(lake / "lost+found/x", "x")
    real = os.listdir

    def refusing(path):
        if "lost+found" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(fsync.os, "listdir", refusing)
    assert fsync.written_since(str(lake), NOW_NS) == [new]


def test_a_lake_without_files_yet_has_written_none(tmp_path):
    assert fsync.written_since(str(tmp_path / "none"), NOW_NS) == []


def test_files_are_synced_with_every_folder_that_leads_to_them(lake, monkeypatch):
    new = made(lake / "main/gaps", "x.parquet")
    synced = []
    monkeypatch.setattr(fsync.os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    fsync.sync([new, lake / "main/gaps/gone.parquet"], str(lake))
    assert set(synced) == {str(new), str(lake / "main/gaps"), str(lake / "main"), str(lake)}
    assert synced[0] == str(new)


def test_what_a_killed_process_kept_gets_its_name_back_in_the_old_form_too(lake):
    day = lake / "main/raw_calls/day=2026-11-18"
    mine, older = made(day, "a.parquet"), made(day, "b.parquet")
    HardLinks("me").hold([mine, day / "gone.parquet"])
    os.link(older, day / "b.parquet.kept")  # as 0.1.0 named it
    mine.unlink()
    older.unlink()
    recover(str(lake))
    assert mine.read_bytes() == older.read_bytes() == b"PAR1"


def test_two_that_land_beside_each_other_do_not_take_each_others_second_names(lake):
    file = made(lake / "main/gaps", "x.parquet")
    mine, theirs = HardLinks("me"), HardLinks("them")
    theirs.hold([file])
    mine.hold([file])
    mine.release()
    file.unlink()  # their COMMIT lost its answer
    theirs.restore_names()
    assert file.exists()
    theirs.restore_names()
    theirs.release()
    assert list(lake.rglob("*.kept")) == []
