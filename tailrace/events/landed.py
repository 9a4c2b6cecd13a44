"""The rows of events in the lake: read by position, or followed as they land."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipelines.decode.aliases import suggestion
from pipelines.decode.reasons import CLOCK_SKEW, UNKNOWN_FIELD
from tailrace import wiring
from tailrace.settings.model import Settings
from tailrace.times import distance
from warehouse.errors import LakeMissingError, LakeUnavailableError
from warehouse.query.readonly import ReadOnlyLake

LOOK_EVERY_S = 0.3
# rows carry the time at which their batch was closed; they are seen when it commits, and another land may be faster
COMMIT_TAKES_US = 30_000_000
Position = tuple[int, int]
_LANDED = """
SELECT 'raw_calls' AS "table", CAST(id AS VARCHAR) AS id, _partition AS partition, _offset AS offset, app, model,
       input_tokens, output_tokens, CAST(cost_usd AS VARCHAR) AS cost_usd, cost_status,
       coalesce(status, 'ok') AS status, _dup AS duplicate, NULL AS reason, NULL AS detail, _flags AS flags,
       epoch_us(ts) AS event_time, epoch_us(_kafka_time) AS kafka_time, epoch_us(_landed_at) AS landed_at
  FROM raw_calls WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'raw_feedback', CAST(id AS VARCHAR), _partition, _offset, app, model, NULL, NULL, NULL, NULL, kind, _dup,
       NULL, NULL, _flags, epoch_us(ts), epoch_us(_kafka_time), epoch_us(_landed_at)
  FROM raw_feedback WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'raw_evals', CAST(id AS VARCHAR), _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, name, _dup,
       NULL, NULL, _flags, epoch_us(ts), epoch_us(_kafka_time), epoch_us(_landed_at)
  FROM raw_evals WHERE _landed_at >= make_timestamptz(?)
UNION ALL
SELECT 'dead', event_id, _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, 'dead', NULL, reason, detail,
       NULL, NULL, epoch_us(_kafka_time), epoch_us(_landed_at)
  FROM dead WHERE topic = 'llm.events' AND _landed_at >= make_timestamptz(?)
ORDER BY landed_at, partition, "offset"
"""
_BY_POSITION = """
WITH wanted AS (SELECT unnest(?::INTEGER[]) AS partition, unnest(?::BIGINT[]) AS "offset")
SELECT 'raw_calls' AS "table", CAST(id AS VARCHAR) AS id, _partition AS partition, _offset AS offset, app, model,
       input_tokens, output_tokens, CAST(cost_usd AS VARCHAR) AS cost_usd, cost_status, _dup AS duplicate,
       NULL AS reason, NULL AS detail, _flags AS flags
  FROM raw_calls JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'raw_feedback', CAST(id AS VARCHAR), _partition, _offset, app, model, NULL, NULL, NULL, NULL, _dup,
       NULL, NULL, _flags
  FROM raw_feedback JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'raw_evals', CAST(id AS VARCHAR), _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, _dup,
       NULL, NULL, _flags
  FROM raw_evals JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset"
UNION ALL
SELECT 'dead', event_id, _partition, _offset, app, NULL, NULL, NULL, NULL, NULL, NULL, reason, detail, NULL
  FROM dead JOIN wanted ON _partition = wanted.partition AND _offset = wanted."offset" WHERE topic = 'llm.events'
"""


class Look:
    """Looks into the lake again and again through one connection: opening one costs a tenth of a second of CPU."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake: ReadOnlyLake | None = None

    def rows(self, sql: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        """Return the rows of the newest snapshot; none while there is no lake yet, or it is locked."""
        try:
            if self._lake is None:
                self._lake = ReadOnlyLake.open(wiring.lake(self._settings))
            rows: list[dict[str, Any]] = self._lake.query(sql, parameters).to_pylist()
            if self._lake.of_a_copy:
                self.close()
            return rows
        except (LakeMissingError, LakeUnavailableError):
            self.close()
            return []

    def close(self) -> None:
        """Give the connection back; the next look opens another."""
        if self._lake is not None:
            self._lake.close()
            self._lake = None


def wait_for(settings: Settings, positions: set[Position], timeout_s: float) -> dict[Position, dict[str, Any]]:
    """Wait until all ``positions`` of llm.events have landed; return the rows of those that have when time is up."""
    deadline = time.monotonic() + timeout_s
    found: dict[Position, dict[str, Any]] = {}
    with contextlib.closing(Look(settings)) as look:
        while True:
            missing = sorted(positions - found.keys())
            rows = look.rows(_BY_POSITION, [[p for p, _ in missing], [o for _, o in missing]])
            found |= {(row.pop("partition"), row.pop("offset")): row for row in rows}
            if found.keys() >= positions or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_EVERY_S)


def follow(settings: Settings, *, since: int, until: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Yield rows that landed at ``since`` (µs UTC) or later, each once, in the order of landing."""
    shown: dict[tuple[str, Position], int] = {}
    with contextlib.closing(Look(settings)) as look:
        while not until():
            rows = look.rows(_LANDED, [since] * 4)
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
        least = "at least " if row.get("cost_status") == "partly_priced" else ""
        cost = "unpriced" if row["cost_usd"] is None else f"{least}${row['cost_usd']}"
        tokens = f"{_or_dash(row['input_tokens'])} -> {_or_dash(row['output_tokens'])} tokens"
        duplicate = "  DUPLICATE" if row["duplicate"] else ""
        text = f"call  {row['app']}  {row['model']}  {tokens}  {cost}  {row['status'] or 'ok'}{duplicate}"
    else:
        text = f"{row['table'].removeprefix('raw_')}  {_or_dash(row['app'])}  {row['status']}"
    text += unknown_fields(row) + far_clock(row)
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def unknown_fields(row: dict[str, Any]) -> str:
    """Return the part of a line about names that were not recognised as fields; empty where there were none."""
    kind = {"raw_feedback": "feedback", "raw_evals": "eval"}.get(row["table"], "call")
    flags = [flag for flag in row.get("flags") or () if flag.startswith(f"{UNKNOWN_FIELD}:")]
    return f"  UNKNOWN {', '.join(suggestion(flag, kind) for flag in flags)}" if flags else ""


def far_clock(row: dict[str, Any]) -> str:
    """Return what a row's flag ``clock_skew`` means; empty where its time is accepted."""
    if CLOCK_SKEW not in (row.get("flags") or ()):
        return ""
    apart = row["event_time"] - row["kafka_time"]
    side = "before" if apart < 0 else "ahead of"
    remedy = "; past events are sent with `emit --history`" if apart < 0 else ""
    return f"  CLOCK {distance(apart)} {side} its arrival: it counts on the day of arrival{remedy}"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
