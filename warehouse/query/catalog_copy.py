"""A reader's copy of a SQLite catalog in a folder that it cannot write to, such as a read-only mount.

SQLite opens a database in WAL mode only where it can write files beside it (https://sqlite.org/wal.html#readonly). The
Parquet files are read where they are: those that a copied catalog names stay for `maintain.files_days` days.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from warehouse.errors import LakeUnavailableError
from warehouse.storage.connect import LakeConfig

_TRIES, _PAUSE_S = 200, 0.05
_STEADY_NS = 50_000_000
"""A file that was written more recently may be written again under the same time stamp (the kernel's tick is 4 ms)."""
Stamp = tuple[tuple[int, int] | None, ...]


def readable(config: LakeConfig) -> tuple[LakeConfig, Callable[[], None]]:
    """Return ``config``, or one whose catalog is a copy; and what removes the copy.

    Raises:
        LakeUnavailableError: it was written all the time; retry.
    """
    catalog = Path(config.catalog)
    if not config.on_sqlite or os.access(catalog.parent, os.W_OK) or not os.access(catalog, os.R_OK):
        return config, lambda: None
    folder = tempfile.TemporaryDirectory(prefix="tailrace-catalog-", ignore_cleanup_errors=True)
    copy = Path(folder.name) / catalog.name
    try:
        _copy(catalog, copy, config.name)
    except BaseException:
        folder.cleanup()
        raise
    return replace(config, catalog=str(copy)), folder.cleanup


def _copy(catalog: Path, copy: Path, name: str) -> None:
    """Copy the database and its log as they are at one moment: not written before, during and after."""
    for _ in range(_TRIES):
        before = _stamp(catalog)
        if _steady(before):
            for suffix in ("", "-wal"):
                target = Path(f"{copy}{suffix}")
                target.unlink(missing_ok=True)
                try:
                    shutil.copyfile(f"{catalog}{suffix}", target)
                except FileNotFoundError:
                    continue
            if _stamp(catalog) == before:
                return
        time.sleep(_PAUSE_S)
    raise LakeUnavailableError(name, "copy the catalog of", "it is written without a pause")


def _stamp(catalog: Path) -> Stamp:
    """Return (time of the last write, size) of the database and of its log; None where there is none."""
    found: list[tuple[int, int] | None] = []
    for suffix in ("", "-wal"):
        try:
            stat = os.stat(f"{catalog}{suffix}")
            found.append((stat.st_mtime_ns, stat.st_size))
        except FileNotFoundError:
            found.append(None)
    return tuple(found)


def _steady(stamp: Stamp) -> bool:
    return all(each is None or time.time_ns() - each[0] > _STEADY_NS for each in stamp)
