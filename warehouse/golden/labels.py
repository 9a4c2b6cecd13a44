"""Calls on which a person gave a thumb or wrote a better answer, with their texts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from warehouse.query.readonly import ReadOnlyLake

Row = dict[str, Any]
_LATE = timedelta(days=30)
"""Longest time after a call at which feedback is still matched to it."""
# by the id of the call, else by that of the response; feedback on a whole trace names no call
_LABELLED = """
WITH words AS (
    SELECT call_id, response_id, ts, id, kind, score, edited FROM feedback
    WHERE day BETWEEN $1 AND $3 AND ((kind = 'thumbs' AND score <> 0) OR (kind = 'edit' AND trim(edited) <> ''))
),
said AS (
    SELECT c.id, any_value(c.day) AS day,
        max_by(w.score, (w.ts, w.id)) FILTER (w.kind = 'thumbs') AS thumb,
        max_by(w.edited, (w.ts, w.id)) FILTER (w.kind = 'edit') AS edited
    FROM words AS w JOIN calls AS c ON coalesce(w.call_id = c.id, w.response_id = c.response_id)
    WHERE c.day BETWEEN $1 AND $2 AND ($4 IS NULL OR c.app = $4)
        AND c.content_mode IN ('full', 'redacted') AND c.op IS DISTINCT FROM 'embeddings'
        AND NOT list_contains($5::VARCHAR[], coalesce(lower(c.env), ''))
    GROUP BY c.id
)
SELECT c.id::VARCHAR AS call_id, c.ts, c.app, c.feature, c.model, c.prompt_name, c.prompt_version, c.system_text,
    c.messages, c.input_text, c.output_text, c.retrieval_docs, c.prompt_variables::VARCHAR AS variables, s.thumb,
    s.edited
FROM said AS s JOIN calls AS c ON c.id = s.id AND c.day = s.day
WHERE trim(c.input_text) <> ''
ORDER BY c.ts DESC, c.id LIMIT $6
"""
_CASES = """
SELECT case_id, call_id, messages, input_text FROM golden WHERE input_text IS NOT NULL ORDER BY set_name, case_id
"""


def labelled(
    lake: ReadOnlyLake, days: tuple[date, date], *, app: str | None, not_envs: tuple[str, ...], most: int
) -> list[Row]:
    """Return the newest labelled calls of ``days``, with ``thumb`` (-1 or 1) and the ``edited`` answer; None: neither.

    Args:
        lake: to read.
        days: first and last, UTC.
        app: only its calls; None: all.
        not_envs: environments to leave out, in lower case.
        most: calls.

    Raises:
        QueryFailedError: the texts are larger than an answer may be; ask for fewer.
    """
    first, last = days
    return list(lake.query(_LABELLED, [first, last, last + _LATE, app, list(not_envs), most]).to_pylist())


def golden_cases(lake: ReadOnlyLake) -> list[Row]:
    """Return the inputs of the cases of the newest version of each golden set."""
    return list(lake.query(_CASES).to_pylist())
