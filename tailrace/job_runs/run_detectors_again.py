"""Runs the detectors again over landed data: from when on they can judge, and what they find."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from schemas.alerts import Alert
from schemas.errors import SettingsError
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

if TYPE_CHECKING:
    from pipelines.detect.backtest import OffsetRange

MANY_ROWS = 500_000
"""Rows of rollups from which on further processes are worth their start."""
_MINUTE_US = 60_000_000
_ROWS = """
SELECT count(*) AS rows FROM rollups
WHERE epoch_us(_kafka_time) >= $1 AND epoch_us(_kafka_time) < $2 AND day BETWEEN $3 AND $4 AND "key" <> '*'
"""


def beginning(lake: ReadOnlyLake, first: int, warm_up: int, option: str = "--from") -> int:
    """Return the start of the judged period (µs UTC): not before the oldest tick that is kept.

    Args:
        lake: that is read.
        first: of what is asked for, µs UTC.
        warm_up: when learning should begin, µs UTC.
        option: that names ``first``, for the error.

    Raises:
        SettingsError: the ticks of the first moment that is asked for are deleted.
    """
    from pipelines.detect import backtest

    rollup, tick = backtest.firsts(lake.query)
    if rollup is None or tick is None or rollup > tick - _MINUTE_US:
        return max(warm_up, 0)
    if first < tick - _MINUTE_US:
        at = datetime.fromtimestamp(tick / 1e6, UTC)
        raise SettingsError(option, f"ticks are kept from {at:%Y-%m-%dT%H:%M:%SZ} on", "name that time, or a later one")
    return max(warm_up, tick)


def rollup_rows(lake: ReadOnlyLake, begin: int, until: int) -> int:
    """Return the rows of rollups that came between two moments (µs UTC): what a back-test costs."""
    days = [datetime.fromtimestamp(at / 1e6, UTC).date() for at in (begin, until)]
    return int(lake.query(_ROWS, [begin, until, *days]).to_pylist()[0]["rows"])


def processes_for(rows: int) -> int:
    """Return how many processes to judge ``rows`` rows of rollups with: one a core, where there is much to judge."""
    return (os.cpu_count() or 1) if rows > MANY_ROWS else 1


def run_detectors_again(
    lake: ReadOnlyLake,
    rules: Mapping[str, Mapping[str, Any]],
    begin: int,
    until: int,
    *,
    progress: Callable[[int], None] = lambda positions: None,
    total: Callable[[int], None] = lambda positions: None,
    processes: int = 0,
) -> list[Alert]:
    """Return every alert of what came between two moments (µs UTC), in the order in which they were raised.

    Args:
        lake: that is read.
        rules: detector -> field -> value of what differs from the defaults.
        begin: with the time in which the detectors learn.
        until: and no later.
        progress: called with the positions that were judged, now and then.
        total: called once with the positions that there are.
        processes: that judge partitions side by side; 0: ``processes_for`` the rows that the lake has.

    Raises:
        SettingsError: a rule names a detector or a field that is not there.
    """
    from pipelines.detect import backtest
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge

    judge = Judge(configure(rules))
    found = backtest.ranges(lake.query, since=begin, until=until)
    positions = sum(s.upto - s.first for s in found)
    total(positions)
    partitions = [list(each) for _, each in groupby(found, lambda s: s.partition)]
    workers = min(processes or processes_for(rollup_rows(lake, begin, until)), len(partitions))
    if workers < 2 or lake.config is None:
        return list(backtest.judge(lake.query, found, judge, progress=progress))
    return _judge_side_by_side(lake.config, rules, partitions, workers, progress)


def _judge_side_by_side(
    config: LakeConfig,
    rules: Mapping[str, Mapping[str, Any]],
    partitions: Sequence[Sequence[OffsetRange]],
    workers: int,
    progress: Callable[[int], None],
) -> list[Alert]:
    """Judge each partition in one of ``workers`` processes.

    Each has a state of its own, and what has landed does not change: other connections read the same.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_end_with_parent) as pool:
        work = {pool.submit(_judged, config, rules, each): each for each in partitions}
        for done in as_completed(work):
            done.result()
            progress(sum(s.upto - s.first for s in work[done]))
        return [alert for each in work for alert in each.result()]


def _judged(config: LakeConfig, rules: Mapping[str, Mapping[str, Any]], found: Sequence[OffsetRange]) -> list[Alert]:
    from pipelines.detect import backtest
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge

    with ReadOnlyLake.open(config) as lake:
        return list(backtest.judge(lake.query, found, Judge(configure(rules))))


def _end_with_parent() -> None:
    """End at once with the command, also where it is killed: those of a pool would wait for work and never end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
