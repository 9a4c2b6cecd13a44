"""Runs the detectors again over landed data: from when on they can judge, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from schemas.alerts import Alert
from schemas.errors import SettingsError
from warehouse.query.readonly import ReadOnlyLake

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


def judge_again(
    lake: ReadOnlyLake,
    rules: Mapping[str, Mapping[str, Any]],
    begin: int,
    until: int,
    *,
    progress: Callable[[int], None] = lambda positions: None,
    total: Callable[[int], None] = lambda positions: None,
) -> list[Alert]:
    """Return every alert of what came between two moments (µs UTC), in the order in which they were raised.

    Args:
        lake: that is read.
        rules: detector -> field -> value of what differs from the defaults.
        begin: with the time in which the detectors learn.
        until: and no later.
        progress: called with the positions that were judged, now and then.
        total: called once with the positions that there are.

    Raises:
        SettingsError: a rule names a detector or a field that is not there.
    """
    from pipelines.detect import backtest
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge

    judge = Judge(configure(rules))
    found = backtest.stretches(lake.query, since=begin, until=until)
    total(sum(s.upto - s.first for s in found))
    return list(backtest.judge(lake.query, found, judge, progress=progress))
