"""Remove the rows of a person while the lake lands. Safe to kill anywhere: run it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from schemas.errors import RetryableError
from warehouse.forget import ErasureReport, Who, forget
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.storage.locks import upkeep
from warehouse.upkeep import Pace

log = structlog.get_logger(__name__)
_LOOK_S = 0.2


class UpkeepRunsError(RetryableError):
    """Maintain or compact works on the files of this lake, and did not end in time."""

    def __init__(self, catalog: str, wait_s: float) -> None:
        super().__init__(f"maintain works on lake {catalog} for over {wait_s:.0f} s; run it again when that has ended")


def run(
    config: LakeConfig,
    who: Who,
    *,
    now: Callable[[], int],
    slice_s: float = 0.2,
    memory_limit: str = "512MiB",
    wait_s: float = 300.0,
) -> ErasureReport:
    """Remove the rows of ``who`` from the lake of ``config``.

    Args:
        config: where it is.
        who: ids in all their forms.
        now: wall clock, µs UTC.
        slice_s: how long land is kept waiting at a time.
        memory_limit: of DuckDB.
        wait_s: how long to wait for a maintain that runs.

    Raises:
        LakeMissingError: no lake there.
        UpkeepRunsError: a maintain did not end in time.
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog does not answer, or the disk is full.
    """
    limited = replace(config, memory_limit=memory_limit, threads=1)
    with Lake.open(limited, now=now, lander=False, create=False) as lake, _alone(config, wait_s):
        done = forget(Pace(lake, slice_s=slice_s), who, at=datetime.fromtimestamp(now() / 1e6, UTC))
    log.info("forgotten", rows=sum(done.rows.values()), done=done.done)
    return done


@contextmanager
def _alone(config: LakeConfig, wait_s: float) -> Iterator[None]:
    """Hold the upkeep lock: on a SQLite catalog two processes that rewrite files block each other."""
    end = time.monotonic() + wait_s
    while config.on_sqlite:
        with upkeep(config.catalog) as alone:
            if alone:
                yield
                return
        if time.monotonic() >= end:
            raise UpkeepRunsError(config.name, wait_s)
        time.sleep(_LOOK_S)
    yield
