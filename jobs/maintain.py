"""Keep the lake small and quick: drop old days, merge small files, expire snapshots, clean up. Safe to kill anywhere.

Run it in a separate process: DuckDB's memory grows with the files it merges, and an internal error invalidates the
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
from warehouse.forget import drop_old_calls, invalid_app_retention
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
    invalid_retention,
    merge,
    remove_orphans,
)
from warehouse.upkeep.merge import TARGET_BYTES, count_files

log = structlog.get_logger(__name__)
RETENTION_DAYS: Mapping[str, int] = {"rollups": 90, "ticks": 14, "embeddings": 30, "dead_bytes": 7}
"""Days that each table keeps.

Tables that are not named are kept without limit; calls, feedback, evals and dead may be named.
"""
_SHORTEST_H = 0.25
_DEAD_CLAIMS = 2_500
"""An update of a claim reads them all: 10 ms."""


@dataclass(frozen=True)
class MaintainSettings:
    """Retention of the tables, and the pace of the work."""

    retention_days: Mapping[str, int] = field(default_factory=lambda: dict(RETENTION_DAYS))
    app_retention_days: Mapping[str, int] = field(default_factory=dict)
    """Days that calls of an app are kept, and rows that belong to them; ``*``: of every app that is not named."""
    snapshots_h: float = 0.5
    """Snapshots of the last hours stay: far above the longest query (5 minutes) and landing (30 s), and not much
    longer, because a commit reads them all: 1,000 of them take 0.4 of its 40 ms, and with 86,400 a commit takes half as
    long again (bench/commits).
    """
    files_days: int = 2
    """Days for which merged and expired files stay on disk, and orphans too; at least 2."""
    target_bytes: int = TARGET_BYTES
    slice_s: float = 0.2
    """How long land is kept waiting at a time."""
    rest: float = 1.0
    """Seconds left to land for each second of work."""
    memory_limit: str = "512MiB"
    clean: bool = True
    """Also drop old days and delete unreferenced files: this does not slow commits and queries."""

    def __post_init__(self) -> None:
        """Refuse settings that would delete the files of a running transaction, or rows of today.

        Raises:
            ValueError: a guard or a retention is too short, or a table has none.
        """
        if wrong := invalid_retention(self.retention_days):
            raise ValueError(
                f"maintain cannot keep {', '.join(f'{t} for {self.retention_days[t]} days' for t in wrong)}: name some "
                f"of {', '.join(RETAINED)}, each at least 1 day"
            )
        if apps := invalid_app_retention(self.app_retention_days, self.retention_days):
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
    """False where another run merged and expired at the same time: this run did not."""
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
    limited = replace(config, memory_limit=options.memory_limit, threads=1)
    with ExitStack() as held:
        lake = held.enter_context(_opened(limited, now))
        alone = held.enter_context(upkeep(config.catalog)) if config.on_sqlite else True
        run = _Run(lake, options, datetime.fromtimestamp(now() / 1e6, UTC), stop)
        run.drop_days()
        if alone:  # else another run merges too, and each would mistake the other for a busy land
            run.drop_days_of_apps()
            run.merge()
            run.expire()
        if options.clean:
            # DuckLake deletes a backlog of files inside one transaction, whose locks block no other writer
            without_limit = replace(limited, idle_s=0)
            run.clean(lake if config.on_sqlite else held.enter_context(_opened(without_limit, now)))
        report = run.report(alone, began)
    log.info("lake_maintained", took_s=report.took_s, files=report.files, slices=report.slices, ok=report.ok)
    return report


class _Run:
    """The steps of one run, each with its own pace, and what they did."""

    def __init__(self, lake: Lake, options: MaintainSettings, at: datetime, stop: Callable[[], bool]) -> None:
        self._lake, self._options, self._at, self._stop = lake, options, at, stop
        self._paces: list[Pace] = []
        self._dropped: dict[str, int] = {}
        self._dropped_of_apps: dict[str, dict[str, int]] = {}
        self._merged: list[Merged] = []
        self._expired = self._old_files = 0
        self._orphans = Cleaned(0, 0)
        self._problems: tuple[str, ...] = ()

    def _pace(self, lake: Lake | None = None) -> Pace:
        pace = Pace(lake or self._lake, slice_s=self._options.slice_s, rest=self._options.rest, stop=self._stop)
        self._paces.append(pace)
        return pace

    def drop_days(self) -> None:
        """Drop the days that are older than the retention of their table."""
        today, retention = self._at.date(), self._options.retention_days if self._options.clean else {}
        self._dropped = {
            table: drop_old_days(self._pace(), table, before=today - timedelta(days=days), at=self._at)
            for table, days in retention.items()
        }

    def drop_days_of_apps(self) -> None:
        """Delete the calls that are older than the retention of their app. It writes files again, as merging does."""
        apps = self._options.app_retention_days
        if apps and self._options.clean:
            self._dropped_of_apps = drop_old_calls(self._pace(), apps, today=self._at.date(), at=self._at)

    def merge(self) -> None:
        """Merge the small files of every table."""
        pace, target = self._pace(), self._options.target_bytes
        self._merged = [merge(pace, t.name, target_bytes=target) for t in TABLES if not t.inlined]

    def expire(self) -> None:
        """Expire old snapshots and remove dead rows of claims."""
        self._expired = expire_snapshots(self._pace(), before=self._at - timedelta(hours=self._options.snapshots_h))
        _drop_dead_claim_rows(self._pace())

    def clean(self, lake: Lake) -> None:
        """Delete ended files and orphans; orphans that may not be deleted are a problem of the report."""
        age = timedelta(days=self._options.files_days)
        try:
            self._old_files = clean_old_files(self._pace(lake), before=self._at - age)
            self._orphans = remove_orphans(self._pace(lake), now=self._at, older_than=age)
        except OrphansRefusedError as error:
            log.error("clean_up_refused", cause=str(error), refused=len(error.refused))
            self._problems = (str(error),)

    def report(self, alone: bool, began: float) -> MaintainReport:
        """Return what the steps did since ``began``, a monotonic time in seconds."""
        return MaintainReport(
            ok=not self._problems,
            done=not self._stop(),
            took_s=round(time.monotonic() - began, 3),
            rows_dropped=self._dropped,
            app_rows_dropped=self._dropped_of_apps,
            merged=tuple(m for m in self._merged if m.slices or m.files_before > 1),
            snapshots_expired=self._expired,
            old_files_removed=self._old_files,
            orphans_found=self._orphans.found,
            orphans_removed=self._orphans.removed,
            alone=alone,
            files=count_files(self._lake),
            ledger_rows=ledger.dead_rows(self._lake.connection),
            slices=sum(p.slices for p in self._paces),
            longest_slice_s=round(max((p.longest_s for p in self._paces), default=0.0), 3),
            retries=self._lake.session.retries,
            problems=self._problems,
        )


def _opened(config: LakeConfig, now: Callable[[], int]) -> Lake:
    return Lake.open(config, now=now, lander=False, create=False)


def _drop_dead_claim_rows(pace: Pace) -> None:
    """Remove the dead rows that updates of claims leave in the catalog, as land does for the ledger."""
    if pace.stopped or ledger.dead_rows(pace.lake.connection, JOB_CLAIMS) < _DEAD_CLAIMS:
        return
    if cause := pace.lake.shed(JOB_CLAIMS, pace.run):
        log.warning("claims_not_shed", cause=cause)  # the next run does it; the clean-up need not wait
