"""What became of events: rows of the lake as they land, asked for by position or followed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from tailrace import wiring
from tailrace.settings import Settings
from warehouse.errors import LakeMissingError, LakeUnavailableError
from warehouse.readonly import ReadOnlyLake

LOOK_EVERY_S = 0.3
# rows carry the time at which their batch was closed; they are seen when it commits, and another land may be faster
COMMIT_TAKES_US = 30_000_000
Position = tuple[int, int]
_LANDED = """
SELECT 'raw_calls' AS "table", CAST(id AS VARCHAR) AS id, _partition AS partition, _offset AS offset, app, model,
       input_tokens, output_tokens, CAST(cost_usd AS VARCHAR) AS cost_usd, cost_status, status, _dup AS duplicate,
       NULL AS reason, NULL AS detail, epoch_us(_landed_at) AS landed_at
  FROM raw_calls WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'raw_feedback', CAST(id AS VARCHAR), _partition, _offset, app, model, NULL, NULL, NULL, NULL, kind, _dup,
       NULL, NULL, epoch_us(_landed_at)
  FROM raw_feedback WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'raw_evals', CAST(id AS VARCHAR), _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, name, _dup,
       NULL, NULL, epoch_us(_landed_at)
  FROM raw_evals WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'dead', event_id, _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, 'dead', NULL, reason, detail,
       epoch_us(_landed_at)
  FROM dead WHERE topic = 'llm.events' AND _landed_at >= make_timestamptz(?)
ORDER BY landed_at, partition, "offset"
"""
_BY_POSITION = """
WITH wanted AS (SELECT unnest(?::INTEGER[]) AS partition, unnest(?::BIGINT[]) AS "offset")
SELECT 'raw_calls' AS "table", CAST(id AS VARCHAR) AS id, _partition AS partition, _offset AS offset, app, model,
       input_tokens, output_tokens, CAST(cost_usd AS VARCHAR) AS cost_usd, cost_status, _dup AS duplicate,
       NULL AS reason, NULL AS detail
  FROM raw_calls JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'raw_feedback', CAST(id AS VARCHAR), _partition, _offset, app, model, NULL, NULL, NULL, NULL, _dup, NULL, NULL
  FROM raw_feedback JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'raw_evals', CAST(id AS VARCHAR), _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, _dup, NULL, NULL
  FROM raw_evals JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'dead', event_id, _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, NULL, reason, detail
  FROM dead JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset" WHERE topic = 'llm.events'
"""


def by_position(settings: Settings, positions: set[Position]) -> dict[Position, dict[str, Any]]:
    """Return the rows that stand at ``positions`` of llm.events; what has not landed is left out."""
    lake = ReadOnlyLake.open(wiring.lake(settings))
    try:
        ordered = sorted(positions)
        rows = lake.query(_BY_POSITION, [[p for p, _ in ordered], [o for _, o in ordered]]).to_pylist()
    finally:
        lake.close()
    return {(row.pop("partition"), row.pop("offset")): row for row in rows}


def wait_for(settings: Settings, positions: set[Position], timeout_s: float) -> dict[Position, dict[str, Any]]:
    """Wait until all ``positions`` have landed; return those that have when the time is up."""
    deadline = time.monotonic() + timeout_s
    found: dict[Position, dict[str, Any]] = {}
    while True:
        with contextlib.suppress(LakeMissingError, LakeUnavailableError):  # land has not made it yet, or it is locked
            found |= by_position(settings, positions - found.keys())
        if found.keys() >= positions or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_EVERY_S)


def follow(settings: Settings, *, since: int, until: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Yield rows that landed at ``since`` (µs UTC) or later, each once, in the order of landing."""
    shown: dict[tuple[str, Position], int] = {}
    while not until():
        try:
            lake = ReadOnlyLake.open(wiring.lake(settings))
            try:
                rows = lake.query(_LANDED, [since] * 4).to_pylist()
            finally:
                lake.close()
        except (LakeMissingError, LakeUnavailableError):  # land has not made it yet, or it is locked
            rows = []
        for row in rows:
            key = (row["table"], (row["partition"], row["offset"]))
            if key not in shown:
                shown[key] = row["landed_at"]
                yield row
        if rows:
            since = max(since, rows[-1]["landed_at"] - COMMIT_TAKES_US)
            shown = {key: landed_at for key, landed_at in shown.items() if landed_at >= since}
        time.sleep(LOOK_EVERY_S)


def line(row: dict[str, Any]) -> str:
    """Return one row for a person's terminal: no control characters of strangers get through."""
    if row["table"] == "dead":
        text = f"DEAD  {row['reason']}  {row['detail'] or ''}  (partition {row['partition']}, offset {row['offset']})"
    elif row["table"] == "raw_calls":
        cost = "unpriced" if row["cost_usd"] is None else f"${row['cost_usd']}"
        tokens = f"{_or_dash(row['input_tokens'])} -> {_or_dash(row['output_tokens'])} tokens"
        duplicate = "  DUPLICATE" if row["duplicate"] else ""
        text = f"call  {row['app']}  {row['model']}  {tokens}  {cost}  {row['status'] or 'ok'}{duplicate}"
    else:
        text = f"{row['table'].removeprefix('raw_')}  {_or_dash(row['app'])}  {row['status']}"
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
