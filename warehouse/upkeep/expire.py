"""Expired snapshots, the files that only they named, and orphaned files.

This module avoids two errors of DuckLake 1.5.5. ``older_than`` of expiry and clean-up compares texts on a SQLite
catalog: ``2026-11-21 10:22`` counts as older than ``2026-11-21T09:00``, so a guard of two days may be one; snapshots
go by id, files by whole days. ``cleanup_all`` deletes the file of a transaction in flight, so it is never used
(docs/engine-notes.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

import duckdb
import structlog

from schemas.errors import FatalError
from warehouse.errors import LakeBusyError
from warehouse.storage.connect import LAKE
from warehouse.upkeep.merge import META
from warehouse.upkeep.pace import Pace, Statement

log = structlog.get_logger(__name__)
YOUNGEST_ORPHAN = timedelta(days=2)
"""Far above the longest transaction: a landing has 30 s, a reader's query 5 minutes."""


@dataclass(frozen=True)
class Cleaned:
    """How many files were listed, and how many of them were deleted."""

    found: int
    removed: int


class OrphansRefusedError(FatalError):
    """Clean-up listed a file that it must not delete; nothing was deleted."""

    def __init__(self, what: str, refused: Sequence[str], why: str) -> None:
        self.refused = tuple(refused)
        self.why = why
        super().__init__(
            f"cannot delete {what}: {len(refused)} of them {why}, first {refused[0]}; nothing was deleted; "
            "run `tailrace verify` and report this"
        )


def expire_snapshots(pace: Pace, *, before: datetime) -> int:
    """Forget snapshots made before ``before``, oldest first; return how many.

    The newest always stays. With them go dropped tables, the inlined rows of replaced ledgers among them.
    """
    expired = 0
    newest = pace.lake.query(f"SELECT max(snapshot_id) AS n FROM {META}.ducklake_snapshot")["n"][0].as_py()
    while not pace.stopped:
        # a snapshot costs far less than a file to merge
        limit = pace.size * 50
        ids = [
            row["snapshot_id"]
            for row in pace.lake.query(
                f"SELECT snapshot_id FROM {META}.ducklake_snapshot "
                "WHERE CAST(snapshot_time AS TIMESTAMPTZ) < $1 "
                "AND snapshot_id < $3 ORDER BY 1 LIMIT $2",
                [before, limit, newest],
            ).to_pylist()
        ]
        if not ids:
            break
        try:
            if pace.attempt(_expire(ids), most=200):
                expired += len(ids)
        except LakeBusyError as error:  # the next run's; clean-up need not wait for it
            log.warning("expiry_postponed", cause=str(error))
            break
    if expired:
        log.info("snapshots_expired", snapshots=expired, before=str(before))
    return expired


def _expire(ids: Sequence[int]) -> Statement:
    numbers = ", ".join(f"{int(i)}" for i in ids)
    return Statement(f"SELECT count(*) FROM ducklake_expire_snapshots('{LAKE}', versions => [{numbers}])")


def clean_old_files(pace: Pace, *, before: datetime) -> int:
    """Delete files that were merged or expired away on days before that of ``before``; return how many.

    Raises:
        OrphansRefusedError: a snapshot still names one of them.
    """
    # whole days, one more than requested: see above
    day = before.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(microseconds=1)
    listed = pace.lake.query(
        f"SELECT path FROM ducklake_cleanup_old_files('{LAKE}', dry_run => true, older_than => $1)", [_start(day)]
    )["path"].to_pylist()
    if not listed:
        return 0
    _refuse(pace, "old files", listed)
    body = Statement(f"FROM ducklake_cleanup_old_files('{LAKE}', older_than => $1)", [_start(day)])
    # Thousands of files take seconds, so this first time without the lock: it loses its commit where another writer
    # committed meanwhile. The second time, under the lock, finds that the files are deleted already.
    with suppress(duckdb.Error):
        body(pace.lake.connection)
    pace.run(body)
    log.info("old_files_removed", files=len(listed))
    return len(listed)


def _start(day: datetime) -> datetime:
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


def remove_orphans(pace: Pace, *, now: datetime, older_than: timedelta = YOUNGEST_ORPHAN) -> Cleaned:
    """Delete Parquet files that no snapshot names and that are older than ``older_than``: left by killed processes.

    Raises:
        OrphansRefusedError: one that DuckLake lists is named by the catalog, or newer by its own time stamp.
        ValueError: ``older_than`` is below two days: a transaction in flight would lose its files.
    """
    if older_than < YOUNGEST_ORPHAN:
        raise ValueError(f"orphans younger than {YOUNGEST_ORPHAN} may belong to a transaction in flight: {older_than}")
    before = now - older_than
    call = f"FROM ducklake_delete_orphaned_files('{LAKE}', {{}}older_than => $1)"
    listed = pace.lake.query("SELECT path " + call.format("dry_run => true, "), [before])["path"].to_pylist()
    if not listed or pace.stopped:
        return Cleaned(len(listed), 0)
    _refuse(pace, "orphans", listed)
    if pace.lake.config.on_disk:
        too_recent = [path for path in listed if _written(path) >= before.timestamp()]
        if too_recent:
            raise OrphansRefusedError("orphans", too_recent, f"are younger than {older_than}")
    removed = pace.lake.query("SELECT path " + call.format(""), [before]).num_rows
    log.info("orphans_removed", files=removed, before=str(before))
    return Cleaned(len(listed), removed)


def _refuse(pace: Pace, what: str, listed: Iterable[str]) -> None:
    """Look for each name among those that the catalog needs; names are UUIDs, so folders do not matter."""
    rows = pace.lake.query(
        f"SELECT path FROM {META}.ducklake_data_file UNION ALL SELECT path FROM {META}.ducklake_delete_file"
    )
    named = {PurePosixPath(path).name for path in rows["path"].to_pylist()}
    if wanted := [path for path in listed if PurePosixPath(path).name in named]:
        raise OrphansRefusedError(what, wanted, "are still named by the catalog")


def _written(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
