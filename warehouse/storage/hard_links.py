"""Hold on to the files of a COMMIT whose answer may never come.

DuckLake 1.5.5 deletes what a transaction wrote when its COMMIT fails. Where only the answer of a PostgreSQL catalog was
lost, the commit stands and its files are gone: rows that nobody can read any more (tests/faults, row 24). So every new
file gets a second name until the outcome is known. A bucket has no links: there land must not be allowed to delete.
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


class Kept:
    """Second names of what the open transaction wrote."""

    def __init__(self, owner: str) -> None:
        """Start with none; ``owner`` is part of the names: two that land beside each other see each other's files."""
        self._owner = owner
        self._files: list[Path] = []

    def hold(self, files: Sequence[Path]) -> None:
        """Give ``files``, written and not committed, a second name; those of others do no harm."""
        self.restore()  # of a COMMIT whose outcome nobody ever learned: in vain it is an orphan, no harm
        for file in files:
            if file.suffix != _PARQUET:
                continue
            with suppress(FileNotFoundError):  # another's, rolled back meanwhile
                os.link(file, self._second(file))
                self._files.append(file)

    def release(self) -> None:
        """Forget them: the outcome is known."""
        for file in self._files:
            self._second(file).unlink(missing_ok=True)
        self._files.clear()

    def put_back(self) -> None:
        """Give back its name to what was deleted; the outcome is still unknown. In vain: an orphan, no harm."""
        for file in self._files:
            with suppress(FileExistsError, FileNotFoundError):  # the second one: another land's recover took it
                os.link(self._second(file), file)
                log.warning("file_of_unknown_commit_restored", file=str(file))

    def restore(self) -> None:
        """Bring back what was deleted although it is committed."""
        self.put_back()
        self.release()

    def _second(self, file: Path) -> Path:
        return file.with_name(f"{file.name}.{self._owner}{_SUFFIX}")


def recover(data_path: str) -> None:
    """After a crash: give kept files their first name back where it is gone, drop the second one else.

    A file restored in vain is an orphan, which the guarded clean-up removes; one dropped in vain would be a loss.
    """
    for kept in Path(data_path).rglob(f"*{_SUFFIX}"):
        file = kept.with_name(kept.name.partition(_PARQUET)[0] + _PARQUET)
        with suppress(FileExistsError, FileNotFoundError):
            os.link(kept, file)
        with suppress(FileNotFoundError):
            if time.time() - kept.stat().st_mtime > _IN_FLIGHT_S:  # else another land may still need it
                kept.unlink()
