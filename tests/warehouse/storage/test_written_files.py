"""What a transaction wrote, as the kernel tells it: nothing is missed, and the folders are not looked through."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from warehouse.storage import written_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def folder(tmp_path):
    day = tmp_path / "data/main/raw_calls/day=2026-11-18"
    day.mkdir(parents=True)
    (day / "old.parquet").touch()
    return tmp_path / "data"


@pytest.fixture
def told(folder):
    found = written_files.InotifyFiles(str(folder))
    yield found
    found.close()


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def never_looks(told, monkeypatch):
    def looked(folder, since_ns):
        raise AssertionError("the kernel was not believed")

    monkeypatch.setattr(written_files.fsync, "written_since", looked)


def test_files_in_old_new_and_nested_folders_are_told_and_earlier_ones_are_forgotten(told, folder, monkeypatch):
    never_looks(told, monkeypatch)
    told.begin()
    assert told.files() == []
    touch(folder / "main/raw_calls/day=2026-11-18/before.parquet")
    told.begin()
    new = [
        touch(folder / "main/raw_calls/day=2026-11-18/a.parquet"),
        touch(folder / "main/raw_calls/day=2026-11-19/b.parquet"),
        touch(folder / "main/gaps/x/y/c.parquet"),
    ]
    assert set(told.files()) == set(new)
    told.begin()
    more = touch(folder / "main/gaps/x/y/d.parquet")
    assert told.files() == [more]


def test_nothing_is_missed_whatever_comes_and_goes(told, folder):
    draw = random.Random(20261127)
    for _ in range(60):
        told.begin()
        made = set()
        for _ in range(draw.randrange(12)):
            name = f"t{draw.randrange(3)}/day={draw.randrange(5)}/{draw.randrange(10**9)}.parquet"
            kind = draw.randrange(4)
            made |= {folder / name} if kind else set()
            if kind == 0 and (there := [p for p in folder.glob("t*/day=*") if p.is_dir()]):
                shutil.rmtree(draw.choice(there))
            elif kind == 1:
                aside = touch(folder.parent / "aside" / Path(name).name)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                aside.rename(folder / name)
            else:
                touch(folder / name)
        assert {p for p in made if p.exists()} <= set(told.files())


def test_more_than_the_kernel_queues_is_looked_for(told, folder):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    told.begin()
    day = folder / "main/raw_calls/day=2026-11-18"
    for i in range(limit + 100):
        os.close(os.open(day / f"{i}.parquet", os.O_CREAT | os.O_WRONLY))
    assert len({p for p in told.files() if p.name != "old.parquet"}) == limit + 100
    told.begin()
    assert told.files() == []
    assert touch(day / "after.parquet") in told.files()


def test_a_folder_that_another_one_replaces_is_not_believed_any_more(told, folder):
    told.begin()
    folder.rename(folder.with_name("away"))
    new = touch(folder / "main/gaps/x.parquet")
    assert told.files() == [new]
    told.begin()
    again = touch(folder / "main/gaps/y.parquet")
    assert told.files() == [again]
    (folder / "main/gaps").rename(folder / "main/gone")
    third = touch(folder / "main/gaps/z.parquet")
    assert third in told.files()


def test_a_folder_made_again_under_the_same_number_is_not_believed_either(told, folder):
    """Some file systems give a new folder the number of the one that just went."""
    told.begin()
    shutil.rmtree(folder)
    folder.mkdir()
    told._root = written_files._identity(str(folder))
    first = touch(folder / "main/gaps/x.parquet")
    assert told.files() == [first]
    told.begin()
    second = touch(folder / "main/gaps/y.parquet")
    assert told.files() == [second]


def test_a_lake_that_is_made_later_is_watched_from_then_on(tmp_path, monkeypatch):
    told = written_files.InotifyFiles(str(tmp_path / "data"))
    told.begin()
    first = touch(tmp_path / "data/main/gaps/x.parquet")
    assert told.files() == [first]
    told.begin()
    never_looks(told, monkeypatch)
    second = touch(tmp_path / "data/main/gaps/y.parquet")
    assert told.files() == [second]
    told.close()


@pytest.mark.parametrize("refused", ["inotify_init1", "inotify_add_watch"])
def test_where_the_kernel_has_no_more_watches_the_folders_are_looked_through(told, folder, monkeypatch, refused):
    real = written_files._libc()

    def full(*_):
        ctypes.set_errno(errno.ENOSPC)
        return -1

    class Full:
        inotify_init1 = staticmethod(full if refused == "inotify_init1" else real.inotify_init1)
        inotify_add_watch = staticmethod(full)

    monkeypatch.setattr(written_files, "_libc", Full)
    told.begin()
    new = touch(folder / "main/gaps/x.parquet")
    assert new in told.files()
    assert told._queue == -1


def test_nothing_stays_open(folder):
    gc.collect()  # the queues of tests before this one; other descriptors of the process come and go
    before = inotify_descriptors()
    told = written_files.InotifyFiles(str(folder))
    told.begin()
    assert inotify_descriptors() == before | {told._queue}
    told.close()
    assert inotify_descriptors() == before


def inotify_descriptors():
    """The open descriptors of this process that are inotify queues."""
    folder, found = Path("/proc/self/fd"), set()
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if "inotify" in os.readlink(folder / name):
                found.add(int(name))
    return found
