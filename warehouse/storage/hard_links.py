"""Second names (hard links) for the files of a COMMIT whose answer may be lost.

DuckLake 1.5.5 deletes what a transaction wrote when its COMMIT fails. Where only the answer of a PostgreSQL catalog was
lost, the commit is valid and its files are deleted: its rows cannot be read any more (tests/faults, row 24). So every
new file has a second name until the outcome is known. A bucket has no links: there land must not have the right to
delete objects.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)
_SUFFIX = ".kept"
_PARQUET = ".parquet"
_IN_FLIGHT_S = 3600.0


class HardLinks:
    """Hard links to the files that the open transaction wrote."""

    def __init__(self, owner: str) -> None:
        """Start without links. ``owner`` is part of their names, because two land processes see each other's files."""
        self._owner = owner
        self._files: list[Path] = []

    def hold(self, files: Sequence[Path]) -> None:
        """Link ``files``, which are written and not committed. Files of other writers may be among them."""
        self.restore()  # of an earlier COMMIT with an unknown outcome; a file restored without need is an orphan
        for file in files:
            if file.suffix != _PARQUET:
                continue
            with suppress(FileNotFoundError):  # a file of another writer that was rolled back meanwhile
                os.link(file, self._link_of(file))
                self._files.append(file)

    def release(self) -> None:
        """Remove the links: the outcome is known."""
        for file in self._files:
            self._link_of(file).unlink(missing_ok=True)
        self._files.clear()

    def restore_names(self) -> None:
        """Restore deleted files while the outcome is unknown. A file restored without need is an orphan."""
        for file in self._files:
            with suppress(FileExistsError, FileNotFoundError):  # not found: recover of another land took the link
                os.link(self._link_of(file), file)
                log.warning("file_of_unknown_commit_restored", file=str(file))

    def restore(self) -> None:
        """Restore files that were deleted although their rows are committed."""
        self.restore_names()
        self.release()

    def _link_of(self, file: Path) -> Path:
        return file.with_name(f"{file.name}.{self._owner}{_SUFFIX}")


def recover(data_path: str) -> None:
    """Restore linked files after a crash, and remove the links.

    A file restored without need is an orphan, which the clean-up removes. A link removed too early would lose rows.
    """
    for kept in Path(data_path).rglob(f"*{_SUFFIX}"):
        file = kept.with_name(kept.name.partition(_PARQUET)[0] + _PARQUET)
        with suppress(FileExistsError, FileNotFoundError):
            os.link(kept, file)
        with suppress(FileNotFoundError):
            if time.time() - kept.stat().st_mtime > _IN_FLIGHT_S:  # else another land may still need it
                kept.unlink()
