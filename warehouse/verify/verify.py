"""Prove the lake from its own data: every position once, the ledger right, rollups without hole, files there.

The ledger is a cache of the rows; here it is recomputed from the rows, in one snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import duckdb
import msgspec

from schemas.tables import (
    COST_ADJUSTMENTS,
    DEAD,
    GAPS,
    LATE_DUPLICATES,
    LEDGER,
    NO_RECORD_RANGES,
    RAW_CALLS,
    RETIRED_DAYS,
    ROLLUPS,
    TABLES,
    TABLES_OF,
)
from schemas.topics import EVENTS
from warehouse.errors import LakeUnavailableError, first_line
from warehouse.migrate import require_current
from warehouse.query.reading import reading
from warehouse.storage.connect import LAKE, LakeConfig
from warehouse.verify import invariants
from warehouse.verify.invariants import PartitionReport, Problem

_SHARED = frozenset({DEAD.name, LEDGER.name, GAPS.name, NO_RECORD_RANGES.name, RETIRED_DAYS.name})
"""What the count of every topic leans on."""
_DUPLICATES = """
SELECT count(*) FILTER (NOT near), count(*) FILTER (conflict)
FROM (SELECT DISTINCT _epoch, _partition, _offset, coalesce(near, false) AS near, conflict FROM late_duplicates)
"""


@dataclass(frozen=True)
class VerifyReport:
    """What verify found; ``ok`` only where nothing is wrong."""

    ok: bool
    snapshot: int
    partitions: tuple[PartitionReport, ...]
    rollup_spans: int
    files: int
    late_duplicates: int = 0
    """Events that do not count because their id occurred far before, or in another partition."""
    conflicts: int = 0
    """Duplicates, near ones included, whose content differs from the event that counts."""
    problems: tuple[Problem, ...] = field(default_factory=tuple)

    def to_json(self) -> str:
        """Encode for ``tailrace verify --json``."""
        return msgspec.json.encode(asdict(self)).decode()


def verify(config: LakeConfig) -> VerifyReport:
    """Check the lake of ``config`` in one snapshot; it may be landing meanwhile.

    Raises:
        LakeMissingError: no catalog there.
        LakeUnavailableError: it does not answer; retry.
        LakeOlderError: no Tailrace of this version has written to it yet.
    """
    with reading(config) as (connection, read):
        try:
            return _verified(connection, read, config.name)
        except duckdb.IOException as error:
            raise LakeUnavailableError(config.name, "verify", first_line(error)) from error


def _verified(connection: duckdb.DuckDBPyConnection, config: LakeConfig, name: str) -> VerifyReport:
    require_current(connection, name)
    connection.execute("BEGIN TRANSACTION")
    (snapshot,) = connection.execute(f"SELECT max(snapshot_id) FROM ducklake_snapshots('{LAKE}')").fetchone() or (0,)
    files, broken, problems = _files(connection, config)
    # a scan over a damaged file ends with an error: checks that do not read its table run in any case
    topics = [t for t, names in TABLES_OF.items() if not broken & {*names, *_SHARED}]
    partitions = invariants.partitions(connection, topics)
    problems += invariants.positions(connection, partitions)
    problems += invariants.doubles(connection, topics)
    problems += invariants.ranges(connection) if EVENTS in topics else []
    spans = late = conflicts = 0
    if LEDGER.name not in broken:
        problems += invariants.ledger(connection, topics)
    if not broken & {ROLLUPS.name, RAW_CALLS.name}:
        spans, tiles = invariants.tiles(connection)
        problems += tiles
    if not broken & {COST_ADJUSTMENTS.name, RAW_CALLS.name}:
        problems += invariants.costs(connection)
    if LATE_DUPLICATES.name not in broken:
        late, conflicts = connection.execute(_DUPLICATES).fetchone() or (0, 0)
    return VerifyReport(
        not problems, snapshot, tuple(partitions), spans, files, late, conflicts, problems=tuple(problems)
    )


def _files(connection: duckdb.DuckDBPyConnection, config: LakeConfig) -> tuple[int, set[str], list[Problem]]:
    """Return the number of files, the tables with a damaged file, and what is wrong."""
    rows: list[tuple[str, str, int]] = []
    for table in TABLES:
        rows += [
            (table.name, path, size)
            for path, size in connection.execute(
                f"SELECT data_file, data_file_size_bytes FROM ducklake_list_files('{LAKE}', '{table.name}')"
            ).fetchall()
        ]
    objects = _objects(connection, config.data_path) if rows and not config.on_disk else {}
    damaged = [(table, path, why) for table, path, size in rows if (why := _corruption(path, size, config, objects))]
    problems = [Problem("files", path, f"{table}: {why}") for table, path, why in damaged]
    return len(rows), {table for table, *_ in damaged}, problems


def _corruption(path: str, size: int, config: LakeConfig, objects: Mapping[str, int]) -> str:
    """Return how a file differs from the ``size`` bytes in the catalog; empty where it does not."""
    try:
        found = os.stat(path).st_size if config.on_disk else objects[path]
    except OSError as error:
        return error.strerror or str(error)
    except KeyError:
        return "no such object"
    return "" if found == size else f"{found} bytes, the catalog says {size}"


def _objects(connection: duckdb.DuckDBPyConnection, data_path: str) -> dict[str, int]:
    """Return the bytes of every object below ``data_path``: from listings of a thousand, none is opened."""
    below = f"{data_path.rstrip('/')}/**"
    try:
        return dict(connection.execute("SELECT filename, size FROM read_blob($1)", [below]).fetchall())
    except duckdb.IOException as error:
        if "No files found" in str(error):
            return {}
        raise
