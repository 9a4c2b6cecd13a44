"""Find events that were sent again too late, or elsewhere, for land to see it; what is found no longer counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import msgspec
import structlog

from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import find_duplicates

log = structlog.get_logger(__name__)
SLICE = 1_000_000
"""Positions of one transaction."""


@dataclass(frozen=True)
class DuplicatesReport:
    """What one run found."""

    ok: bool
    done: bool
    """False where it was stopped half way."""
    took_s: float
    positions: int
    """Compared with everything that has landed."""
    late: int
    """Events that do not count: their id occurred far before, or in another partition."""
    conflicts: int
    """Duplicates, near ones too, whose content differs from the event that counts."""

    def to_json(self) -> str:
        """Encode for ``tailrace job run duplicates --json``."""
        return msgspec.json.encode(asdict(self)).decode()


def duplicates(
    config: LakeConfig,
    *,
    now: Callable[[], int],
    stop: Callable[[], bool] = lambda: False,
    slice_rows: int = SLICE,
    memory_limit: str = "512MiB",
) -> DuplicatesReport:
    """Look at everything that landed since the last run.

    Args:
        config: where the lake is; its memory limit is lowered to the job's.
        now: wall clock, µs UTC.
        stop: called between slices; True ends the run early, and the next run continues there.
        slice_rows: positions of a slice.
        memory_limit: of DuckDB.

    Raises:
        LakeMissingError: no lake there.
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog does not answer, or the disk is full.
    """
    began = time.monotonic()
    at = datetime.fromtimestamp(now() / 1e6, UTC)
    positions = late = conflicts = 0
    done = False
    limited = replace(config, memory_limit=memory_limit, threads=1)
    with Lake.open(limited, now=now, lander=False, create=False) as lake:
        while not (done or stop()):
            look = find_duplicates(lake, at=at, most=slice_rows)
            positions, late, conflicts = positions + look.positions, late + look.late, conflicts + look.conflicts
            done = not look.positions
    took = round(time.monotonic() - began, 3)
    report = DuplicatesReport(ok=True, done=done, took_s=took, positions=positions, late=late, conflicts=conflicts)
    log_line = log.warning if conflicts else log.info
    log_line("duplicates_found", took_s=took, positions=positions, late=late, conflicts=conflicts)
    return report
