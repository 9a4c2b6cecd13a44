"""Ids as people give them: whole, or any prefix that only one has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from schemas.errors import FatalError, RetryableError
from tailrace.cli.render.printable import printable
from warehouse.query.readonly import ReadOnlyLake

_MOST = 10
"""Candidates that are listed."""
_ALERTS = """
SELECT id, arg_max(title, seq) AS note FROM alerts WHERE starts_with(id, $1) GROUP BY id
ORDER BY (id = $1) DESC, max(detected_at) DESC LIMIT $2
"""
_DIGESTS = """
SELECT DISTINCT alert_id AS id, '' AS note FROM deliveries
WHERE starts_with(alert_id, $1) AND alert_id IN (SELECT digest FROM deliveries) LIMIT $2
"""
_SILENCES = """
SELECT silence_id AS id, matchers AS note FROM silences WHERE starts_with(silence_id, $1)
ORDER BY (silence_id = $1) DESC, logged_at DESC LIMIT $2
"""
# a range of the id itself, so that files whose ids lie elsewhere are not read
_CALLS = """
SELECT id::VARCHAR AS id, concat_ws('  ', ts::VARCHAR, app, model) AS note FROM raw_calls
WHERE id BETWEEN $1::UUID AND $2::UUID AND NOT coalesce(_dup, false) GROUP BY ALL ORDER BY id LIMIT $3
"""
_DEAD = """
SELECT event_id, reason, detail, format('{}@{}', _partition, _offset) AS position
FROM dead WHERE topic = 'llm.events' AND starts_with(lower(event_id), $1)
ORDER BY _landed_at DESC LIMIT 1
"""


class AmbiguousIdError(FatalError):
    """A prefix that several ids have."""

    def __init__(self, kind: str, prefix: str, rows: Sequence[dict[str, Any]]) -> None:
        listed = "".join(f"\n  {printable(row['id'])}  {printable(row['note'])[:60]}" for row in rows[:_MOST])
        more = "\n  ..." if len(rows) > _MOST else ""
        super().__init__(f"{printable(prefix)} is the beginning of several {kind}s; give more of the id:{listed}{more}")


class NotLandedError(RetryableError):
    """No such id in the lake, or not yet."""

    def __init__(self, kind: str, prefix: str, where: str) -> None:
        super().__init__(f"no {kind} {printable(prefix)} has landed; see {where}")


class DeadEventError(FatalError):
    """The event is in the lake, but it did not fit."""

    def __init__(self, row: dict[str, Any]) -> None:
        why = f"{row['reason']}, {row['detail']}" if row["detail"] else row["reason"]
        more = f"`tailrace dead explain {row['position']}` shows more"
        super().__init__(f"event {printable(row['event_id'])} is dead: {printable(why)}; {more}")


def alert_id(lake: ReadOnlyLake, prefix: str) -> str:
    """Return the id of the alert that ``prefix`` names.

    Raises:
        AmbiguousIdError: several begin so.
        NotLandedError: none does.
    """
    rows = lake.query(_ALERTS, [prefix.strip().lower(), _MOST + 1]).to_pylist()
    return _only("alert", prefix, rows, "`tailrace alerts list`")


def digest_ids(lake: ReadOnlyLake, prefix: str) -> list[str]:
    """Return the ids of digests that begin with ``prefix``."""
    return [row["id"] for row in lake.query(_DIGESTS, [prefix.strip().lower(), _MOST]).to_pylist()]


def silence_id(lake: ReadOnlyLake, prefix: str) -> str:
    """Return the id of the silence that ``prefix`` names.

    Raises:
        AmbiguousIdError: several begin so.
        NotLandedError: none does.
    """
    rows = lake.query(_SILENCES, [prefix.strip().lower(), _MOST + 1]).to_pylist()
    return _only("silence", prefix, rows, "`tailrace alerts silences --all`")


def call_id(lake: ReadOnlyLake, prefix: str) -> str:
    """Return the id of the call that ``prefix`` names: hexadecimal digits, with or without the dashes.

    Raises:
        AmbiguousIdError: several begin so.
        DeadEventError: none does, but a dead event does.
        NotLandedError: none does, or it is no beginning of an id.
    """
    where = '`tailrace sql "SELECT id, ts, app FROM calls ORDER BY ts DESC LIMIT 10"`'
    given = prefix.strip().lower()
    digits = given.replace("-", "")
    rows: list[dict[str, Any]] = []
    if re.fullmatch(r"[0-9a-f]{1,32}", digits):
        span = [digits.ljust(32, "0"), digits.ljust(32, "f")]
        rows = lake.query(_CALLS, [*span, _MOST + 1]).to_pylist()
    if not rows and given:
        for dead in lake.query(_DEAD, [given]).to_pylist():
            raise DeadEventError(dead)
    return _only("call", prefix, rows, where)


def _only(kind: str, prefix: str, rows: Sequence[dict[str, Any]], where: str) -> str:
    if not rows:
        raise NotLandedError(kind, prefix, where)
    first = str(rows[0]["id"])
    if len(rows) > 1 and first != prefix.strip().lower():
        raise AmbiguousIdError(kind, prefix, rows)
    return first
