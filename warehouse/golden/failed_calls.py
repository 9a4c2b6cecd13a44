"""The failures in production: calls with a reason, the most severe of every kind first, bounded in number and in bytes.

Sources are the call itself, feedback of people, scores, and drift alerts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

from warehouse.golden.failure_queries import CALLS, CHOSEN, SIZES, STEPS, STRATA, WHOLE

Row = dict[str, Any]
MOST_BYTES = 64 << 20
"""Of the calls that are read whole."""
PER_STRATUM = 2_000
"""Most calls read from one stratum: an outage can produce a million similar failures."""
FEATURES = 20
"""Of an app, those that most calls failed in: strata of their own. Others share one: a feature may be an id."""
_LATE = timedelta(days=30)
"""Longest time after a call at which feedback and scores are still matched to it."""
_START = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Window:
    """Calls that began and feedback that was given from ``since`` until before ``until``, µs UTC."""

    since: int
    until: int


@dataclass(frozen=True)
class Criteria:
    """What a failure is. Names of environments, finish reasons and words are in lower case."""

    kinds: Sequence[str]
    """Reasons, the most severe first."""
    refused: Sequence[str] = ()
    """Finish reasons that mean a refusal."""
    truncated: Sequence[str] = ()
    """The same."""
    envs: Sequence[str] = ()
    """Only these environments; empty: all, and calls that name none."""
    not_envs: Sequence[str] = ()
    """None of these."""
    low_scores: Mapping[str, float] = field(default_factory=dict)
    """Scorer -> below what its score is a failure. Scores of others are below 0.5, where they are in 0..1."""
    low_is_good: Sequence[str] = ()
    """Words in the names of scorers whose scores, and whose ``no``, are never a failure."""
    high_is_good: Sequence[str] = ()
    """Words in the names of scorers that are none of those, with any other words in the name."""
    healthy: int = 0
    """About twice this number of calls without a reason is drawn by the hash of their ids, with reason ``healthy``."""


@dataclass(frozen=True)
class Failures:
    """Calls that failed in a window."""

    found: int
    """All of them; healthy ones are not among them."""
    calls: list[Row]
    """Of them those that come first, whole, with ``reasons`` in any order, the user's ``edited`` answer, and
    ``stratum_feature``: the feature, or ``*`` for all in which few calls failed."""


def failures(
    connection: duckdb.DuckDBPyConnection,
    window: Window,
    criteria: Criteria,
    *,
    seed: int,
    most: int,
    most_bytes: int = MOST_BYTES,
) -> Failures:
    """Return the calls that failed in ``window``, first the most severe of each stratum, then the next of each.

    A stratum is an app, a feature and a kind of reason. Feedback on a call counts by its own time; the call may be 30
    days older. It is found by its id, else by the id of the response, else as the last call of the trace at that time.

    Args:
        connection: in the caller's transaction, which it does not end.
        window: where to look.
        criteria: what for.
        seed: draws among calls of equal severity.
        most: calls to read whole.
        most_bytes: the same in bytes; at least one call is read.
    """
    first, last = _day(window.since, -1), _day(window.until, 1)  # the day of a row is its call's, or a neighbour's
    asked = {
        **{"before": first - _LATE, "first": first, "last": last, "since": window.since, "until": window.until},
        **{name: list(getattr(criteria, name)) for name in ("kinds", "refused", "truncated", "envs", "not_envs")},
        **{"scorers": list(criteria.low_scores), "thresholds": list(criteria.low_scores.values())},
        **{name: list(getattr(criteria, name)) for name in ("low_is_good", "high_is_good")},
        **{"seed": str(seed), "features": FEATURES, "most": most},
    }
    asked["healthy_below"] = _below(_execute(connection, CALLS, asked).fetchall()[0][0], criteria.healthy)
    for name, sql in STEPS.items():
        _execute(connection, f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}", asked)
    strata = _execute(connection, STRATA, asked).fetchall()
    sizes = [size for size, _ in strata]
    if not sizes:
        return Failures(0, [])
    asked["depth"] = min(PER_STRATUM, _depth(sizes, most))
    _execute(connection, CHOSEN, asked)
    asked["upto"] = _fitting(_execute(connection, SIZES, asked).fetchall(), most_bytes)
    return Failures(
        sum(n for n, failed in strata if failed), list(_execute(connection, WHOLE, asked).to_arrow_table().to_pylist())
    )


def _execute(connection: duckdb.DuckDBPyConnection, sql: str, asked: Mapping[str, object]) -> duckdb.DuckDBPyConnection:
    """Run ``sql`` with those of ``asked`` that it names: DuckDB refuses others."""
    return connection.execute(sql, {name: asked[name] for name in _NAME.findall(sql)})


def _below(calls: int, healthy: int) -> str:
    """Return the bound, 8 hex digits: a call is drawn as healthy where the hash of its id is below it."""
    share = min(1.0, 2 * healthy / calls) if calls else 0.0
    return "g" if share == 1.0 else f"{int(share * 0x100000000):08x}"


def _depth(sizes: Sequence[int], most: int) -> int:
    """Return how many of each stratum make up ``most``, or all: ranking more of them would have no effect."""
    depth = done = 0
    for rank, size in enumerate(sorted(sizes)):
        left = len(sizes) - rank
        if done + (size - depth) * left >= most:
            return depth - (done - most) // left
        done, depth = done + (size - depth) * left, size
    return depth


def _fitting(sizes: Sequence[tuple[int, int]], most_bytes: int) -> int:
    """Return the last place up to which the calls fit; the first fits always."""
    upto = total = 0
    for place, size in sizes:
        total += size
        if upto and total > most_bytes:
            break
        upto = place
    return upto


def _day(at: int, more: int) -> date:
    return (_START + timedelta(microseconds=at)).date() + timedelta(days=more)
