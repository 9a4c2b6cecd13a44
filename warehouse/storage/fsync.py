"""On the disk before the catalog names it: what survives a power cut.

DuckDB 1.5.5 closes a Parquet file without fsync, while SQLite and PostgreSQL sync what they commit. A power cut soon
after a commit would leave a catalog that names files without bytes, and a ledger that counts rows that do not exist
(tests/faults/test_power.py). So a writer syncs before it commits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR

_SLACK_NS = 1_000_000_000
"""File systems stamp with a clock of their own tick, and clocks are set back."""
_NO_SUCH_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
"""What file systems answer that do not sync folders."""
LEAF_LINKS = 2
"""Link count of a folder without subfolders, on file systems that count them; others report 1."""
_OURS, _VERSION_AT = "ducklake-", 23


def written_since(folder: str, since_ns: int) -> list[Path]:
    """Return the files below ``folder`` made since ``since_ns`` by any process; some may be older.

    Args:
        folder: the lake's data path; none there yet is no file.
        since_ns: wall clock before the first of them was made, ns UTC.
    """
    return [Path(name) for name in _changed(folder, since_ns - _SLACK_NS, links_count(folder))]


def links_count(folder: str) -> bool:
    """Whether the link count of a folder is the number of its subfolders, judged by the root of a lake."""
    # the root has subfolders: a file system that reports none does not count them (SMB)
    return os.path.isdir(folder) and os.stat(folder).st_nlink > LEAF_LINKS


def sync(files: Iterable[Path], root: str) -> None:
    """Return when ``files`` and the folders that lead to them from ``root`` are on the disk.

    Raises:
        OSError: they are not.
    """
    folders: set[Path] = set()
    for file in files:
        with suppress(FileNotFoundError):  # another land's, rolled back meanwhile: ours stay until the commit
            _fsync(file)
        folders.update(parent for parent in file.parents if parent.is_relative_to(root))
    for folder in folders:
        try:
            _fsync(folder)
        except OSError as error:
            if error.errno not in _NO_SUCH_SYNC:
                raise


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _changed(folder: str, since_ns: int, links_count: bool) -> Iterator[str]:
    try:
        stat = os.stat(folder)
        here = stat.st_mtime_ns >= since_ns
        if links_count and not here and stat.st_nlink == LEAF_LINKS:
            return
        names = os.listdir(folder)
    except (FileNotFoundError, PermissionError):  # what we may not open, like lost+found, is not the lake's
        return
    for name in _candidates(names, since_ns):
        path = os.path.join(folder, name)
        if _has_creation_time(name):
            yield path
            continue
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if S_ISDIR(found.st_mode):
            yield from _changed(path, since_ns, links_count)
        elif here and found.st_mtime_ns >= since_ns:
            yield path


def _candidates(names: Iterable[str], since_ns: int) -> list[str]:
    """Leave out names of older files: a UUIDv7 begins with its milliseconds.

    A day has tens of thousands of files, merged ones for two days more, and land looks once a second: comparing texts
    costs a tenth of asking for each.
    """
    at = since_ns // 1_000_000
    first = f"{_OURS}{at >> 16:08x}-{at & 0xFFFF:04x}-7"
    return [name for name in names if name >= first or not _has_creation_time(name)]


def _has_creation_time(name: str) -> bool:
    """Whether the name of a file has the time of its creation: ``ducklake-<UUIDv7>...``."""
    return name.startswith(_OURS) and name[_VERSION_AT : _VERSION_AT + 1] == "7"
