"""Keep the lake small and quick: drop old days, merge small files, expire snapshots, clean up. Safe to kill anywhere.

Run it in a separate process: DuckDB's memory grows with the files it merges, and an internal error of its costs the
whole instance (docs/engine-notes.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from schemas.tables import JOB_CLAIMS, TABLES
from warehouse import ledger
from warehouse.forget import drop_old_calls, unkeepable_apps
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.storage.locks import upkeep
from warehouse.upkeep import (
    RETAINED,
    Cleaned,
    Merged,
    OrphansRefusedError,
    Pace,
    clean_old_files,
    drop_old_days,
    expire_snapshots,
    merge,
    remove_orphans,
    unkeepable,
)
from warehouse.upkeep.merge import TARGET_BYTES, count_files

log = structlog.get_logger(__name__)
RETENTION_DAYS: Mapping[str, int] = {"rollups": 90, "ticks": 14, "embeddings": 30, "dead_bytes": 7}
"""Days that each table keeps. What is not named stays for ever; calls, feedback, evals and dead may be named."""
_SHORTEST_H = 0.25
_DEAD_CLAIMS = 2_500
"""A move of a claim reads them all: 10 ms."""


@dataclass(frozen=True)
class MaintainSettings:
    """How long what is kept, and how hard the work may press."""

    retention_days: Mapping[str, int] = field(default_factory=lambda: dict(RETENTION_DAYS))
    app_retention_days: Mapping[str, int] = field(default_factory=dict)
    """Days that calls of an app are kept, and what hangs on them; ``*``: of every app that is not named."""
    snapshots_h: float = 0.5
    """Snapshots of the last hours stay: far above the longest query (5 minutes) and landing (30 s), and no longer,
    because a commit reads them all: 1,000 of them cost it 0.4 of 40 ms, 86,400 half as much again (bench/commits)."""
    files_days: int = 2
    """Days for which merged and expired files stay on disk, and orphans too; at least 2."""
    target_bytes: int = TARGET_BYTES
    slice_s: float = 0.2
    """How long land is kept waiting at a time."""
    rest: float = 1.0
    """Seconds left to land for each second of work."""
    memory_limit: str = "512MiB"
    clean: bool = True
    """Also drop old days and delete files that nothing names: what no commit and no query feels."""

    def __post_init__(self) -> None:
        """Refuse what would take files from under a transaction in flight, or today's rows.

        Raises:
            ValueError: a guard or a retention is too short, or a table has none.
        """
        if wrong := unkeepable(self.retention_days):
            raise ValueError(
                f"maintain cannot keep {', '.join(f'{t} for {self.retention_days[t]} days' for t in wrong)}: name some "
                f"of {', '.join(RETAINED)}, each at least 1 day"
            )
        if apps := unkeepable_apps(self.app_retention_days, self.retention_days):
            raise ValueError(
                f"maintain cannot keep {', '.join(f'app {a!r} for {self.app_retention_days[a]} days' for a in apps)}: "
                "at least 1 day, and no longer than raw_calls"
            )
        if self.snapshots_h < _SHORTEST_H or self.files_days < 2:
            raise ValueError(
                f"maintain would delete what is still read: snapshots_h {self.snapshots_h} must be at least "
                f"{_SHORTEST_H}, files_days {self.files_days} at least 2"
            )


@dataclass(frozen=True)
class MaintainReport:
    """What one run did."""

    ok: bool
    done: bool
    """False where it was stopped half way."""
    took_s: float
    rows_dropped: Mapping[str, int]
    app_rows_dropped: Mapping[str, Mapping[str, int]]
    """Apps that are kept equally long -> table -> rows that were older than that."""
    merged: tuple[Merged, ...]
    snapshots_expired: int
    old_files_removed: int
    orphans_found: int
    orphans_removed: int
    alone: bool
    """False where another run merged and expired meanwhile: that was left to it."""
    files: int
    """Files that the newest snapshot reads, over all tables."""
    ledger_rows: int
    """Rows of the ledger in the catalog, dead ones included; land replaces it at 10,000."""
    slices: int
    longest_slice_s: float
    retries: int
    problems: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Encode for ``tailrace job run maintain --json``."""
        return msgspec.json.encode(asdict(self)).decode()


def maintain(
    config: LakeConfig,
    *,
    now: Callable[[], int],
    settings: MaintainSettings | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> MaintainReport:
    """Maintain the lake of ``config`` while it lands.

    Args:
        config: where it is; its memory limit is lowered to the job's.
        now: wall clock, µs UTC.
        settings: ages and pace.
        stop: called between slices; True ends the run early.

    Raises:
        LakeMissingError: no lake there.
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog does not answer, or the disk is full.
    """
    options = settings or MaintainSettings()
    began = time.monotonic()
    at = datetime.fromtimestamp(now() / 1e6, UTC)
    problems: list[str] = []
    limited = replace(config, memory_limit=options.memory_limit, threads=1)
    with ExitStack() as held:
        lake = held.enter_context(_opened(limited, now))
        alone = held.enter_context(upkeep(config.catalog)) if config.on_sqlite else True

        def pace(through: Lake = lake) -> Pace:
            paces.append(Pace(through, slice_s=options.slice_s, rest=options.rest, stop=stop))
            return paces[-1]

        paces: list[Pace] = []
        today = at.date()
        dropped = {
            table: drop_old_days(pace(), table, before=today - timedelta(days=days), at=at)
            for table, days in (options.retention_days if options.clean else {}).items()
        }
        of_apps: dict[str, dict[str, int]] = {}
        if alone and options.clean and options.app_retention_days:  # it writes files again, as merging does
            of_apps = drop_old_calls(pace(), options.app_retention_days, today=today, at=at)
        merged, expired = list[Merged](), 0
        if alone:  # else another run does just that, and each would take the other for a busy land
            merging = pace()
            merged = [merge(merging, t.name, target_bytes=options.target_bytes) for t in TABLES if not t.inlined]
            expired = expire_snapshots(pace(), before=at - timedelta(hours=options.snapshots_h))
            _shed_claims(pace())
        old, orphans = 0, Cleaned(0, 0)
        try:
            if options.clean:
                age = timedelta(days=options.files_days)
                # DuckLake deletes a backlog of files inside one transaction, whose locks block no other writer
                patient = replace(limited, idle_s=0)
                cleaner = lake if config.on_sqlite else held.enter_context(_opened(patient, now))
                old = clean_old_files(pace(cleaner), before=at - age)
                orphans = remove_orphans(pace(cleaner), now=at, older_than=age)
        except OrphansRefusedError as error:
            problems.append(str(error))
            log.error("clean_up_refused", cause=str(error), refused=len(error.refused))
        report = MaintainReport(
            ok=not problems,
            done=not stop(),
            took_s=round(time.monotonic() - began, 3),
            rows_dropped=dropped,
            app_rows_dropped=of_apps,
            merged=tuple(m for m in merged if m.slices or m.files_before > 1),
            snapshots_expired=expired,
            old_files_removed=old,
            orphans_found=orphans.found,
            orphans_removed=orphans.removed,
            alone=alone,
            files=count_files(lake),
            ledger_rows=ledger.dead_rows(lake.connection),
            slices=sum(p.slices for p in paces),
            longest_slice_s=round(max((p.longest_s for p in paces), default=0.0), 3),
            retries=lake.session.retries,
            problems=tuple(problems),
        )
    log.info("lake_maintained", took_s=report.took_s, files=report.files, slices=report.slices, ok=report.ok)
    return report


def _opened(config: LakeConfig, now: Callable[[], int]) -> Lake:
    return Lake.open(config, now=now, lander=False, create=False)


def _shed_claims(pace: Pace) -> None:
    """Shed the dead rows that moves of claims left behind, as land does those of the ledger."""
    if pace.stopped or ledger.dead_rows(pace.lake.connection, JOB_CLAIMS) < _DEAD_CLAIMS:
        return
    if cause := pace.lake.shed(JOB_CLAIMS, pace.run):
        log.warning("claims_not_shed", cause=cause)  # the next run's; clean-up need not wait for it
