"""What failed in production: calls with a reason, the gravest of every kind first, bounded in number and in bytes.

Over the public views: what a call says of itself, what people and scorers said of it, and what drift alerts show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

Row = dict[str, Any]
MOST_BYTES = 64 << 20
"""Of the calls that are read whole."""
PER_STRATUM = 2_000
"""Calls of one app, feature and first reason that are looked at, at most: an outage makes a million alike."""
_LATE = timedelta(days=30)
"""So long after a call feedback and scores are still matched to it."""
_START = datetime(1970, 1, 1, tzinfo=UTC)

# $1, $2: the window, µs; $3, $4: its days; $5: first day of calls that a late word may be about; $6: kinds of reasons,
# the gravest first; $7: seed; $8: most of a stratum; $9: most in all. Hashed texts can be no test, vectors have none.
_FAILED = """
WITH usable AS MATERIALIZED (
    SELECT id, ts, app, feature, trace_id, response_id, status, blocked_by, guardrail_triggered, refused, finish_reason
    FROM calls
    WHERE day >= $5 AND day <= $4 AND trim(input_text) <> '' AND content_mode IS DISTINCT FROM 'hashed'
        AND op IS DISTINCT FROM 'embeddings'
),
own AS (
    SELECT id, unnest([
        CASE WHEN guardrail_triggered THEN 'guardrail' END,
        CASE WHEN status = 'blocked' OR blocked_by IS NOT NULL THEN 'blocked' END,
        CASE WHEN status = 'error' THEN 'error' END,
        CASE WHEN refused THEN 'refused' END,
        CASE WHEN lower(finish_reason) IN ('length', 'max_tokens', 'max_output_tokens', 'model_length')
            THEN 'truncated' END
    ]) AS reason
    FROM usable WHERE ts >= make_timestamptz($1::BIGINT) AND ts < make_timestamptz($2::BIGINT)
),
said AS MATERIALIZED (
    SELECT call_id, response_id, trace_id, ts, id AS feedback_id,
        CASE kind WHEN 'thumbs' THEN 'thumbs_down' WHEN 'rating' THEN 'low_rating' ELSE 'edited' END AS reason
    FROM feedback
    WHERE day >= $3 AND day <= $4 AND ts >= make_timestamptz($1::BIGINT) AND ts < make_timestamptz($2::BIGINT)
        AND ((kind = 'thumbs' AND score < 0) OR (kind = 'rating' AND score < 0.5) OR (kind = 'edit' AND edited <> ''))
    UNION ALL
    SELECT call_id, response_id, trace_id, ts, NULL, 'low_score:' || name
    FROM evals
    WHERE day >= $3 AND day <= $4 AND ts >= make_timestamptz($1::BIGINT) AND ts < make_timestamptz($2::BIGINT)
        AND dataset IS NULL AND (score < 0.5 OR lower(label) IN ('fail', 'failed', 'false', 'no'))
),
of_response AS (
    SELECT response_id, first(id ORDER BY ts DESC, id DESC) AS id
    FROM usable WHERE response_id IN (SELECT response_id FROM said) GROUP BY response_id
),
of_trace AS (
    SELECT trace_id, first(id ORDER BY ts DESC, id DESC) AS id
    FROM usable WHERE trace_id IN (SELECT trace_id FROM said) GROUP BY trace_id
),
judged AS MATERIALIZED (
    SELECT coalesce(u.id, r.id, t.id) AS id, s.reason, s.ts, s.feedback_id
    FROM said AS s
    LEFT JOIN (SELECT DISTINCT id FROM usable) AS u ON u.id = s.call_id
    LEFT JOIN of_response AS r ON r.response_id = s.response_id
    LEFT JOIN of_trace AS t ON t.trace_id = s.trace_id
),
drifted AS (
    SELECT TRY_CAST(call_id AS UUID) AS id, 'drift' AS reason
    FROM (
        SELECT unnest(call_ids) AS call_id FROM alerts
        WHERE detector = 'drift' AND detected_at >= make_timestamptz($1::BIGINT)
            AND detected_at < make_timestamptz($2::BIGINT)
    )
),
weighed AS (
    SELECT id, list(reason ORDER BY weight DESC, reason) AS reasons, sum(weight)::BIGINT AS severity
    FROM (
        SELECT DISTINCT id, reason,
            1 + len($6::VARCHAR[]) - list_position($6::VARCHAR[], split_part(reason, ':', 1)) AS weight
        FROM (FROM own UNION ALL SELECT id, reason FROM judged UNION ALL FROM drifted)
        WHERE id IS NOT NULL AND reason IS NOT NULL
    )
    GROUP BY id
),
edits AS (
    SELECT id, first(feedback_id ORDER BY ts DESC, feedback_id DESC) AS edit_id
    FROM judged WHERE reason = 'edited' AND id IS NOT NULL GROUP BY id
),
drawn AS (
    SELECT w.id, w.reasons, w.severity, e.edit_id, u.app, u.feature, sha256($7 || '/' || w.id::VARCHAR) AS draw
    FROM weighed AS w
    JOIN (SELECT DISTINCT ON (id) id, app, feature FROM usable ORDER BY id, ts, app) AS u ON u.id = w.id
    LEFT JOIN edits AS e ON e.id = w.id
),
ranked AS (
    SELECT *, count(*) OVER () AS found,
        row_number() OVER (PARTITION BY app, feature, reasons[1] ORDER BY severity DESC, draw) AS nth
    FROM drawn
)
SELECT id::VARCHAR AS id, reasons, edit_id::VARCHAR AS edit_id, found,
    row_number() OVER (ORDER BY nth, severity DESC, draw) AS place
FROM ranked WHERE nth <= $8 ORDER BY place LIMIT $9
"""
# $1: first day of calls; $2, $3: days of words
_CHOSEN = """
FROM chosen AS w
JOIN calls AS c ON c.id = w.id::UUID AND c.day >= $1 AND c.day <= $3
LEFT JOIN feedback AS f ON f.id = w.edit_id::UUID AND f.day >= $2 AND f.day <= $3
"""
# first how large they are: an Arrow reader hands out 2,048 rows at a time, and one may be a quarter of a megabyte
_SIZES = (
    """
SELECT w.place, strlen(concat(c.system_text, c.messages::VARCHAR, c.input_text, c.output_text,
    c.retrieval_docs::VARCHAR, c.prompt_variables::VARCHAR, f.edited)) AS size
"""
    + _CHOSEN
    + "ORDER BY w.place"
)
_WHOLE = (
    """
SELECT c.id::VARCHAR AS call_id, c._epoch AS call_epoch, c._partition AS call_partition, c._offset AS call_offset,
    c.ts, c.app, c.feature, c.model, c.response_model, c.prompt_name, c.prompt_version, c.system_text, c.messages,
    c.input_text, c.output_text, c.retrieval_docs, c.prompt_variables::VARCHAR AS variables, w.reasons, f.edited
"""
    + _CHOSEN
    + "WHERE w.place <= $4 ORDER BY w.place, c._epoch, c._partition, c._offset"
)


@dataclass(frozen=True)
class Window:
    """What is looked at: calls that began, and words that were said, from ``since`` until before ``until``; µs UTC."""

    since: int
    until: int


@dataclass(frozen=True)
class Failures:
    """Calls that failed in a window."""

    found: int
    """All of them."""
    calls: list[Row]
    """Of them those that come first, whole, with ``reasons`` and the user's ``edited`` answer."""


def failures(
    connection: duckdb.DuckDBPyConnection,
    window: Window,
    *,
    kinds: Sequence[str],
    seed: int,
    most: int,
    most_bytes: int = MOST_BYTES,
) -> Failures:
    """Return the calls that failed in ``window``, first the gravest of each stratum, then the next of each, and so on.

    A word on a call counts by its own time; the call may be 30 days older. It is found by its id, else by the id of
    the response, else as the last call of the trace.

    Args:
        connection: in the caller's transaction, which it does not end.
        window: where to look.
        kinds: of reasons, the gravest first.
        seed: draws among calls that are equally grave.
        most: calls to read whole.
        most_bytes: the same in bytes; one call is read whatever it weighs.
    """
    first, last = _day(window.since, -1), _day(window.until, 1)  # the day of a row is its call's, or a neighbour's
    before = first - _LATE
    bounds = [window.since, window.until, first, last, before]
    chosen = connection.execute(_FAILED, [*bounds, list(kinds), str(seed), PER_STRATUM, most]).to_arrow_table()
    if not chosen.num_rows:
        return Failures(0, [])
    connection.register("chosen", chosen)
    days = [before, first, last]
    upto = _fitting(connection.execute(_SIZES, days).fetchall(), most_bytes)
    calls = connection.execute(_WHOLE, [*days, upto]).to_arrow_table().to_pylist()
    connection.unregister("chosen")
    return Failures(int(chosen["found"][0].as_py()), list(calls))


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
