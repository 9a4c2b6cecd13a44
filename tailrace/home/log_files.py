"""Logs of stages as files in the home: appended to, and truncated while the stage continues to write."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger()
KEEP_BYTES = 16 << 20
"""Size above which a log is cut; as much again is kept beside it."""


@contextlib.contextmanager
def appended(path: Path) -> Iterator[IO[bytes]]:
    """Open a log to append to it; what is longer than ``KEEP_BYTES`` moves to ``NAME.log.1`` first."""
    if path.exists() and path.stat().st_size > KEEP_BYTES:
        path.replace(_older(path))
    with path.open("ab") as out:
        yield out


def cut(path: Path, *, keep_bytes: int = KEEP_BYTES) -> bool:
    """Cut a log that a process has open: copy it to ``NAME.log.1``, then empty it; return whether it was cut.

    The process has opened it to append, so it continues at the new end. Lines that it writes between the two steps are
    lost. On a full disk the copy fails: then the log is emptied all the same, because it may be what fills the disk.
    """
    try:
        if path.stat().st_size <= keep_bytes:
            return False
        with contextlib.suppress(OSError):
            draft = path.with_suffix(".log.tmp")
            try:
                shutil.copyfile(path, draft)
                draft.replace(_older(path))
            finally:
                draft.unlink(missing_ok=True)
        os.truncate(path, 0)
    except OSError as error:
        log.warning("log_not_cut", path=str(path), cause=str(error))
        return False
    return True


def _older(path: Path) -> Path:
    return path.with_suffix(".log.1")
