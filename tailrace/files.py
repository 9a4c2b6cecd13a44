"""Files and folders that a command is given: what the operating system refuses becomes one line with a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from schemas.errors import FatalError

_REMEDIES = {
    errno.ENOENT: "name one that exists",
    errno.ENOTDIR: "name one whose folder exists",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "name a new file",
    errno.ENOSPC: "free some space, or name another disk",
    errno.EDQUOT: "free some space, or name another disk",
    errno.EROFS: "name one on a disk that is mounted for writing",
    errno.ENAMETOOLONG: "name one with a shorter path",
}


class FileRefusedError(FatalError):
    """The operating system refuses a file or a folder."""

    def __init__(self, action: str, path: Path | str, cause: str, remedy: str) -> None:
        self.path = str(path)
        super().__init__(f"cannot {action} {path}: {cause}; {remedy}")


@contextmanager
def refused(action: str, path: Path | str) -> Iterator[None]:
    """Turn an OSError of the block into one line.

    Args:
        action: what the block does, such as ``read``.
        path: what is named where the error names nothing.

    Raises:
        FileRefusedError: the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise from_os_error(action, error, path) from error


def from_os_error(action: str, error: OSError, path: Path | str = "") -> FileRefusedError:
    """Return the message of ``error`` in one line, with a remedy."""
    name = error.filename if isinstance(error.filename, str | Path) else path
    user = f"allow it to user {os.getuid()}, or name another"
    remedy = _REMEDIES.get(error.errno or 0, user if error.errno in (errno.EACCES, errno.EPERM) else "name another")
    return FileRefusedError(action, name or path, error.strerror or str(error), remedy)


def check_new_file(path: Path) -> None:
    """Refuse a file that cannot be made, before the work for it is done.

    Raises:
        FileRefusedError: it exists, or its folder is missing or may not be written.
    """
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "its folder does not exist")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error("write", OSError(error.errno, error.strerror), path) from error


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Make ``path``, for its owner alone; it is removed where the block fails.

    Raises:
        FileRefusedError: it exists, cannot be made, or its disk is full.
    """
    with refused("write", path):
        file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    try:
        with refused("write", path), file:
            yield file
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
