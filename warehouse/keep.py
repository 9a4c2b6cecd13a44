"""Hold on to the files of a COMMIT whose answer may never come.

DuckLake 1.5.5 deletes what a transaction wrote when its COMMIT fails. Where only the answer of a PostgreSQL catalog was
lost, the commit stands and its files are gone: rows that nobody can read any more (tests/faults, row 24). So every new
file gets a second name until the outcome is known. A bucket has no links: there land must not be allowed to delete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import structlog

log = structlog.get_logger(__name__)
_SUFFIX = ".kept"
_IN_FLIGHT_S = 3600.0
_SINCE = "_kafka_time"


class Kept:
    """Second names of what the open transaction wrote."""

    def __init__(self) -> None:
        self._files: list[Path] = []

    def hold(self, connection: duckdb.DuckDBPyConnection, batches: Mapping[str, pa.Table]) -> None:
        """Give the files of ``batches``, just inserted and not committed, a second name."""
        self.release()
        for table, batch in batches.items():
            for file in _files(connection, table, batch):
                # older files that the filter could not rule out get one too: harmless, and gone after the commit
                with suppress(FileExistsError):
                    os.link(file, file.with_name(file.name + _SUFFIX))
                self._files.append(file)

    def release(self) -> None:
        """Forget them: the outcome is known."""
        for file in self._files:
            file.with_name(file.name + _SUFFIX).unlink(missing_ok=True)
        self._files.clear()

    def put_back(self) -> None:
        """Give back its name to what was deleted; the outcome is still unknown. In vain: an orphan, no harm."""
        for file in self._files:
            if not file.exists():
                os.link(file.with_name(file.name + _SUFFIX), file)
                log.warning("file_of_unknown_commit_restored", file=str(file))

    def restore(self) -> None:
        """Bring back what was deleted although it is committed."""
        self.put_back()
        self.release()


def _files(connection: duckdb.DuckDBPyConnection, table: str, batch: pa.Table) -> Iterable[Path]:
    where, values = "", []
    if _SINCE in batch.schema.names:
        where, values = f"WHERE {_SINCE} >= $1", [pc.min(batch.column(_SINCE)).as_py()]
    rows = connection.execute(f"SELECT DISTINCT filename FROM {table} {where}", values).fetchall()
    return [Path(name) for (name,) in rows]


def recover(data_path: str) -> None:
    """After a crash: give kept files their first name back where it is gone, drop the second one else.

    A file restored in vain is an orphan, which the guarded clean-up removes; one dropped in vain would be a loss.
    """
    for kept in Path(data_path).rglob(f"*{_SUFFIX}"):
        file = kept.with_name(kept.name.removesuffix(_SUFFIX))
        with suppress(FileExistsError):
            os.link(kept, file)
        if time.time() - kept.stat().st_mtime > _IN_FLIGHT_S:  # else another land may still need it
            kept.unlink()
