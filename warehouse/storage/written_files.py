"""Which files the open transaction wrote, so that they can be synced before it commits.

DuckLake does not list them before the commit. inotify reports them: the folders of a day hold tens of thousands of
files, those of merged days two days longer, and land commits once a second. Where inotify is not available (another
system, too many watches) the folders are scanned, which costs a commit 200 ms at 86,000 files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from warehouse.storage import fsync

log = structlog.get_logger(__name__)
_EVENT = struct.Struct("iIII")
_MOVED_TO, _CREATE, _DELETE_SELF, _MOVE_SELF = 0x80, 0x100, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED, _ONLY_FOLDERS, _IS_FOLDER = 0x2000, 0x4000, 0x8000, 0x01000000, 0x40000000
_WATCHED_EVENTS = _CREATE | _MOVED_TO | _MOVE_SELF | _DELETE_SELF | _ONLY_FOLDERS
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform == "linux" else 0
"""inotify.h gives its flags these values."""
_READ_BYTES = 256 * 1024
_SKIPPED = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)
"""Skip folders that were deleted meanwhile, and system folders such as lost+found."""


class WrittenFiles(Protocol):
    """Lists the files that were written since ``begin``."""

    def prepare(self) -> None:
        """Do what takes time before the commit lock is held."""

    def begin(self) -> None:
        """Call this before the transaction writes."""

    def files(self) -> list[Path]:
        """Return the files made since ``begin`` by any process; some may be older."""

    def close(self) -> None:
        """Release the resources of the kernel."""


def of(folder: str) -> WrittenFiles:
    """Return the fastest implementation that this system has, for the files below ``folder``."""
    return InotifyFiles(folder) if sys.platform == "linux" else ScannedFiles(folder)


class ScannedFiles:
    """Scans the folders."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._began = time.monotonic_ns()

    def prepare(self) -> None:
        """Nothing to prepare."""

    def begin(self) -> None:
        """Store the time of the monotonic clock."""
        self._began = time.monotonic_ns()

    def files(self) -> list[Path]:
        """Return the files made since ``begin``."""
        return fsync.written_since(self._folder, time.time_ns() - (time.monotonic_ns() - self._began))

    def close(self) -> None:
        """Nothing to release."""


class InotifyFiles:
    """Reads the events of inotify; scans the folders where events were or may have been missed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._scanned = ScannedFiles(folder)
        self._queue = -1
        self._folders: dict[int, str] = {}
        """Watch -> folder."""
        self._root: tuple[int, int] | None = None
        """Device and inode of ``folder``, as watched."""
        self._refused = False
        self._links_count = False

    def prepare(self) -> None:
        """Start the watches where there are none, where the folder was replaced, or where events were missed."""
        if self._queue >= 0 and (self._root != _identity(self._folder) or not self._read_events(None)):
            self.close()
        if self._queue < 0 and not self._refused:
            self._watch()

    def begin(self) -> None:
        """Discard the events of files that others wrote."""
        self._scanned.begin()
        self.prepare()

    def files(self) -> list[Path]:
        """Return the files that inotify reported since ``begin``."""
        found: list[Path] = []
        if self._queue >= 0 and self._root == _identity(self._folder) and self._read_events(found):
            return found
        self.close()
        return self._scanned.files()

    def close(self) -> None:
        """End the watches."""
        if self._queue >= 0:
            os.close(self._queue)
        self._queue, self._root = -1, None
        self._folders.clear()

    def _watch(self) -> None:
        self._root = _identity(self._folder)
        if self._root is None:
            return  # no lake there yet
        self._queue = _libc().inotify_init1(_NONBLOCKING)
        if self._queue < 0:
            self._give_up(ctypes.get_errno())
            return
        self._links_count = fsync.links_count(self._folder)
        if not self._add(self._folder, None):
            self.close()

    def _give_up(self, cause: int) -> None:
        self._refused = True
        log.warning("files_not_watched", folder=self._folder, cause=os.strerror(cause))

    def _read_events(self, found: list[Path] | None) -> bool:
        """Append reported files to ``found``; return False where events were or may have been missed."""
        while True:
            try:
                data = os.read(self._queue, _READ_BYTES)
            except BlockingIOError:
                return True
            for watch, mask, name in _events(data):
                if mask & (_OVERFLOW | _MOVE_SELF | _UNMOUNT):
                    return False
                if mask & (_IGNORED | _DELETE_SELF):
                    # a folder created in its place may have the same inode number
                    if self._folders.pop(watch, "") == self._folder:
                        return False
                elif watch in self._folders:
                    path = os.path.join(self._folders[watch], name)
                    if mask & _IS_FOLDER:
                        if not self._add(path, found):
                            return False
                    elif found is not None:
                        found.append(Path(path))

    def _add(self, folder: str, found: list[Path] | None) -> bool:
        """Watch ``folder`` and the folders below it; append the files they have already to ``found``."""
        watch = _libc().inotify_add_watch(self._queue, os.fsencode(folder), _WATCHED_EVENTS)
        if watch < 0:
            cause = ctypes.get_errno()
            if cause in _SKIPPED:
                return True
            self._give_up(cause)
            return False
        self._folders[watch] = folder
        with suppress(FileNotFoundError, PermissionError):
            if found is None and self._links_count and os.stat(folder).st_nlink == fsync.LEAF_LINKS:
                return True  # a folder of files only: reading tens of thousands of names is saved
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        if found is not None:
                            found.append(Path(entry.path))
                    elif not self._add(entry.path, found):
                        return False
        return True


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _libc() -> ctypes.CDLL:
    global _LIBC
    if _LIBC is None:
        _LIBC = ctypes.CDLL(None, use_errno=True)
    return _LIBC


_LIBC: ctypes.CDLL | None = None
